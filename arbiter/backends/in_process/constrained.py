"""JSON of models in process that fits a schema: a mask over the tokens of a row. Needs the extra ``structured``.

JSON is written on one line, with a blank after each comma and colon. The grammar of a schema may allow more than the
schema: keywords that llguidance does not know are left out. So what is written is still to be validated.
"""

import logging
from functools import cached_property, lru_cache
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from arbiter.backends.token_texts import TokenTexts
from arbiter.protocols.errors import BackendError

log = logging.getLogger("arbiter.backends")

_GRAMMARS = 32
_OPTIONS: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
_SILENT = 0


class TokenMask:
    """What the next token of a row may be. ``matcher`` belongs to this row alone."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self, logits: Tensor) -> Tensor:
        """Return the logits of one token, ``[vocabulary]``, with minus infinity for each token that is not allowed.

        Raises ``BackendError`` if the grammar is too complex for its limits.
        """
        bits = torch.frombuffer(bytearray(self._matcher.compute_bitmask()), dtype=torch.uint8)
        if self._matcher.is_error():
            raise BackendError(f"the constraint cannot be enforced: {self._matcher.get_error()}")
        known = ((bits[:, None] >> torch.arange(8)) & 1).flatten()[: len(logits)].bool()
        mask = torch.zeros(len(logits), dtype=torch.bool)  # tokens beyond the tokenizer's are not allowed
        mask[: len(known)] = known
        return logits.masked_fill(~mask.to(logits.device), -torch.inf)

    def take(self, token: int) -> bool:
        """Note the next token. Return True if nothing can follow it. Raises ``BackendError`` if it was not allowed."""
        if not self._matcher.consume_token(token):
            raise BackendError(f"the constraint cannot be enforced: {self._matcher.get_error()}")
        return self._matcher.is_stopped()


class Constraints:
    """Makes the masks of a model with the tokenizer ``texts``, whose answers end at one of ``ends``."""

    def __init__(self, name: str, texts: TokenTexts, ends: frozenset[int]) -> None:
        self._name = name
        self._texts = texts
        self._ends = ends
        self._grammar = lru_cache(_GRAMMARS)(self._compiled)

    def mask(self, schema: str) -> TokenMask | None:
        """Return the mask at the beginning of JSON that fits ``schema``, which is JSON text.

        None, and a warning once, if no grammar can be made of the schema. Raises ``BackendError`` if none can be made
        for the tokenizer.
        """
        grammar = self._grammar(schema)
        return None if grammar is None else TokenMask(grammar.deep_copy())

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        text = self._texts.as_json
        if text is None:
            raise BackendError(
                f"{self._name} cannot be constrained: its tokenizer has no tokenizer.json. Serve it with an engine "
                'that constrains, with backend = "http"'
            )
        return LLTokenizer(text, eos_token=sorted(self._ends) or None)

    def _compiled(self, schema: str) -> LLMatcher | None:
        tokenizer = self._tokenizer
        try:
            anything = schema.strip() == "true"
            grammar = LLMatcher.grammar_from_json_schema("{}" if anything else schema, overrides=_OPTIONS)
        except ValueError as error:
            reason = str(error)
        else:
            matcher = LLMatcher(tokenizer, grammar, log_level=_SILENT)
            if not matcher.is_error():
                return matcher
            reason = matcher.get_error()
        lines = reason.strip().splitlines()
        log.warning("%s writes without a constraint, and its answers are only checked: %s", self._name, lines[-1])
        return None
