"""Tokenise a text line by line, and keep the tokens of each line.

The prompt of a step is the prompt of the step before with a few lines more. So only the new lines are tokenised, if
the tokenizer gives a text the tokens of its lines, one after another. ``separates_lines`` knows some that do.

Needs the extra ``pocket``.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (tokenizers is typed in part)

import re
from array import array
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_KEPT = 16384  # lines
_LONGEST_KEPT = 1024  # characters
# A line ends after a newline. The next one begins with a visible ASCII character: no tokenizer takes that for a space.
_BORDER = re.compile(r"(?<=\n)(?=[!-~])")
# The patterns of Qwen2 and of Llama 3. Newlines and the spaces before them are in one piece, which ends with the last.
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = (_QWEN, _QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|"))


class LineTokens:
    """Tokenises texts with ``encode``, which takes a text and whether to add the special tokens around it.

    ``encode`` belongs to a tokenizer for which ``separates_lines`` is true.

    The 16,384 lines that were used last are kept, but none of more than 1,024 characters. A kept line takes its text, 4
    bytes per token and about 280 bytes more. At a token per byte, which is the most, lines of 80 bytes take 11 MB
    together, and lines of 1,024 bytes 88 MB. Characters beyond ASCII have up to four bytes.
    """

    def __init__(self, encode: Callable[[str, bool], list[int]]) -> None:
        self._encode = encode
        self._kept = lru_cache(_KEPT)(self._compact)

    def encode(self, text: str, special: bool) -> list[int]:
        """Return what ``encode`` would return for the whole text."""
        first, *lines = _BORDER.split(text)
        ids = list(self._line(first, special))
        for line in lines:
            ids += self._line(line, False)
        return ids

    def _line(self, line: str, special: bool) -> Iterable[int]:
        return self._kept(line, special) if len(line) <= _LONGEST_KEPT else self._encode(line, special)

    def _compact(self, line: str, special: bool) -> "array[int]":
        return array("i", self._encode(line, special))


def separates_lines(tokenizer: "Tokenizer") -> bool:
    """Return whether the tokens of any text are those of its lines, one after another.

    True only for byte-pair encodings that cut texts into pieces by one of the known patterns, and add no token after
    the text.
    """
    from tokenizers import models

    model = tokenizer.model
    if not isinstance(model, models.BPE) or model.dropout:
        return False
    if _state(tokenizer.normalizer).get("type") not in (None, "NFC"):
        return False
    if not _cuts_by_known_pattern(_state(tokenizer.pre_tokenizer)):
        return False
    added = tokenizer.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip or token.single_word or "\n" in token.content for token in added):
        return False
    plain: list[int] = tokenizer.encode("a", add_special_tokens=False).ids
    around: list[int] = tokenizer.encode("a").ids
    return around[len(around) - len(plain) :] == plain


def _cuts_by_known_pattern(cutting: dict[str, Any]) -> bool:
    match cutting:
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return pattern in _PATTERNS
        case _:
            return False


def _state(part: Any) -> dict[str, Any]:  # noqa: ANN401 - classes of tokenizers
    """Return a part of a tokenizer in the form of ``tokenizer.json``; empty if there is none."""
    return {} if part is None else msgspec.json.decode(part.__getstate__(), type=dict[str, Any])
