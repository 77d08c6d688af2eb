r"""Find the answer in a solution: in its box, or after a phrase such as "The final answer is".

All functions are pure and take time linear in their input, so they may run on the event loop.
"""

import re
from typing import Literal

import msgspec

from arbiter.grading.answers import extract_answer

FoundBy = Literal["box", "####", "final answer", "answer:", "answer is", "whole text"]
"""The rule that found an answer, in the order in which the rules are tried.

``whole text`` is a text that is nothing but an answer; some graders accept it.
"""

_MARKUP = r"[*_#`\s]{0,20}"  # bounded, so that a text is read in one pass
_IS = rf"{_MARKUP}(?:is|are|was|[:：=]|是|为){_MARKUP}(?:[:：]{_MARKUP})?"
_FILLER = r"(?:(?:therefore|thus|simply|then|hence|now)\b[,:]?\s*)?"
_HEADING, _END = r"(?:^|\n)(?:#{1,6}|\*\*)\s{0,5}", r"[*\s]{0,20}\n\s{0,20}"
_TITLE = r"\**(?=[A-Za-z]{2})[^\n]{0,200}?(?:\n\s{0,50}\S|[Aa]nswer)"
"""A heading: words, with a text below, or with another phrase in them."""
_PHRASES: dict[FoundBy, re.Pattern[str]] = {
    "####": re.compile(rf"(?<!#)####(?!#)[ \t]*(?=\S)(?!{_TITLE})"),
    "final answer": re.compile(
        rf"final{_MARKUP}answers?{_IS}{_FILLER}|{_HEADING}final\s+answer{_END}|最终答案{_IS}", re.IGNORECASE
    ),
    "answer:": re.compile(
        rf"(?:^|\n|[.!?]\s){_MARKUP}(?:the\s+|correct\s+)*answers?{_MARKUP}[:：]{_MARKUP}|{_HEADING}answer{_END}"
        rf"|答案{_MARKUP}[:：]{_MARKUP}",
        re.IGNORECASE,
    ),
    "answer is": re.compile(
        rf"(?<!final\s)\banswers?\s+(?:is|are){_MARKUP}(?:[:：]{_MARKUP})?{_FILLER}|答案{_IS}", re.IGNORECASE
    ),
}
_CUES: dict[FoundBy, re.Pattern[str]] = {
    "####": re.compile("####"),
    "final answer": re.compile(r"final answer(?: is)?\s*[:：]|final answer is", re.IGNORECASE),
    "answer:": re.compile(r"(?<!final )\banswer\s*[:：]\s*(?:\S|$)", re.IGNORECASE),
    "answer is": re.compile(r"(?<!final )\banswer is\b", re.IGNORECASE),
}
"""What in a prompt asks for the answer in this way."""
_LONGEST, _LAST = 4000, 20  # characters behind a phrase, and phrases, that are looked at
_DISPLAY = re.compile(r"\s*(?:\$\$(?P<dollars>.+?)\$\$|\\\[(?P<brackets>.+?)\\\])", re.DOTALL)
_MATHEMATICS = re.compile(r"\$[^$\n]*\$|\\\(.*?\\\)|\\text\{[^{}]*\}|\\[A-Za-z]+")
_SENTENCE = re.compile(r"[.!?。](?=\s|$|[*_`\"'])|\n")
_CLAUSE = re.compile(r"[,;]?\s+(?:because|since|as|which|so|where|therefore|thus|hence|I hope)\b.*", re.DOTALL)
_ABBREVIATION = re.compile(r"\b(?:[ap]\.m|sq|cu|in|ft|hr|min|sec|approx)$", re.IGNORECASE)


class FoundAnswer(msgspec.Struct, frozen=True):
    """An answer, and the rule that found it."""

    text: str
    by: FoundBy


def find_answer(text: str, prompt: str = "", answers: int = 1) -> FoundAnswer | None:
    """Return the answer of a solution; None if no rule finds one.

    A box comes first, then the phrase that ``prompt`` asks for, then the other phrases. The last one of its kind in the
    text counts. ``answers`` is as for ``extract_answer``.
    """
    boxed = extract_answer(text, answers)
    if boxed:  # an empty box has no answer
        return FoundAnswer(boxed, "box")
    for rule in sorted(_PHRASES, key=lambda rule: _CUES[rule].search(prompt) is None):  # those asked for first
        found = _last(_PHRASES[rule], text)
        if found:
            return FoundAnswer(found, rule)
    return None


def _last(phrase: re.Pattern[str], text: str) -> str:
    """Return what follows the last phrase that something follows; an empty text if there is none."""
    ends = [match.end() for match in phrase.finditer(text)][-_LAST:]
    return next((answer for end in reversed(ends) if (answer := _stated(text[end : end + _LONGEST]))), "")


def _stated(after: str) -> str:
    """Return the displayed mathematics, or the rest of the sentence, without markup and explanations."""
    displayed = _DISPLAY.match(after)
    if displayed:
        return (displayed["dollars"] or displayed["brackets"]).strip()
    hidden = _MATHEMATICS.sub(lambda match: "\x00" * len(match[0]), after.lstrip())
    end = next(
        (stop.start() for stop in _SENTENCE.finditer(hidden) if not _ABBREVIATION.search(hidden[: stop.start()])), None
    )
    sentence = after.lstrip()[:end]
    clause = _CLAUSE.search(hidden[:end])
    if clause and clause.start():
        sentence = sentence[: clause.start()]
    return sentence.strip().strip("*_`").strip().removesuffix("<|im_end|>").strip()
