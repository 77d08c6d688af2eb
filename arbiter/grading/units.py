r"""Units behind a value, and currencies before it: lengths, times, money, percent, and words such as ``eggs``.

The input is ``normalised``. Units of one kind have factors: 10 cm is 0.1 m. An unknown word is a kind of its own.
"""

import re
from collections import Counter
from fractions import Fraction

import msgspec

from arbiter.grading.answers import NUMBERS
from arbiter.grading.spelling import CLOSE_WORDS, OPEN_WORDS
from arbiter.grading.terms import is_word
from arbiter.grading.vocabulary import CONSTANTS, FUNCTIONS, GREEK

PERCENT, DEGREE = "percent", "degree"


class Unit(msgspec.Struct, frozen=True):
    """A unit: its kinds with their powers, such as metre 1 and second -1, and the factor to the kinds' own units."""

    kinds: tuple[tuple[str, int], ...]
    factor: Fraction = Fraction(1)

    @property
    def is_percent(self) -> bool:
        return self.kinds == ((PERCENT, 1),)

    @property
    def is_angle(self) -> bool:
        return self.kinds == ((DEGREE, 1),)


_PREFIXES = {"k": 3, "c": -2, "m": -3, "d": -1, "M": 6, "G": 9, "n": -9, "T": 12}
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_PREFIX_WORDS = {"kilo": 3, "centi": -2, "milli": -3, "deci": -1, "mega": 6, "giga": 9, "nano": -9}
_BASES: dict[str, tuple[str, int, Fraction, tuple[str, ...], tuple[str, ...]]] = {
    # kind, power, factor, spellings that take no prefix, spellings that take one
    "metre": ("metre", 1, Fraction(1), (), ("m",)),
    "metre word": ("metre", 1, Fraction(1), (), ("meter", "metre")),
    "gram": ("gram", 1, Fraction(1), (), ("g",)),
    "gram word": ("gram", 1, Fraction(1), (), ("gram",)),
    "litre": ("metre", 3, Fraction(1, 1000), (), ("L", "l")),
    "litre word": ("metre", 3, Fraction(1, 1000), (), ("liter", "litre")),
    "second": ("second", 1, Fraction(1), ("sec", "second"), ("s",)),
    "minute": ("second", 1, Fraction(60), ("min", "minute"), ()),
    "hour": ("second", 1, Fraction(3600), ("h", "hr", "hour"), ()),
    "day": ("second", 1, Fraction(86400), ("day",), ()),
    "week": ("second", 1, Fraction(604800), ("week",), ()),
    "inch": ("metre", 1, Fraction(254, 10000), ("in", "inch", "inche"), ()),
    "foot": ("metre", 1, Fraction(3048, 10000), ("ft", "foot", "feet"), ()),
    "yard": ("metre", 1, Fraction(9144, 10000), ("yd", "yard"), ()),
    "mile": ("metre", 1, Fraction(1609344, 1000), ("mi", "mile"), ()),
    "degree": (DEGREE, 1, Fraction(1), ("degree", "deg"), ()),
    "percent": (PERCENT, 1, Fraction(1), ("percent", "per cent"), ()),
    "dollar": ("dollar", 1, Fraction(1), ("dollar", "usd"), ()),
    "cent": ("dollar", 1, Fraction(1, 100), ("cent", "¢"), ()),
    "celsius": ("celsius", 1, Fraction(1), ("°c", "celsius"), ()),
    "unit": ("unit", 1, Fraction(1), ("unit",), ()),
    "newton": ("newton", 1, Fraction(1), (), ("N", "newton")),
    "joule": ("joule", 1, Fraction(1), (), ("J", "joule")),
    "watt": ("watt", 1, Fraction(1), (), ("W", "watt")),
    "volt": ("volt", 1, Fraction(1), (), ("V", "volt")),
    "hertz": ("hertz", 1, Fraction(1), (), ("Hz", "hertz")),
    "pascal": ("pascal", 1, Fraction(1), (), ("Pa", "pascal")),
    "mole": ("mole", 1, Fraction(1), ("mole",), ("mol",)),
    "electronvolt": ("electronvolt", 1, Fraction(1), (), ("eV",)),
    "angstrom": ("metre", 1, Fraction(1, 10**10), ("angstrom",), ()),
}
_CHINESE = {
    "米": "m", "厘米": "cm", "千米": "km", "公里": "km", "毫米": "mm", "分米": "dm", "度": "degree", "小时": "hour",
    "分钟": "minute", "秒": "second", "天": "day", "克": "g", "千克": "kg", "公斤": "kg", "升": "L", "毫升": "mL",
    "平方米": "square m", "平方厘米": "square cm", "平方千米": "square km", "立方米": "cubic m", "立方厘米": "cubic cm",
    "美元": "dollar", "元": "yuan",
}  # fmt: skip
_COMPOUND = {
    "mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour", "sq": "square", "cu": "cubic", "squared": "square",
    "cubed": "cubic",
}  # fmt: skip
_POWERS = {"square": 2, "cubic": 3}
_NO_UNITS = {
    "or", "and", "not", "no", "none", "more", "less", "fewer", "than", "at", "least", "most", "about", "approximately",
    "nearly", "if", "when", "is", "are", "was", "over", "under", "up", "to", "below", "above", "except", "but", "only",
    "exactly", "between", "from", "with", "without", "where", "for", "mod", "modulo", "all", "each", "other", "else",
    "any", "plus", "minus", "times", "divided", "by", "a.m", "p.m", "am", "pm", "noon", "undefined", "infinity",
    "infinite", "maximum", "minimum", "true", "false", "yes", "correct", "incorrect", "wrong", "factorial", "root",
    "dozen", "dozens", "half", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", *NUMBERS, *GREEK,
    *(name for name in (*FUNCTIONS, *CONSTANTS) if len(name) > 1 and name not in ("min", "sec")),
}  # fmt: skip
"""Words behind a number that say something about it: numbers, functions, constants, truth values, conditions."""
_PART_OF_ONE = re.compile(
    r"halves|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|twentieth|hundredth"
    r"|thousandth|millionth|billionth)s?"
)
_CJK = r"[\u4e00-\u9fff]++"
_MARKED = f"{OPEN_WORDS}[^{OPEN_WORDS}{CLOSE_WORDS}]*{CLOSE_WORDS}"
_EXPONENT = r"(?:\s?\^\s?(?:\{\s?-?\d\s?\}|-?\d))?"
_NAME = rf"(?:{_MARKED}|{_CJK}|(?<![A-Za-z\\_{{])[A-Za-z]+)"
_SUFFIX = re.compile(rf"(?:{_NAME}{_EXPONENT}[\s/~]*+(?:\\cdot\s?)?)++")
_FRACTION = re.compile(rf"\\frac\s?\{{\s?({_MARKED})\s?\}}\s?\{{\s?({_MARKED}{_EXPONENT})\s?\}}$")
_LETTER = re.compile(rf"{OPEN_WORDS}([A-Za-z]){CLOSE_WORDS}")
_DEGREES = re.compile(r"(?:\^\s?\{\s?\\circ\s?\}|\^\s?\\circ|\\circ)\s?(?P<scale>[CF]|⟦[CF]⟧)?$")
_TRIGONOMETRY = re.compile(r"(?<![A-Za-z])(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_MODULUS = re.compile(r"\s*(?:\\pmod\s?\{?(?P<p>\d+)\}?|\(?\s?(?:\\bmod|\\mod|⟦mod⟧|mod)\s?\{?(?P<m>\d+)\}?\s?\)?)$")
_PART = re.compile(rf"(?P<name>{_MARKED}|{_CJK}|[A-Za-z.¢°']+)(?P<power>{_EXPONENT})|(?P<per>/)|\S")
_CURRENCY = re.compile(
    rf"(?P<sign>-?)\s?{OPEN_WORDS}(?P<name>dollars|euros|pounds|yuan|Rs\.?|USD)\s?{CLOSE_WORDS}\s?(?P<value>.+)$"
)
_TABLE = {
    **{name: (kind, power, factor) for kind, power, factor, names, more in _BASES.values() for name in (*names, *more)},
    **{
        prefix + name: (kind, power, factor * Fraction(10) ** exponent)
        for kind, power, factor, _, names in _BASES.values()
        for name in names
        for prefix, exponent in (_PREFIX_WORDS if len(name) > 3 else _PREFIXES).items()
    },
}
"""Spelling of a unit, in the singular → its kind, the power of the kind, the factor."""


def split_unit(text: str) -> tuple[str, Unit | None, Fraction]:
    """Return the value, the unit (None if there is none) and the scale, such as a thousand, of normalised ``text``."""
    if currency := _CURRENCY.match(text):
        value, unit, scale = split_unit(currency["sign"] + currency["value"])
        money = unit_of(currency["name"])
        return (value, money, scale) if unit is None or unit == money else (text, None, Fraction(1))
    if percent := re.search(r"\s?\\?%$", text):
        return text[: percent.start()], Unit(((PERCENT, 1),)), Fraction(1)
    if modulus := _MODULUS.search(text):
        return _residue(text[: modulus.start()], int(modulus["p"] or modulus["m"]))
    if not _TRIGONOMETRY.search(text) and (degrees := _DEGREES.search(text)):
        kind = {"C": "celsius", "F": "fahrenheit", "": DEGREE}[(degrees["scale"] or "").strip(OPEN_WORDS + CLOSE_WORDS)]
        return text[: degrees.start()], Unit(((kind, 1),)), Fraction(1)
    return _split_words(text)


def _residue(value: str, modulus: int) -> tuple[str, Unit | None, Fraction]:
    """Return a value with its modulus. A whole number is its rest: ``50 mod 7`` is 1."""
    if modulus and re.fullmatch(r"\d{1,100}", value.strip()):
        value = str(int(value) % modulus)
    return value, Unit(((f"mod {modulus}", 1),)), Fraction(1)


def unit_of(text: str) -> Unit | None:
    """Return the unit that ``text`` names; None if it names none."""
    counts, factor, sign, power = Counter[str](), Fraction(1), 1, 1
    unknown: list[tuple[str, int]] = []
    for part in _PART.finditer(_spread(text)):
        if part["per"] or part["name"] in ("per", "a", "an"):
            sign, power = -1, 1
            continue
        if part["name"] is None or _is_no_unit(part["name"].lower()):
            return None
        if part["name"].lower() in _POWERS:
            power *= _POWERS[part["name"].lower()]
            continue
        exponent = sign * power * int(re.sub(r"[\s^{}]", "", part["power"]) or 1)
        known = _known(part["name"])
        if known is None:
            unknown.append((_singular(part["name"].lower()), exponent))
            continue
        kind, of, size = known
        counts[kind] += of * exponent
        factor *= size**exponent
        power = 1
    if len(unknown) == 1:
        counts[unknown[0][0]] += unknown[0][1]
    elif unknown:  # several words name one thing
        counts[" ".join(f"{name}^{exponent}" for name, exponent in unknown)] += 1
    kinds = tuple(sorted((kind, count) for kind, count in counts.items() if count))
    return Unit(kinds, factor) if kinds and len(unknown) <= 4 else None


def _is_no_unit(word: str) -> bool:
    return word in _NO_UNITS or _PART_OF_ONE.fullmatch(word) is not None


def _split_words(text: str) -> tuple[str, Unit | None, Fraction]:
    nothing = text, None, Fraction(1)
    spelled = _FRACTION.sub(r" \1/\2", text)
    match = next((run for run in _SUFFIX.finditer(spelled) if run.end() == len(spelled)), None)
    if match is None:
        return nothing
    value, suffix = spelled[: match.start()].rstrip(), match[0]
    if not value or value[-1] in "=<>+-*/^_(,\\" or value.endswith((r"\cdot", r"\times")):
        return nothing
    if not _may_be_unit(suffix, value, spelled):
        return nothing
    words = _spread(suffix).split()
    scale = Fraction(1)
    while words and words[0].lower() in _SCALES:
        scale *= 10 ** _SCALES[words.pop(0).lower()]
    if not words:
        return value, None, scale
    unit = unit_of(" ".join(words))
    return nothing if unit is None else (value, unit, scale)


def _may_be_unit(suffix: str, value: str, text: str) -> bool:
    """Return whether letters behind a value are a unit, and not variables: marked as words, known, or a word."""
    bare = re.sub(rf"{_MARKED}|{_CJK}", "", suffix)
    names = re.findall(r"[A-Za-z]+", bare)
    if any(letter not in _TABLE for letter in _LETTER.findall(suffix)):
        return False
    spaced = text[len(value) : len(value) + 1] == " " or value[-1] in "}" + CLOSE_WORDS
    return all(
        name in _SCALES
        or name in _POWERS
        or name in _COMPOUND
        or (spaced and (is_word(name) or (name == "per" and len(names) > 1)))
        or (len(name) > 1 and _known(name) is not None and value[-1] in "0123456789.})")
        for name in names
    )


def _spread(text: str) -> str:
    """Return unit words without marks, and compound ones in their parts."""
    bare = text.replace(OPEN_WORDS, " ").replace(CLOSE_WORDS, " ").replace(r"\cdot", " ").replace("~", " ")
    bare = re.sub(_CJK, lambda run: f" {_CHINESE.get(run[0], run[0])} ", bare)
    bare = re.sub(r"\b(squared|cubed)\b", lambda run: {"squared": "^2", "cubed": "^3"}[run[1]], bare)
    return re.sub(r"[A-Za-z]+", lambda run: _COMPOUND.get(run[0], run[0]), re.sub(r"(?<=[A-Za-z])\. ?", " ", bare))


def _known(name: str) -> tuple[str, int, Fraction] | None:
    for spelling in (name, name.lower(), _singular(name), _singular(name.lower())):
        if spelling in _TABLE:
            return _TABLE[spelling]
    return None


def _singular(name: str) -> str:
    if len(name) > 4 and name.endswith("ies"):
        return name[:-3] + "y"
    if len(name) > 4 and name.endswith(("ches", "shes", "xes", "sses")):
        return name[:-2]
    return name[:-1] if len(name) > 2 and name.endswith("s") and not name.endswith("ss") else name
