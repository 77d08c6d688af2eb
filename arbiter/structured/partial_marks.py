"""Marks that may continue in text that has not arrived yet."""

from collections.abc import Iterable


def settled(text: str, marks: Iterable[str]) -> str:
    """Return ``text`` without an end that may be the beginning of one of ``marks``, of which more may follow."""
    longest = max(map(len, marks := tuple(marks)), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks if len(mark) > size):
            return text[:-size]
    return text
