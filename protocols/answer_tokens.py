"""The tokens of a text with their log-probabilities: which of them make up a part of the text. Pure functions."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

MOST_ALTERNATIVES = 20
"""The most alternatives that can be requested for a token: what OpenAI allows, and engines by default."""


class TokenAlternative(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that could be at a place, and its log-probability there: 0 or less, in nats."""

    text: str
    logprob: float


class WrittenToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A token of a text: the text that it adds, and its log-probability: 0 or less, in nats.

    ``top`` are the likeliest tokens at its place, the likeliest first, as many as were requested. A character that
    several tokens share belongs to the last of them; the others add no text.
    """

    text: str
    logprob: float
    top: tuple[TokenAlternative, ...] = ()


Token = TypeVar("Token", bound=WrittenToken)


def tokens_within(tokens: Iterable[Token], start: int, end: int) -> tuple[Token, ...]:
    """Return the tokens of the characters from ``start`` up to ``end`` of the text that ``tokens`` make up.

    A token that begins before, or ends after, adds only its part of these characters.
    """
    return tuple(_parts(tokens, start, end))


def fault_of(tokens: Sequence[WrittenToken], text: str, is_whole: bool = True) -> str | None:
    """Return why ``tokens`` cannot be those of ``text``, or of its beginning unless ``is_whole``; None if they can."""
    joined = "".join(token.text for token in tokens)
    if joined != text if is_whole else not text.startswith(joined):
        return "its tokens do not make up its text"
    for token in tokens:
        for one in (token, *token.top):
            if not (math.isfinite(one.logprob) and one.logprob <= 0.0):
                return f"the log-probability of a token is {one.logprob}, not a number of 0 or less"
    return None


def _parts(tokens: Iterable[Token], start: int, end: int) -> Iterator[Token]:
    at = 0
    for token in tokens:
        begin, at = at, at + len(token.text)
        if begin >= end:
            return
        if begin >= start and at <= end:
            yield token
        elif at > start:
            yield msgspec.structs.replace(token, text=token.text[max(start - begin, 0) : end - begin])
