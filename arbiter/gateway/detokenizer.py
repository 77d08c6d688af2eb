"""Decode prompts that are token ids."""

from collections.abc import Sequence
from typing import Protocol

import anyio
import anyio.to_thread

from arbiter.backends.tokenizers import read_tokenizer
from arbiter.config.model_tables import AnyModelTable, InProcessTable
from arbiter.protocols.errors import ConfigError, RequestError


class Decoder(Protocol):
    """The part of a tokenizer that decodes token ids."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        """Return the token of each id; None for an id that the tokenizer does not have."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Return the text of the tokens."""
        ...


class Detokenizer:
    """Decode token ids with the draft's tokenizer, which is loaded at the first use."""

    def __init__(self, draft: AnyModelTable | None) -> None:
        self._draft = draft
        self._tokenizer: Decoder | None = None
        self._reading = anyio.Lock()

    async def text(self, tokens: Sequence[int]) -> str:
        """Return the text of ``tokens``, without special tokens.

        Raises ``RequestError`` if the tokenizer is unknown or cannot be loaded, or if it does not have these tokens.
        """
        async with self._reading:
            tokenizer = self._tokenizer or await self._read()
            self._tokenizer = tokenizer
        try:
            return await anyio.to_thread.run_sync(_decoded, tokenizer, list(tokens))
        except Exception as error:  # tokenizers raise different errors for ids that they do not have
            raise RequestError(
                f"prompt: not valid token ids of the draft: {error}", code="invalid_value", param="prompt"
            ) from error

    async def _read(self) -> Decoder:
        try:
            return await anyio.to_thread.run_sync(read_tokenizer, self._name(), "prompt", "send texts")
        except ConfigError as error:
            raise RequestError(str(error), code="unsupported_parameter", param="prompt") from error

    def _name(self) -> str:
        draft = self._draft
        name = draft and (draft.tokenizer or (draft.model if isinstance(draft, InProcessTable) else None))
        if not name:
            raise RequestError(
                "prompt: token ids cannot be decoded because the draft's tokenizer is unknown: send texts, or set "
                "models.draft.tokenizer in the server's configuration",
                code="unsupported_parameter",
                param="prompt",
            )
        return name


def _decoded(tokenizer: Decoder, tokens: list[int]) -> str:
    """Return the text. Raises ``ValueError`` for an id that the tokenizer does not have: ``decode`` would drop it."""
    for token, found in zip(tokens, tokenizer.convert_ids_to_tokens(tokens), strict=True):
        if found is None:
            raise ValueError(f"there is no token {token}")
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
