"""Grade words and lists: both sides are brought to one form and compared as texts."""

import re
import unicodedata

from arbiter.grading.answers import Reference
from arbiter.grading.grader import LONGEST, Grade, GradingRequest, missing, right_answer_is
from arbiter.grading.markup import without_markup
from arbiter.grading.phrases import FoundAnswer, find_answer

_ESCAPED = re.compile(r"\\(?=[{}%&#_])")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴-⁹⁺⁻ⁿ]+")
_QUOTES = "\"'“”‘’«»„"
_ENDS = ".,;:!?"
_ARTICLE = re.compile(r"(?:the|an?)\s+(?=\w)")
_AND = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*;\s*")
_BRACKETS = ("[]", "()", "{}")


class TextGrader:
    """Grades words and lists as texts, without mathematics (``docs/reference/other-graders.md`` has the rules)."""

    name = "text"
    version = 1

    async def grade(self, request: GradingRequest) -> Grade:
        """Grade the answer of a text."""
        if request.reference is None or request.conclusion is None:
            return missing(request)
        found = find_text(request.conclusion, request)
        if found is None:
            return missing(request)
        right = same_text(found.text, request.reference)
        reason = None if right else right_answer_is(request.reference)
        return Grade(right, found.text[:LONGEST], reason, found.by)


def same_text(answer: str, reference: str | Reference) -> bool:
    """Return whether two answers are the same text in normal form.

    A reference with several answers requires all of them, in any order. So does a reference in braces; in brackets and
    without any, the order of a list counts.
    """
    if isinstance(reference, Reference):
        return sorted(_items(_inside(_plain(answer)))) == sorted(map(normal, reference.answers))
    given, expected = _plain(answer), _plain(reference)
    if expected.startswith("{") and expected.endswith("}"):
        return set(_items(_inside(given))) == set(_items(_inside(expected)))
    return _items(_inside(given)) == _items(_inside(expected))


def normal(text: str) -> str:
    """Return the normal form of a word or phrase; of a text that has nothing but marks, the text itself."""
    plain = _plain(text)
    bare = plain.strip(_QUOTES + " ").rstrip(_ENDS).strip(_QUOTES + " ")
    return _ARTICLE.sub("", bare, count=1) or plain


def find_text(conclusion: str, request: GradingRequest) -> FoundAnswer | None:
    """Return the answer in a box or after a phrase, or the text if it is a single line."""
    found, whole = find_answer(conclusion, request.asked), conclusion.strip()
    if found is None and whole and "\n" not in whole:
        return FoundAnswer(whole, "whole text")
    return found


def _plain(text: str) -> str:
    powers = _SUPERSCRIPT.sub(lambda match: f"^{unicodedata.normalize('NFKC', match[0]).replace('−', '-')}", text)
    bare = _ESCAPED.sub("", without_markup(unicodedata.normalize("NFKC", powers)))
    return (" ".join(bare.split()).rstrip(".") or " ".join(text.split())).casefold()


def _inside(text: str) -> str:
    """Return the items of a list without its brackets."""
    return text[1:-1] if text[:1] + text[1:][-1:] in _BRACKETS else text


def _items(text: str) -> list[str]:
    return [normal(item) for item in _AND.split(text) if item.strip()] or [text.strip()]
