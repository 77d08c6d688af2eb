"""The spellings of units with their kinds and factors, and the words behind a number that are no unit."""

import re
from fractions import Fraction

from arbiter.grading.vocabulary import CONSTANTS, FUNCTIONS, GREEK, NUMBERS

PERCENT, DEGREE = "percent", "degree"

_PREFIXES = {"k": 3, "c": -2, "m": -3, "d": -1, "M": 6, "G": 9, "n": -9, "T": 12, "u": -6}
_PREFIX_WORDS = {"kilo": 3, "centi": -2, "milli": -3, "deci": -1, "mega": 6, "giga": 9, "nano": -9, "micro": -6}
SCALES = {
    "hundred": 2, "thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "trillion": 12, "quadrillion": 15,
}  # fmt: skip
"""Powers of ten."""
_ONE = Fraction(1)
_BASES: tuple[tuple[str, int, Fraction, tuple[str, ...], tuple[str, ...]], ...] = (
    # kind, power, factor, spellings that take no prefix, spellings that take one
    ("metre", 1, _ONE, (), ("m", "meter", "metre")),
    ("gram", 1, _ONE, (), ("g", "gram")),
    ("metre", 3, Fraction(1, 1000), (), ("L", "l", "liter", "litre")),
    ("second", 1, _ONE, ("sec", "second"), ("s",)),
    ("second", 1, Fraction(60), ("min", "minute"), ()),
    ("second", 1, Fraction(3600), ("h", "hr", "hour"), ()),
    ("second", 1, Fraction(86400), ("day",), ()),
    ("second", 1, Fraction(604800), ("week",), ()),
    ("year", 1, Fraction(1, 12), ("month",), ()),
    ("year", 1, _ONE, ("yr", "year"), ()),
    ("metre", 1, Fraction(254, 10000), ("in", "inch", "inche"), ()),
    ("metre", 1, Fraction(3048, 10000), ("ft", "foot", "feet"), ()),
    ("metre", 1, Fraction(9144, 10000), ("yd", "yard"), ()),
    ("metre", 1, Fraction(1609344, 1000), ("mi", "mile"), ()),
    ("pound", 1, _ONE, ("lb", "pound"), ()),
    ("pound", 1, Fraction(1, 16), ("oz", "ounce"), ()),
    ("gallon", 1, _ONE, ("gal", "gallon"), ()),
    ("gallon", 1, Fraction(1, 4), ("quart",), ()),
    ("gallon", 1, Fraction(1, 8), ("pint",), ()),
    (DEGREE, 1, _ONE, ("degree", "deg"), ()),
    (PERCENT, 1, _ONE, ("percent",), ()),
    (PERCENT, 1, Fraction(1, 10), ("permille",), ()),
    (PERCENT, 1, Fraction(1, 10_000), ("ppm",), ()),
    ("dollar", 1, _ONE, ("dollar", "usd"), ()),
    ("dollar", 1, Fraction(1, 100), ("cent", "¢"), ()),
    ("celsius", 1, _ONE, ("°c", "celsius"), ()),
    ("kelvin", 1, _ONE, ("K", "kelvin"), ()),
    ("unit", 1, _ONE, ("unit",), ()),
    ("newton", 1, _ONE, (), ("N", "newton")),
    ("joule", 1, _ONE, (), ("J", "joule")),
    ("joule", 1, Fraction(3600), (), ("Wh",)),
    ("calorie", 1, _ONE, (), ("cal", "calorie")),
    ("watt", 1, _ONE, (), ("W", "watt")),
    ("volt", 1, _ONE, (), ("V", "volt")),
    ("ohm", 1, _ONE, (), ("ohm",)),
    ("hertz", 1, _ONE, (), ("Hz", "hertz")),
    ("pascal", 1, _ONE, (), ("Pa", "pascal")),
    ("mole", 1, _ONE, ("mole",), ("mol",)),
    ("electronvolt", 1, _ONE, (), ("eV",)),
    ("metre", 1, Fraction(1, 10**10), ("angstrom",), ()),
)
TABLE = {
    **{name: (kind, power, factor) for kind, power, factor, names, more in _BASES for name in (*names, *more)},
    **{
        prefix + name: (kind, power, factor * Fraction(10) ** exponent)
        for kind, power, factor, _, names in _BASES
        for name in names
        for prefix, exponent in (_PREFIX_WORDS if len(name) > 3 else _PREFIXES).items()
    },
}
"""Spelling of a unit, in the singular → its kind, the power of the kind, the factor."""
CHINESE = {
    "米": "m", "厘米": "cm", "千米": "km", "公里": "km", "毫米": "mm", "分米": "dm", "度": "degree", "小时": "hour",
    "分钟": "minute", "秒": "second", "天": "day", "克": "g", "千克": "kg", "公斤": "kg", "升": "L", "毫升": "mL",
    "平方米": "square m", "平方厘米": "square cm", "平方千米": "square km", "立方米": "cubic m", "立方厘米": "cubic cm",
    "美元": "dollar", "元": "yuan",
}  # fmt: skip
"""Chinese units → English ones."""
COMPOUND = {
    "mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour", "sq": "square", "cu": "cubic", "squared": "square",
    "cubed": "cubic",
}  # fmt: skip
"""Words → units with their powers."""
SHARES = re.compile(r"\bper\s+(?P<one>cent|mille)\b|\bparts\s+per\s+million\b")
"""Several words for a share."""
POWERS = {"square": 2, "cubic": 3}
_NO_UNITS = {
    "or", "and", "not", "no", "none", "more", "less", "fewer", "than", "at", "least", "most", "about", "approximately",
    "nearly", "if", "when", "is", "are", "was", "over", "under", "up", "to", "below", "above", "except", "but", "only",
    "exactly", "between", "from", "with", "without", "where", "for", "mod", "modulo", "all", "each", "other", "else",
    "any", "plus", "minus", "times", "divided", "by", "a.m", "p.m", "am", "pm", "noon", "undefined", "infinity",
    "infinite", "maximum", "minimum", "true", "false", "yes", "correct", "incorrect", "wrong", "factorial", "root",
    "dozen", "dozens", "half", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "twice", "thrice",
    "double", "triple", "negative", "positive", "too", "many", "few", "repeating", "recurring", "repeats", "recurs",
    "exists", "equals", "remains", "holds", "works", "fails", "diverges", "converges", "always", "sometimes", "perhaps",
    "this", "has", "does", "its", "others", "unless", "score", "gross", *SCALES, *NUMBERS, *GREEK,
    *(name for name in (*FUNCTIONS, *CONSTANTS) if len(name) > 1 and name not in ("min", "sec")),
}  # fmt: skip
"""Words about a number: truth values, conditions, functions."""
_COUNTS = {*NUMBERS, *SCALES, "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"}
"""Numbers, which their plurals are as well: ``tens``."""
_PART_OF_ONE = re.compile(
    r"halves|(?:third|quarter)s?|\w*(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|teen|tie|hundred|thousand|illion)ths?"
)
_CHINESE_NUMBER = re.compile("[百千万亿倍半]")
_PLURALS = {
    "people", "men", "women", "children", "mice", "geese", "teeth", "dice", "sheep", "fish", "deer", "yuan", "yen",
    "won", "euro", "rs", "rpm", "atm", "rad",
}  # fmt: skip
_NOT_PLURAL = re.compile(r".*(?:ss|us|is)|.{0,2}")
_QUALITY = re.compile(r".*(?:ly|ed|ing|ive|ble|ous|ful|less|al|ic|ate)")
"""The ends of adverbs and adjectives."""


def is_no_unit(word: str) -> bool:
    """Return whether a word in lower case is a number, or says something about one: a function, a condition."""
    if word in _NO_UNITS or _PART_OF_ONE.fullmatch(word) or _CHINESE_NUMBER.search(word):
        return True
    singular = {word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y"}
    return word.endswith("s") and bool(singular & _COUNTS)


def is_noun(word: str, *, singular: bool) -> bool:
    """Return whether an unknown word in lower case is a plural, or with ``singular`` no adverb and no adjective."""
    if not word.isascii() or word in _PLURALS:  # Chinese has no plurals
        return True
    return (word.endswith("s") and not _NOT_PLURAL.fullmatch(word)) or (singular and not _QUALITY.fullmatch(word))
