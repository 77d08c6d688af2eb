"""Find the answer in a solution, and compare two answers as text.

All functions are pure and take time linear in their input, so they may run on the event loop.
"""

import re

import msgspec

from arbiter.grading.markup import unwrapped
from arbiter.grading.terms import is_word
from arbiter.grading.vocabulary import EVERYTHING, NOTHING, NUMBERS
from arbiter.protocols.records import Record

_TOKENS = re.compile(
    r"\\(?:boxed|fbox)(?![A-Za-z])\s*(?:(?P<braced>\{)|(?=(?P<bare>[-+]?[\d.\\][^\s$]{0,200}))|)"
    r"|\\."
    r"|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)


class Reference(Record, frozen=True):
    """The reference answer to grade against, where a text alone is not enough.

    All ``answers`` are required, in any order. ``unit`` is the unit of each; a given answer may omit it.
    ``tolerance`` is the largest absolute error that is still right: one for all answers, or one per answer.
    """

    answers: tuple[str, ...]
    unit: str | None = None
    tolerance: tuple[float, ...] = ()

    def __str__(self) -> str:
        """Return the answers as one readable text."""
        return ", ".join(self.answers) + (f" {self.unit}" if self.unit else "")


def as_reference(answer: str | Reference) -> Reference:
    """Return ``answer``, with a text made a reference of one answer."""
    return answer if isinstance(answer, Reference) else Reference(answers=(answer,))


class BoxedText(msgspec.Struct, frozen=True):
    """The content of a box, and the range of the text that the box occupies."""

    inside: str
    start: int
    end: int


def boxes(text: str) -> list[BoxedText]:
    """Return all complete ``\\boxed`` and ``\\fbox`` of ``text``, with or without braces, ordered by start."""
    found: list[BoxedText] = []
    opened: list[tuple[bool, int, int]] = []  # (brace belongs to a box, start of the box, start of its content)
    for token in _TOKENS.finditer(text):
        if inside := _unbraced(token["bare"] or ""):
            found.append(BoxedText(inside, token.start(), token.end() + len(inside)))
        elif token["braced"] or token["open"]:
            opened.append((token["braced"] is not None, token.start(), token.end()))
        elif token["close"] and opened:
            is_box, start, inside_start = opened.pop()
            if is_box:
                found.append(BoxedText(text[inside_start : token.start()].strip(), start, token.end()))
    return sorted(found, key=lambda box: box.start)


def extract_answer(text: str, answers: int = 1) -> str | None:
    """Return the content of the box of ``text`` that starts last; None if there is no complete box.

    Nested braces are included. If more than one of ``answers`` is required, earlier boxes with no blank line in between
    belong to the answer too; they are joined with commas. If their number is another, boxes with the same content count
    once.
    """
    found = boxes(text)
    found = [box for box in found if box.inside] or found  # an empty box is no answer if there is another
    if not found:
        return None
    taken = [found[-1]]
    for box in reversed(found[:-1]) if answers > 1 else ():
        if box.end > taken[0].start:
            continue  # it encloses a box that is already taken
        if "\n\n" in text[box.end : taken[0].start]:
            break
        taken.insert(0, box)
    inside = [box.inside for box in taken]
    return ", ".join(inside if len(inside) == answers else dict.fromkeys(inside))


def _unbraced(bare: str) -> str:
    """Return the token after an unbraced ``\\boxed``, up to the end of the surrounding mathematics or sentence."""
    depth = 0
    for position, character in enumerate(bare):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0 or bare.startswith(("\\)", "\\]"), position):
            return bare[:position].rstrip(".,;:")
    return bare.rstrip(".,;:")


_DECORATION = re.compile(r"\$|\\left(?![a-z])|\\right(?![a-z])|\\!")
_SPACING = re.compile(r"\\[,;: ]|\\q?quad(?![a-z])|~")
_IDLE_SPACE = re.compile(r"(?<![0-9A-Za-z]) | (?![0-9A-Za-z])")  # kept between digits: 1 1/2 is not 11/2
_SET = re.compile(r"\\\{(?P<inside>.*)\\\}", re.DOTALL)
_AND = re.compile(r"\\(?:text|mbox|textrm)\{\s*(?:,?\s*(?:and|or))\s*\}|\s,?\s*(?:and|or)\s|;")
_THOUSANDS = re.compile(r"(?<=\d)(?:,\\!|\{,\})(?=\s*\d{3}(?!\d))")
_BARE_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def plain(text: str) -> str:
    """Return ``text`` without what does not change its meaning: dollars, spaces, bracket sizes, a full stop."""
    bare = _IDLE_SPACE.sub("", " ".join(_DECORATION.sub("", _SPACING.sub(" ", text)).split())).rstrip(".,")
    return bare.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")


def split_answers(text: str, count: int | None = None) -> list[str]:
    """Split an answer at commas, semicolons, "and" and "or" outside of brackets. A part with ± gives two.

    With ``count``, commas that may be thousands separators are read as such if that gives ``count`` parts.
    """
    bare = text.replace("$", "").replace("\\left", "").replace("\\right", "").strip().rstrip(".").strip()
    if inside := _SET.fullmatch(bare):
        bare = inside["inside"]
    bare = _THOUSANDS.sub("", _AND.sub(",", bare))
    parts = _at_commas(bare)
    if count is not None and len(parts) != count:
        grouped = _at_commas(_BARE_THOUSANDS.sub("", bare))
        return grouped if len(grouped) == count else parts
    return parts


def _at_commas(text: str) -> list[str]:
    depth, start, parts = 0, 0, list[str]()
    for position, character in enumerate(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    named = [part.strip() for part in parts if part.strip()]
    return [signed for part in named for signed in _signs(part)]


def _signs(part: str) -> list[str]:
    return [part.replace("\\pm", "+"), part.replace("\\pm", "-")] if "\\pm" in part else [part]


_CHOICE = re.compile(r"\(?(?P<letter>[A-Ea-e])\)|(?P<bare>[A-E])")
_CHOSEN = re.compile(r"\(?(?P<letter>[A-Ea-e])\)(?P<rest>.*)|(?P<bare>[A-E])(?:[.:](?P<more>.*))?", re.DOTALL)
_NAMED_CHOICE = re.compile(r"(?<![A-Za-z\\])(?:\(?(?P<letter>[A-Ea-e])\)|(?P<bare>[B-E]|A(?! [a-z]))(?![A-Za-z]))")
"""A choice within a text. ``A`` before a word is an article."""
_WORDS = re.compile(r"[^\W\d_]+(?:[ '-]+[^\W\d_]+)*")
_LETTERS = re.compile(r"[A-Za-z]+")
_ARTICLE = re.compile(r"(?:the|an?) (?=\w)")


def same_words(answer: str, reference: str) -> bool | None:
    """Return whether two answers agree, if the reference is a choice (A to E) or words; else None."""
    expected, wrapped = _unwrapped(reference), _unwrapped(reference) != _bare(reference)
    given = _unwrapped(answer)
    if choice := _CHOICE.fullmatch(expected):
        if choice["letter"] and re.fullmatch("[a-e]", given):
            given = given.upper()
        if chosen := _CHOSEN.fullmatch(given):
            named = {_letter(other) for other in _NAMED_CHOICE.finditer(chosen["rest"] or chosen["more"] or "")}
            return {_letter(chosen), *named} == {_letter(choice)}
        return None if choice["bare"] and not wrapped else False
    if not _WORDS.fullmatch(expected) or not (wrapped or _is_prose(expected)):
        return None
    if len(expected) == 1:
        return None  # a letter, whose case matters
    if _folded(given) == _folded(expected):
        return True
    # a number or a set in words may be equal to one in symbols
    has_symbols = expected.lower() in NUMBERS or NOTHING.fullmatch(expected) or EVERYTHING.fullmatch(expected)
    return None if has_symbols else False


def _bare(text: str) -> str:
    return text.replace("$", "").replace("\\ ", " ").replace("\\,", " ").strip().rstrip(".").strip()


def _unwrapped(text: str) -> str:
    return " ".join(_bare(unwrapped(text)).split())


def _letter(match: re.Match[str]) -> str:
    return (match["letter"] or match["bare"]).upper()


def _is_prose(text: str) -> bool:
    """Return whether ``text`` has a word, and not only variables."""
    return any(map(is_word, _LETTERS.findall(text)))


def _folded(text: str) -> str:
    return _ARTICLE.sub("", text.casefold(), count=1)
