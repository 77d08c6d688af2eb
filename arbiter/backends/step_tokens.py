"""Read the tokens of a step: find where it ends, and how much of a proposal the model agrees with.

Pure functions, used for models in process and for served models.
"""

from collections.abc import Container, Sequence, Set
from typing import Protocol

from arbiter.backends.token_texts import TokenTexts
from arbiter.protocols.records import PrefixMatch, StopReason
from arbiter.structured.partial_marks import settled

_JOIN = 5  # tokens of a context before the step when it is decoded
UNFINISHED = "\ufffd"
"""Stands for bytes that are no whole character."""


class TokenDecoder(Protocol):
    """Turns tokens into text, without special tokens."""

    def decode(self, tokens: Sequence[int]) -> str: ...


class SeparatorTokens(Container[object]):
    """The tokens that may complete ``separator``: all others cannot, whatever the tokens before them are."""

    def __init__(self, decoder: TokenDecoder, separator: str) -> None:
        self._decoder = decoder
        self._last = separator[-1]
        self._known: dict[object, bool] = {}

    def __contains__(self, token: object) -> bool:
        found = self._known.get(token)
        if found is None:
            assert isinstance(token, int)  # noqa: S101 - tokens are numbers
            # twice, because some tokenizers drop a space at the beginning of a text
            text = self._decoder.decode([token, token])
            found = self._known[token] = self._last in text or UNFINISHED in text
        return found


class _AllTokens(Container[object]):
    def __contains__(self, token: object) -> bool:
        return True


class StepTokens:
    """The tokens of one step so far. Once it has ended, ``ending`` is the stop reason and ``text`` its text.

    ``overrun`` is the text that the last token adds after the separator.

    The step ends at a token of ``ends``, at ``separator`` (which may begin and end inside tokens), or with token
    number ``room``. ``completing`` has all tokens that may complete the separator; by default all tokens may.
    """

    def __init__(
        self,
        decoder: TokenDecoder,
        separator: str,
        ends: Set[int],
        room: int,
        completing: Container[object] = _AllTokens(),
    ) -> None:
        self._decoder = decoder
        self._separator = separator
        self._ends = ends
        self._completing = completing
        self.room = room
        self.tokens: list[int] = []
        self.ending: StopReason | None = None
        self.text = ""
        self.overrun = ""

    @property
    def settled_text(self) -> str:
        """The beginning of the step's text that is known: without half a character, or the beginning of a separator."""
        return settled(self._decoded(self.tokens).rstrip(UNFINISHED), (self._separator,))

    def take(self, tokens: Sequence[int]) -> bool:
        """Append tokens up to the end of the step. Return True if they end it. After the end, nothing is appended."""
        if self.ending is not None:
            return False
        for token in tokens:
            self.tokens.append(token)
            if self._ended(token):
                return True
        return False

    def close(self, ending: StopReason) -> None:
        """End the step with the stop reason that the model reports, without looking at the tokens."""
        self.ending, self.text = ending, self._decoded(self.tokens)

    def _ended(self, token: int) -> bool:
        if token in self._ends:
            self.ending, self.text = "end", self._decoded(self.tokens[:-1])
        # each token has at least one byte, so a separator that ends here is within that tail
        elif token in self._completing and self._separator in self._decoded(
            self.tokens[-len(self._separator.encode()) :]
        ):
            self.ending = "separator"
            self.text, _, self.overrun = self._decoded(self.tokens).partition(self._separator)
        elif len(self.tokens) == self.room:
            self.close("limit")
        return self.ending is not None

    def _decoded(self, tokens: list[int]) -> str:
        return self._decoder.decode(tokens)


class ContextDecoder:
    """Decodes tokens with the end of a context before them: some tokenizers drop a space at the beginning of a text."""

    def __init__(self, texts: TokenDecoder, context: Sequence[int]) -> None:
        self._texts = texts
        self._before = context[-_JOIN:]  # as servers do
        self._skipped = len(texts.decode(self._before))

    def decode(self, tokens: Sequence[int]) -> str:
        return self._texts.decode([*self._before, *tokens])[self._skipped :]


def proposed_tokens(texts: TokenTexts, text: str, ending: StopReason, separator: str, room: int) -> list[int]:
    """Return a proposed step as tokens of the model that checks it: at most ``room`` − 1, to leave one for the model.

    The proposal is tokenised separately, so the tokens of the context do not change. Where the model would use
    other tokens for the same text, it agrees with fewer of them; nothing else depends on it.
    """
    written = text + separator if ending == "separator" else text
    return texts.encode(written, special=False)[: max(room - 1, 0)]


def agreed_tokens(proposed: Sequence[int], own: Sequence[int]) -> list[int]:
    """Return what the model would have written: the longest prefix of ``proposed`` that it agrees with, and a token.

    ``own`` has the model's choice at each position, given the proposed tokens before it, and one choice after the
    last. The token after the prefix is the model's choice there.
    """
    agreed = next((index for index, token in enumerate(proposed) if token != own[index]), len(proposed))
    return [*proposed[:agreed], own[agreed]]


def agreement(proposed: Sequence[int], step: StepTokens) -> PrefixMatch:
    """Return how many tokens were proposed, and how many of them begin the step."""
    pairs = zip(proposed, step.tokens, strict=False)
    agreed = next((index for index, (proposal, own) in enumerate(pairs) if proposal != own), None)
    return PrefixMatch(len(proposed), min(len(proposed), len(step.tokens)) if agreed is None else agreed)
