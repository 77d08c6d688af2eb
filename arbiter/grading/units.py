r"""Units behind a value, and currencies before it: lengths, times, money, percent, and words such as ``eggs``.

The input is ``normalised``. Units of one kind have factors: 10 cm is 0.1 m. An unknown word is a kind of its own.
"""

import re
from collections import Counter
from fractions import Fraction
from itertools import takewhile
from typing import cast

import msgspec

from arbiter.grading.spelling import CLOSE_WORDS, MARKED, OPEN_WORDS, unmarked
from arbiter.grading.terms import is_word
from arbiter.grading.unit_table import (
    CHINESE,
    COMPOUND,
    DEGREE,
    PERCENT,
    POWERS,
    SCALES,
    SHARES,
    TABLE,
    is_no_unit,
    is_noun,
)


class Unit(msgspec.Struct, frozen=True):
    """A unit: its kinds with their powers, such as metre 1 and second -1, and the factor to the kinds' own units.

    ``is_doubtful`` is True if its words may be no noun.
    """

    kinds: tuple[tuple[str, int], ...]
    factor: Fraction = Fraction(1)
    is_doubtful: bool = False

    @property
    def is_percent(self) -> bool:
        return self.kinds == ((PERCENT, 1),)

    @property
    def is_angle(self) -> bool:
        return self.kinds == ((DEGREE, 1),)

    @property
    def is_modulus(self) -> bool:
        return self.kinds[0][0].startswith("mod ")


_ONE_OR_LESS = re.compile(r"-?\s?(?:1(?:\.0*)?|0?\.\d+|\\frac.*|\d+\s?/\s?\d+)")
_MICRO = re.compile(rf"\\mu\s?{OPEN_WORDS}(?=(?:m|s|g|L|l|N|J|V|W|Hz|Pa|mol|eV){CLOSE_WORDS})")
_OHM = re.compile(rf"(?<=[\d}}])\s?(?:{OPEN_WORDS}(?P<prefix>[kMGm]){CLOSE_WORDS})?\s?\\Omega$")
_MIXED = re.compile(
    rf"(?P<whole>\d+)\s?(?P<large>{MARKED}|[A-Za-z]+)\s?,?\s?(?P<rest>\d+(?:\.\d+)?)\s?(?P<small>{MARKED}|[A-Za-z]+)"
)
"""Two units, the larger one first: ``5 ft 6 in``."""
_CJK = r"[\u4e00-\u9fff]++"
_EXPONENT = r"(?:\s?\^\s?(?:\{\s?-?\d\s?\}|-?\d))?"
_NAME = rf"(?:{MARKED}|{_CJK}|(?<![A-Za-z\\_{{])[A-Za-z]+)"
_SUFFIX = re.compile(rf"(?:{_NAME}{_EXPONENT}[\s/~]*+(?:\\cdot\s?)?)++")
_FRACTION = re.compile(rf"\\frac\s?\{{\s?({MARKED})\s?\}}\s?\{{\s?({MARKED}{_EXPONENT})\s?\}}$")
_LETTER = re.compile(rf"{OPEN_WORDS}([A-Za-z]){CLOSE_WORDS}")
_DEGREES = re.compile(r"(?:\^\s?\{\s?\\circ\s?\}|\^\s?\\circ|\\circ)\s?(?P<scale>[CF]|⟦[CF]⟧)?$")
_TRIGONOMETRY = re.compile(r"(?<![A-Za-z])(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_MODULUS = re.compile(r"\s*(?:\\pmod\s?\{?(?P<p>\d+)\}?|\(?\s?(?:\\bmod|\\mod|⟦mod⟧|mod)\s?\{?(?P<m>\d+)\}?\s?\)?)$")
_PART = re.compile(rf"(?P<name>{MARKED}|{_CJK}|[A-Za-z.¢°']+)(?P<power>{_EXPONENT})|(?P<per>/)|\S")
_CURRENCY = re.compile(
    rf"(?P<sign>-?)\s?{OPEN_WORDS}(?P<name>dollars|euros|pounds|yuan|Rs\.?|USD)\s?{CLOSE_WORDS}\s?(?P<value>.+)$"
)


def split_unit(text: str) -> tuple[str, Unit | None, Fraction]:
    """Return the value, the unit (None if there is none) and the scale, such as a thousand, of normalised ``text``."""
    text = _OHM.sub(
        lambda unit: f" {OPEN_WORDS}{unit['prefix'] or ''}ohm{CLOSE_WORDS}", _MICRO.sub(f"{OPEN_WORDS}u", text)
    )
    if mixed := _mixed(text):
        return mixed
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


def _mixed(text: str) -> tuple[str, Unit, Fraction] | None:
    """Return the sum of two values with units of one kind, in the smaller unit; None if ``text`` is no such sum."""
    match = _MIXED.fullmatch(text)
    units = [_known(unmarked(match[name]).strip()) for name in ("large", "small")] if match else []
    if match is None or None in units:
        return None
    (kind, power, large), (other, same, small) = cast("list[tuple[str, int, Fraction]]", units)
    if (kind, power) != (other, same) or large <= small:
        return None
    return f"{match['whole']}*{large / small}+{match['rest']}", Unit(((kind, power),), small), Fraction(1)


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
        if part["name"] is None or is_no_unit(part["name"].lower()):
            return None
        if part["name"].lower() in POWERS:
            power *= POWERS[part["name"].lower()]
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
    while words and (power := SCALES.get(_singular(words[0].lower()))):
        scale *= 10**power
        del words[0]
    if not words:
        return value, None, scale
    unit = unit_of(" ".join(words))
    if unit is None:
        return nothing
    doubtful = not _names_a_thing(words, singular=_ONE_OR_LESS.fullmatch(value) is not None)
    return value, msgspec.structs.replace(unit, is_doubtful=doubtful), scale


def _names_a_thing(words: list[str], *, singular: bool) -> bool:
    """Return whether words are known units, or have a noun in the number that suits the value."""
    first = list(
        takewhile(lambda word: word not in ("per", "a", "an", "/"), re.findall(r"[^\W\d_]+|/", " ".join(words)))
    )
    unknown = [word.lower() for word in first if _known(word) is None and word.lower() not in POWERS]
    return not unknown or any(is_noun(word, singular=singular) for word in unknown)


def _may_be_unit(suffix: str, value: str, text: str) -> bool:
    """Return whether letters behind a value are a unit, and not variables: marked as words, known, or a word."""
    bare = re.sub(rf"{MARKED}|{_CJK}", "", suffix)
    names = re.findall(r"[A-Za-z]+", bare)
    if any(letter not in TABLE for letter in _LETTER.findall(suffix)):
        return False
    spaced = text[len(value) : len(value) + 1] == " " or value[-1] in "}" + CLOSE_WORDS
    return all(
        _singular(name) in SCALES
        or name in POWERS
        or name in COMPOUND
        or (spaced and (is_word(name) or (name == "per" and len(names) > 1)))
        or (len(name) > 1 and _known(name) is not None and value[-1] in "0123456789.})")
        for name in names
    )


def _spread(text: str) -> str:
    """Return unit words without marks, and compound ones in their parts."""
    bare = text.replace(OPEN_WORDS, " ").replace(CLOSE_WORDS, " ").replace(r"\cdot", " ").replace("~", " ")
    bare = SHARES.sub(lambda run: {"cent": "percent", "mille": "permille"}.get(run["one"], "ppm"), bare)
    bare = re.sub(_CJK, lambda run: f" {CHINESE.get(run[0], run[0])} ", bare)
    bare = re.sub(r"\b(squared|cubed)\b", lambda run: {"squared": "^2", "cubed": "^3"}[run[1]], bare)
    return re.sub(r"[A-Za-z]+", lambda run: COMPOUND.get(run[0], run[0]), re.sub(r"(?<=[A-Za-z])\. ?", " ", bare))


def _known(name: str) -> tuple[str, int, Fraction] | None:
    for spelling in (name, name.lower(), _singular(name), _singular(name.lower())):
        if spelling in TABLE:
            return TABLE[spelling]
    return None


def _singular(name: str) -> str:
    if len(name) > 4 and name.endswith("ies"):
        return name[:-3] + "y"
    if len(name) > 4 and name.endswith(("ches", "shes", "xes", "sses")):
        return name[:-2]
    return name[:-1] if len(name) > 2 and name.endswith("s") and not name.endswith("ss") else name
