r"""Read what is no list, set or relation: words, times, ratios, numbers in a base, and names before an equals sign."""

import re

from arbiter.grading.expressions import parse_expression
from arbiter.grading.readings import EMPTY, REALS, Based, Clock, Ratio, Reading, Value, Words
from arbiter.grading.spelling import CLOSE_WORDS, MARKED, OPEN_WORDS, unmarked
from arbiter.grading.structure import bracketed, split_at
from arbiter.grading.terms import Style, Unreadable, is_word, whole
from arbiter.grading.vocabulary import EVERYTHING, NOTHING, NUMBERS

_SCRIPT = rf"(?:_\s?(?:\w|\{{[^{{}}]*\}}|\\[A-Za-z]+|{MARKED}))?"
_LETTER = rf"(?:[A-Za-z]|\\(?!frac|sqrt|pi(?![A-Za-z])|infty)[A-Za-z]+(?:\s?\{{[A-Za-z]+\}})?|{MARKED})"
_NAME = re.compile(
    rf"(?:\\angle\s*[A-Z_{{}}\d\s]+|{_LETTER}'*{_SCRIPT}'*(?:\^\s?\{{-1\}})?(?:\s*\([^()=<>]*\))?"
    rf"|(?:\\(?:sin|cos|tan|cot)\s*)(?:\\angle\s*)?\\?[A-Za-z]+|[A-Z][A-Z\s]*[A-Z]|\|[A-Za-z_\d\s]+\||[A-Za-z]{{3,}}"
    rf"|\\[a-z]+\s?\{{\s?[A-Z]+\s?\}})"
)
_BASED = re.compile(
    r"\(?(?P<digits>-?\d[0-9A-F]*(?:\.[0-9A-F]+)?|-?[A-F]+\d[0-9A-F]*|-?[A-F]+)\)?"
    r"\s?_\s?(?:\{\s?\(?(?P<base>\w+)\)?\s?\}|(?P<one>\d))"
)
_CLOCK = re.compile(
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d)(?::(?P<second>\d\d))?)?\s?"
    r"(?P<half>[ap]\.?\s?m\.?|noon|midnight|o'?clock)?",
    re.IGNORECASE,
)
_RATIO = re.compile(r"[^:]+(?::[^:=]+)+")


def name_of(text: str) -> str | None:
    """Return the name that ``text`` is, without spaces and braces; None if it is more than a name."""
    if enclosed := bracketed(text):
        names = [name_of(part) for part in split_at(enclosed[1], {","})[0]]
        return None if enclosed[0] != "(" or None in names else "(" + ",".join(filter(None, names)) + ")"
    if not _NAME.fullmatch(text) or text in ("e", "i"):
        return None
    if re.fullmatch("[A-Za-z]{3,}", text) and not is_word(text) and not text.isupper():
        return None
    return re.sub(rf"[\s{{}}{OPEN_WORDS}{CLOSE_WORDS}\\]", "", text)


def words(text: str, _style: Style) -> Reading | None:
    """Return words, or the number or the set that they name; None if ``text`` is no words."""
    bare = " ".join(unmarked(text).split()).strip(" .,")
    if NOTHING.fullmatch(bare):
        return EMPTY
    if EVERYTHING.fullmatch(bare):
        return REALS
    if bare.lower() in NUMBERS:
        return Value(whole(NUMBERS.index(bare.lower())))
    runs = re.findall(r"[^\W\d_]+", bare)
    if not runs or not re.fullmatch(r"[^\W\d_]+(?:[ .'-]+[^\W\d_]+)*", bare) or (len(bare) == 1 and not bare.isalpha()):
        return None
    if len(bare) > 1 and (OPEN_WORDS in text or len(runs) > 1 or is_word(bare)) and not re.search(r"\\", text):
        if OPEN_WORDS not in text and not any(is_word(run) for run in runs):
            return None
        return Words(re.sub(r"^(?:the|an?) ", "", bare.casefold()))
    return None


def clock(text: str, _style: Style) -> Reading | None:
    """Return a time of day, or a ratio that may be one; None if ``text`` is neither."""
    match = _CLOCK.fullmatch(" ".join(unmarked(text).split()))
    if match is None or not (match["minute"] or match["half"]):
        return None
    clock = _time(match)
    if match["half"] or match["second"] or clock is None:
        return clock
    return Ratio(tuple(whole(int(part)) for part in text.split(":")), clock)


def _time(match: re.Match[str]) -> Clock | None:
    hour, minute, second = int(match["hour"]), int(match["minute"] or 0), int(match["second"] or 0)
    half = (match["half"] or "").lower().replace(".", "").replace(" ", "")
    half = {"noon": "pm", "midnight": "am", "oclock": "", "o'clock": ""}.get(half, half)
    if minute > 59 or second > 59 or hour > (12 if half else 24):
        return None
    return Clock(hour, minute, second, half)


def ratio(text: str, style: Style) -> Reading | None:
    """Return values with colons between them; None if ``text`` has none. Raises ``Unreadable``."""
    if not _RATIO.fullmatch(text) or bracketed(text):
        return None
    return Ratio(tuple(parse_expression(part, style)[0] for part in split_at(text, {":"})[0]))


def based(text: str, _style: Style) -> Reading | None:
    """Return a number with its base; None if ``text`` has no base. Raises ``Unreadable`` if a digit is too large."""
    match = _BASED.fullmatch(text.replace(OPEN_WORDS, "").replace(CLOSE_WORDS, "").strip())
    if match is None:
        return None
    name = match["one"] or (match["base"] or "").strip()
    base = int(name) if name.isdecimal() else NUMBERS.index(name.lower()) if name.lower() in NUMBERS else 0
    digits = match["digits"]
    if not 2 <= base <= 36 or (digits.isalpha() and base < 11):
        return None
    if any(int(digit, 36) >= base for digit in digits.lstrip("-").replace(".", "")):
        raise Unreadable(f"{digits} has digits that base {base} has not")
    return Based(("-" if digits.startswith("-") else "") + (digits.lstrip("-0") or "0"), base)
