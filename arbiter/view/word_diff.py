"""The difference of two texts, word by word."""

import re
from difflib import SequenceMatcher

from arbiter.protocols.records import Record

LONGEST = 20_000
"""The largest number of characters of two texts together that are compared."""

_MOST = 4_000_000  # pairs of words: the comparison takes at most about a second
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


class DiffPart(Record, frozen=True):
    """A part of both texts (``op`` is ``same``), or of one of them only, whose name is then ``op``."""

    op: str
    text: str


def word_diff(a: str, b: str, names: tuple[str, str]) -> list[DiffPart] | None:
    """Return the parts of two texts in order; None if they are too long to be compared."""
    words_a, words_b = _WORD.findall(a), _WORD.findall(b)
    if len(a) + len(b) > LONGEST or len(words_a) * len(words_b) > _MOST:
        return None
    parts = list[DiffPart]()
    for op, a_from, a_to, b_from, b_to in SequenceMatcher(None, words_a, words_b, autojunk=False).get_opcodes():
        in_a, in_b = "".join(words_a[a_from:a_to]), "".join(words_b[b_from:b_to])
        if op == "equal":
            parts.append(DiffPart("same", in_a))
        else:
            parts += [DiffPart(name, text) for name, text in zip(names, (in_a, in_b), strict=True) if text]
    return parts
