"""The tokens that a model in process writes, with the log-probabilities of its own distribution.

They are those of the raw logits: temperature, ``top_p``, penalties and constraints do not affect them.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from arbiter.backends.token_alignment import aligned, token_pieces
from arbiter.backends.token_texts import TokenTexts
from arbiter.protocols.answer_tokens import TokenAlternative, WrittenToken
from arbiter.protocols.errors import BackendError


class TokenNames:
    """The texts of the tokens of ``texts``, each after another token. An end token has none."""

    def __init__(self, texts: TokenTexts) -> None:
        self.texts = texts
        self._known: dict[int, str] = {}

    def name(self, token: int) -> str:
        """Return the text of a token."""
        found = self._known.get(token)
        if found is None:
            # after itself, because some tokenizers drop a space at the beginning of a text
            alone, twice = self.texts.decode([token]), self.texts.decode([token, token])
            found = self._known[token] = twice[len(alone) :]
        return found


class TokenRecords:
    """The tokens of a row so far. ``top`` is the number of alternatives for each, 0 or more."""

    def __init__(self, names: TokenNames, top: int) -> None:
        self._names = names
        self._top = top
        self._written: list[tuple[float, list[tuple[int, float]]]] = []

    def add(self, logprobs: Tensor, token: int) -> None:
        """Record the next token, chosen where the tokens of the vocabulary have ``logprobs``."""
        likeliest = logprobs.topk(min(self._top, len(logprobs)))
        ids, values = cast("list[int]", likeliest.indices.tolist()), cast("list[float]", likeliest.values.tolist())  # pyright: ignore[reportUnknownMemberType]
        self._written.append((float(logprobs[token]), list(zip(ids, values, strict=True))))

    def tokens(self, ids: Sequence[int], text: str) -> tuple[WrittenToken, ...]:
        """Return the tokens of ``text``, which ``ids``, the recorded tokens, begin with.

        Raises ``BackendError`` if the tokenizer gives them other texts.
        """
        pieces = aligned(token_pieces(self._names.texts, ids), text)
        if pieces is None:
            raise BackendError(
                "the tokenizer gives tokens other texts alone than together: leave log-probabilities out"
            )
        return tuple(
            WrittenToken(piece, min(logprob, 0.0), tuple(self._alternative(*one) for one in top))
            for piece, (logprob, top) in zip(pieces, self._written, strict=False)
        )

    def _alternative(self, token: int, logprob: float) -> TokenAlternative:
        return TokenAlternative(self._names.name(token), min(logprob, 0.0))
