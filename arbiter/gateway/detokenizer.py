"""Prompts that are token ids, as text."""

from collections.abc import Sequence
from typing import Protocol

import anyio
import anyio.to_thread

from arbiter.backends.tokenizers import read_tokenizer
from arbiter.config.model_tables import AnyModelTable, InProcessTable
from arbiter.protocols.errors import ConfigError, RequestError


class Decoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        """Their text."""
        ...


class Detokenizer:
    """Turns token ids of the draft's tokenizer into text; the tokenizer is read when it is first needed."""

    def __init__(self, draft: AnyModelTable | None) -> None:
        self._draft = draft
        self._tokenizer: Decoder | None = None
        self._reading = anyio.Lock()

    async def text(self, tokens: Sequence[int]) -> str:
        """The text of ``tokens``, without the tokens that mark its beginning and end.

        Raises ``RequestError`` if the tokenizer is not known here, or has no such tokens.
        """
        async with self._reading:
            tokenizer = self._tokenizer or await self._read()
            self._tokenizer = tokenizer
        try:
            return await anyio.to_thread.run_sync(tokenizer.decode, tokens, True)
        except Exception as error:  # whatever a tokenizer makes of numbers that it does not have
            raise RequestError(
                f"prompt: these are no tokens of the draft: {error}", code="invalid_value", param="prompt"
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
                "prompt: token ids cannot be read, since the draft's tokenizer is not known here: send texts, or have "
                "models.draft.tokenizer set",
                code="unsupported_parameter",
                param="prompt",
            )
        return name
