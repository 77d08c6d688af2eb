"""Split normalised text where no bracket is open."""

import re
from functools import lru_cache

from arbiter.grading.spelling import CLOSE_WORDS, OPEN_WORDS

_TOKEN = re.compile(r"\\begin\{[a-zA-Z*]+\}|\\end\{[a-zA-Z*]+\}|\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPENING = {"(", "[", "{", "\\{", "\\langle", OPEN_WORDS}
_CLOSING = {")", "]", "}", "\\}", "\\rangle", CLOSE_WORDS}
DEEPEST = 60
"""Brackets within each other: those of an expression may not be more."""
_KEPT = 64  # texts: each is split at several separators, one after the other


@lru_cache(_KEPT)
def tokens(text: str) -> tuple[tuple[str, int, int], ...]:
    """Return each command or character with its position and the number of open brackets before it."""
    found = list[tuple[str, int, int]]()
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in _CLOSING or token.startswith("\\end{"):
            depth -= 1
        found.append((token, match.start(), depth))
        if token in _OPENING or token.startswith("\\begin{"):
            depth += 1
    return tuple(found)


def split_at(text: str, separators: set[str]) -> tuple[list[str], list[str]]:
    """Return the parts between the ``separators`` outside of brackets, and the separators between them."""
    parts, found, start = list[str](), list[str](), 0
    for token, at, depth in tokens(text):
        if depth == 0 and token in separators:
            parts.append(text[start:at].strip())
            found.append(token)
            start = at + len(token)
    return [*parts, text[start:].strip()], found


def bracketed(text: str) -> tuple[str, str, str] | None:
    """Return the opening bracket, the content and the closing bracket of a text that one pair encloses; else None.

    Brackets that are nested more deeply than any expression may be enclose nothing.
    """
    found = tokens(text)
    if len(found) < 2 or found[0][0] not in _OPENING or found[0][0] == OPEN_WORDS:
        return None
    closed = next((index for index, (_, _, depth) in enumerate(found) if index and depth <= 0), None)
    if closed != len(found) - 1 or max(depth for _, _, depth in found) > DEEPEST:
        return None
    (opening, _, _), (closing, at, _) = found[0], found[-1]
    return opening, text[len(opening) : at].strip(), closing
