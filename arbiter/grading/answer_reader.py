r"""Read a whole answer: lists, sets, intervals, relations, times and words; what is left is an expression."""

import re
from collections.abc import Callable

import msgspec

from arbiter.grading.arithmetic import constant, same_value
from arbiter.grading.atoms import based, clock, name_of, ratio, words
from arbiter.grading.expressions import parse_expression
from arbiter.grading.naming import listed
from arbiter.grading.operations import evaluate
from arbiter.grading.readings import (
    EMPTY,
    REALS,
    Alternatives,
    Matrix,
    Named,
    OrderedItems,
    Reading,
    Region,
    Relation,
    UnorderedItems,
    Value,
    Words,
)
from arbiter.grading.regions import difference_of, intersection, interval, members, region_of, solved, union
from arbiter.grading.spelling import CLOSE_WORDS, OPEN_WORDS
from arbiter.grading.structure import bracketed, split_at
from arbiter.grading.terms import Expr, Style, Unreadable, signs_of, whole
from arbiter.grading.units import DEGREE, Unit, split_unit

_OR, _AND = "\u2228", "\u2227"
_CONNECTIVE = re.compile(
    rf"\s*,?\s*(?:{OPEN_WORDS}\s*,?\s*(?P<marked>or|and|OR|AND|Or|And|\u6216|\u6216\u8005|\u548c|\u4e0e)\s*,?\s*{CLOSE_WORDS}"
    r"|(?<![A-Za-z\\])(?P<bare>or|and)(?![A-Za-z])|(?P<han>\u6216\u8005?|\u548c|\u4e0e))\s*,?\s*"
)
_SIGNS = {"=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\notin", r"\approx", r"\equiv"}
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_MATRIX = re.compile(
    r"\\begin\{[pbB]?(?:small)?matrix\}(?P<rows>.*)\\end\{[pbB]?(?:small)?matrix\}|"
    r"\\begin\{array\}\{[^{}]*\}(?P<array>.*)\\end\{array\}",
    re.DOTALL,
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SETS = {r"\mathbb{R}": REALS, r"\Reals": REALS, r"\emptyset": EMPTY}


def read(text: str, style: Style) -> Reading:
    """Return what normalised ``text`` says. Raises ``Unreadable``, or ``TooLarge`` for a number of an interval."""
    text = _CONNECTIVE.sub(_connective, _trimmed(text))
    choices, _ = split_at(text, {_OR})
    readings = [_all_of(choice, style) for choice in choices if choice]
    if not readings:
        raise Unreadable("there is no text")
    if len(readings) == 1:
        return readings[0]
    if any(isinstance(reading, Region) for reading in readings):
        return union([region_of(reading) for reading in readings])
    return listed(readings, choice=True)


def _all_of(text: str, style: Style) -> Reading:
    """Read what is joined by commas, semicolons or "and": a list, or conditions on the same number."""
    parts, found = _parts(text, style)
    readings = [_item(part, style) for part in parts if part]
    if not readings:
        raise Unreadable("there is nothing between the separators")
    if len(readings) == 1:
        return readings[0]
    regions = [reading for reading in readings if isinstance(reading, Region)]
    if len(regions) == len(readings):
        if any(reading.variable for reading in regions):
            both = intersection(regions)  # without a word between them, conditions may also be two cases
            return both if _AND in found or members(both) != EMPTY else union(regions)
        return union(regions) if set(found) == {_AND} else listed(list(readings))
    return listed(readings)


def _parts(text: str, style: Style) -> tuple[list[str], list[str]]:
    """Split at commas, semicolons and "and", but not at the commas of a number such as ``1,350``."""
    marked = _THOUSANDS.sub("\x00", text) if style.thousands else text
    parts, found = split_at(marked, {",", ";", _AND})
    return [part.replace("\x00", ",") for part in parts], found


def _in_brackets(inside: str, style: Style) -> Style:
    """Return how to read what is in brackets: ``(312,123)`` is a pair, ``(1,000, 2,000)`` as well."""
    return msgspec.structs.replace(style, thousands=style.thousands and ", " in inside)


def _item(text: str, style: Style) -> Reading:
    text = _trimmed(text)
    if text in _SETS:
        return _SETS[text]
    if text in (r"\mathbb{Z}", r"\mathbb{N}", r"\mathbb{Q}", r"\mathbb{C}"):
        return Words(text)
    for separator, join in _SET_OPERATIONS.items():
        parts, found = split_at(text, {separator})
        if found:
            return join([region_of(_item(part, style)) for part in parts])
    parts, signs = split_at(text, _SIGNS)
    if signs:
        return _related(parts, signs, style)
    for reader in (words, clock, ratio, based, _matrix, _enclosed):
        reading = reader(text, style)
        if reading is not None:
            return reading
    return _value(text, style)


_SET_OPERATIONS: dict[str, Callable[[list[Region]], Region]] = {
    r"\cup": union,
    r"\cap": intersection,
    r"\setminus": difference_of,
}


def _related(parts: list[str], signs: list[str], style: Style) -> Reading:
    if signs == [r"\approx"] and not parts[0]:
        return _item(parts[1], style)
    if set(signs) <= {"=", r"\approx", r"\equiv"}:
        return _equal(parts, signs, style)
    if signs in ([r"\in"], [r"\notin"]):
        inside = region_of(_item(parts[1], style))
        inside = inside if signs == [r"\in"] else difference_of([REALS, inside])
        return Region(inside.pieces, parts[0].replace(" ", ""), inside.integers)
    sides = [_plain(part, style) for part in parts]
    chain = len(signs) > 1
    relations = [
        _relation(left, sign, right, chain) for left, sign, right in zip(sides, signs, sides[1:], strict=False)
    ]
    if len(relations) == 1:
        return relations[0]
    regions = [relation for relation in relations if isinstance(relation, Region)]
    if len(regions) < len(relations):
        raise Unreadable("a chain of relations that is no interval")
    return intersection(regions)


def _relation(left: Expr, sign: str, right: Expr, chain: bool) -> Region | Relation:
    if sign in (">", r"\ge"):
        left, sign, right = right, _FLIPPED[sign], left
    found = solved(left, sign, right, symbolic=chain)
    return found or Relation(sign, Expr("add", (left, Expr("neg", (right,)))))


def _equal(parts: list[str], signs: list[str], style: Style) -> Reading:
    """Read an equation: a name and its value, a true chain of numbers, or a relation."""
    name = name_of(parts[0])
    if name is None and len(parts) == 2 and signs == ["="] and (name := name_of(parts[1])):
        parts = [parts[1], parts[0]]
    if name is None:
        return _unnamed(parts, signs, style)
    if len(parts) > 2 and all(name_of(part) for part in parts[:-1]):
        parts, signs = [parts[0], parts[-1]], ["="]
    reading = _chain(parts[1:], signs[1:], style)
    equation = None
    if len(parts) == 2 and isinstance(reading, Value) and reading.unit is None:
        equation = _equation(parts[0], reading.expression, style)
    return Named(name, reading, equation)


def _unnamed(parts: list[str], signs: list[str], style: Style) -> Reading:
    sides = [_plain(part, style) for part in parts]
    if all(constant(side) for side in sides):
        return _chain(parts, signs, style)
    if len(parts) != 2:
        raise Unreadable("a chain of equations")
    return Relation("=", Expr("add", (sides[0], Expr("neg", (sides[1],)))))


def _equation(left: str, right: Expr, style: Style) -> Relation | None:
    try:
        return Relation("=", Expr("add", (_plain(left, style), Expr("neg", (right,)))))
    except Unreadable:
        return None


def _chain(parts: list[str], signs: list[str], style: Style) -> Reading:
    """Read values that are said to be equal. Raises ``Unreadable`` if two constant ones are not."""
    readings = [_all_of(part, style) for part in parts]
    if len(readings) == 1:
        return readings[0]
    values = [reading for reading in readings if isinstance(reading, Value)]
    if len(values) < len(readings):
        raise Unreadable("a chain of equations that are no values")
    constants = [value.expression for value in values if constant(value.expression)]
    for left, sign, right in zip(constants, signs, constants[1:], strict=False):
        if not (_roughly(left, right) if sign == r"\approx" else same_value(left, right)):
            raise Unreadable("an equation that is not true")
    kept = [values[-1], *(values[at] for at, sign in enumerate(signs) if sign == r"\approx")]
    return kept[0] if len(kept) == 1 else Alternatives(tuple(kept))


def _roughly(left: Expr, right: Expr) -> bool:
    one, other = evaluate(left, {}), evaluate(right, {})
    return one is not None and other is not None and abs(complex(one - other)) <= abs(complex(other)) / 100


def _plain(text: str, style: Style) -> Expr:
    return parse_expression(text, style)[0]


def _matrix(text: str, style: Style) -> Reading | None:
    match = _MATRIX.fullmatch(text)
    if match is None:
        return None
    rows = [row for row in split_at(match["rows"] or match["array"] or "", {r"\\"})[0] if row]
    return Matrix(tuple(tuple(_item(cell, style) for cell in split_at(row, {"&"})[0]) for row in rows))


def _enclosed(text: str, style: Style) -> Reading | None:
    found = bracketed(text)
    if found is None:
        return None
    opening, inside, closing = found
    if opening == "{":
        return read(inside, style)
    if opening == r"\{":
        return _set(inside, style)
    parts = _parts(inside, _in_brackets(inside, style))[0]
    if len(parts) == 1:
        if (
            opening == "("
            and closing == ")"
            and (bracketed(inside) or split_at(inside, _SIGNS)[1] or r"\cup" in inside)
        ):
            return read(inside, style)
        return None
    items = tuple(_item(part, style) for part in parts)
    ends = [item.expression for item in items if isinstance(item, Value)]
    if len(parts) == 2 and len(ends) == 2:
        unbounded = any(end.op == "inf" or (end.op == "neg" and end.args[0].op == "inf") for end in ends)
        if unbounded or {"(": ")", "[": "]"}.get(opening, closing) != closing:
            return Region((interval(ends[0], ends[1], opening == "[", closing == "]"),))
    return OrderedItems("(" if opening == r"\langle" else opening, items)


def _set(inside: str, style: Style) -> Reading:
    """Read the inside of braces: the members, or the condition on them."""
    for separator in (r"\mid", "|", ":"):
        parts, found = split_at(inside, {separator})
        if len(found) == 1 and (built := _built(parts[0], parts[1], style)):
            return built
    if inside.strip() in (r"\emptyset", ""):
        return EMPTY if not inside.strip() else UnorderedItems((EMPTY,), braces=True)
    reading = _all_of(_CONNECTIVE.sub(_connective, inside), _in_brackets(inside, style))
    if isinstance(reading, Region):
        return reading
    return UnorderedItems(
        reading.items if isinstance(reading, UnorderedItems) and not reading.braces else (reading,), braces=True
    )


def _built(member: str, condition: str, style: Style) -> Reading | None:
    parts, signs = split_at(member, {r"\in"})
    name = name_of(parts[0])
    if name is None:
        return None
    region = region_of(read(condition, style))
    domain = parts[1] if signs else r"\mathbb{R}"
    if region.variable not in ("", name):
        return None
    if domain in (r"\mathbb{R}", r"\Reals"):
        return Region(region.pieces, "", region.integers)
    if domain == r"\mathbb{Z}":
        return Region(region.pieces, "", integers=True)
    if domain == r"\mathbb{N}":
        return intersection(
            [Region(region.pieces, "", integers=True), Region((interval(whole(1), None, True, False),))]
        )
    return None


def _value(text: str, style: Style) -> Reading:
    value, unit, scale = split_unit(text)
    expression, degrees = parse_expression(value, style)
    if scale != 1:
        expression = Expr("mul", (expression, whole(scale)))
    if degrees and unit is None:
        unit = Unit(((DEGREE, 1),))
    digits = value.strip("() ").lstrip("0") or "0"
    values = [Value(signed, unit, digits if digits.isalnum() else "") for signed in signs_of(expression)]
    return values[0] if len(values) == 1 else UnorderedItems(tuple(values), choice=True)


def _trimmed(text: str) -> str:
    text = text.strip()
    while text and text[-1] in ".,;:" and not text.endswith("..."):
        text = text[:-1].rstrip()
    return text


def _connective(match: re.Match[str]) -> str:
    word = match["marked"] or match["bare"] or match["han"]
    return f" {_OR} " if word.lower() in ("or", "\u6216", "\u6216\u8005") else f" {_AND} "
