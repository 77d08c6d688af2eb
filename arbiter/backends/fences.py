"""Fenced blocks of code in Markdown: whether a text ends inside one. A pure function."""

import re

_FENCE = re.compile(
    r"(?:\A|(?<=[\r\n]))(?P<item>(?: {0,3}+(?:[-+*]|\d{1,9}[.)]) {1,4}+)*+)(?P<indent> *)"
    r"(?P<marks>`{3,}|~{3,})(?P<rest>[^\r\n]*)"
)
_DEEPEST = 3  # spaces before a fence; with more, the line is text


def open_fence(text: str) -> bool:
    """Return whether a fenced block is open at the end of ``text``, by the rules of CommonMark.

    A line of three or more backticks or tildes opens a block, with at most three spaces before it. Other text may
    follow, but no backtick after backticks. A line of at least as many of the same characters closes it. A block may
    also open in the first line of a list item; only a fence closes it, not the end of the item. Blocks that are
    indented further, and those in a quotation, are text. The time is linear in the length of the text.
    """
    opened, depth = "", _DEEPEST
    for line in _FENCE.finditer(text):
        item, indent, marks, rest = line["item"], len(line["indent"]), line["marks"], line["rest"]
        if opened:
            closes = marks.startswith(opened) and not item and indent <= depth and not rest.strip(" \t")
            opened = "" if closes else opened
        elif indent <= _DEEPEST and not (marks[0] == "`" and "`" in rest):
            opened, depth = marks, len(item) + _DEEPEST
    return bool(opened)
