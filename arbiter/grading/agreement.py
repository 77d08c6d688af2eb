"""Decide whether two readings say the same. A false right is worse than a false wrong: what is unclear differs."""

from collections.abc import Sequence
from fractions import Fraction

from arbiter.grading.arithmetic import proportional, same_value
from arbiter.grading.readings import (
    Alternatives,
    Based,
    Clock,
    Matrix,
    Named,
    OrderedItems,
    Ratio,
    Reading,
    Region,
    Relation,
    UnorderedItems,
    Value,
    Words,
)
from arbiter.grading.regions import members, region_of, same_region
from arbiter.grading.terms import Expr, Unreadable, whole
from arbiter.grading.units import Unit

_RADIANS = Expr("div", (Expr("pi"), whole(180)))


def agree(answer: Reading, expected: Reading) -> bool:
    """Return whether ``answer`` says what ``expected`` says. A unit, a base or a name may be missing in the answer."""
    match answer, expected:
        case (Alternatives(readings=readings), _):
            return any(agree(reading, expected) for reading in readings)
        case (_, Alternatives(readings=readings)):
            return any(agree(answer, reading) for reading in readings)
        case (Named(), _) | (_, Named()):
            return _named(answer, expected)
        case (Value(), Value()):
            return _values(answer, expected)
        case (Based(), _) | (_, Based()):
            return _based(answer, expected)
        case (Clock() | Ratio(), Clock() | Ratio()):
            return _times(answer, expected)
        case (Value(), Ratio()):
            return _quotient(expected, answer)
        case (Ratio(), Value()):
            return _quotient(answer, expected)
        case (Matrix(), Matrix()):
            return [len(row) for row in answer.rows] == [len(row) for row in expected.rows] and all(
                _each(one, other) for one, other in zip(answer.rows, expected.rows, strict=True)
            )
        case (Relation(), Relation()):
            return answer.sign == expected.sign and proportional(
                answer.difference, expected.difference, positive=answer.sign in ("<", r"\le")
            )
        case (Words(), Words()):
            return answer.text == expected.text
        case _:
            return _collections(answer, expected)


def _quotient(ratio: Ratio, value: Value) -> bool:
    return value.unit is None and len(ratio.parts) == 2 and same_value(value.expression, Expr("div", ratio.parts))


def _collections(answer: Reading, expected: Reading) -> bool:
    match answer, expected:
        case (OrderedItems(), OrderedItems()):
            return answer.opened == expected.opened and _each(answer.items, expected.items)
        case (Region(), _) | (_, Region()):
            return _regions(answer, expected)
        case (UnorderedItems(braces=False), OrderedItems()):  # the brackets are missing
            return _each(answer.items, expected.items)
        case (OrderedItems(opened="[", items=items), UnorderedItems(braces=False)) if (
            len(items) > 2
        ):  # a list as programs print it
            return _paired(items, expected.items)
        case (UnorderedItems(), UnorderedItems()):
            if answer.braces or expected.braces:
                return _paired(_distinct(answer.items), _distinct(expected.items))
            repeated = len(answer.items) > len(expected.items)  # a repeated answer counts once
            return _paired(_distinct(answer.items) if repeated else answer.items, expected.items)
        case (UnorderedItems(items=(one,)), Value()):
            return agree(one, expected)
        case (Value(), UnorderedItems(items=(one,))):
            return agree(answer, one)
        case _:
            return False


def _named(answer: Reading, expected: Reading) -> bool:
    match answer, expected:
        case (Named(), Named()):
            if answer.name == expected.name and agree(answer.reading, expected.reading):
                return True
            one, other = answer.equation, expected.equation
            return one is not None and other is not None and agree(one, other)
        case (Named(equation=Relation() as equation), Relation()):
            return agree(equation, expected)
        case (Relation(), Named(equation=Relation() as equation)):
            return agree(answer, equation)
        case (Named(reading=reading), Region()):
            return agree(reading, expected)
        case (Named(reading=reading), _):
            return agree(reading, expected)
        case (_, Named(reading=reading)):
            return agree(answer, reading)
        case _:
            return False


def _values(answer: Value, expected: Value) -> bool:
    one, other = answer.unit, expected.unit
    if one is not None and other is not None:
        if one.kinds != other.kinds:
            return False
        return same_value(_scaled(answer.expression, one.factor), _scaled(expected.expression, other.factor))
    if same_value(answer.expression, expected.expression):
        return True
    if one is not None:
        return _without_unit(answer.expression, one, expected.expression)
    return other is not None and _without_unit(expected.expression, other, answer.expression)


def _without_unit(value: Expr, unit: Unit, bare: Expr) -> bool:
    """Return whether a percentage is the bare share, or degrees are the bare radians."""
    if unit.is_percent:
        return same_value(Expr("div", (value, whole(100))), bare)
    return unit.is_angle and same_value(Expr("mul", (value, _RADIANS)), bare)


def _scaled(expression: Expr, factor: Fraction) -> Expr:
    return expression if factor == 1 else Expr("mul", (expression, whole(factor)))


def _based(answer: Reading, expected: Reading) -> bool:
    match answer, expected:
        case (Based(), Based()):
            return answer == expected
        case (Value(unit=None), Based()):  # the base is missing
            return answer.digits == expected.digits
        case (Based(base=10), Value(unit=None)):
            return answer.digits == expected.digits
        case _:
            return False


def _times(answer: Clock | Ratio, expected: Clock | Ratio) -> bool:
    one = answer if isinstance(answer, Clock) else answer.clock
    other = expected if isinstance(expected, Clock) else expected.clock
    if one is not None and other is not None:
        return _same_time(one, other)
    if isinstance(answer, Clock) or isinstance(expected, Clock) or len(answer.parts) != len(expected.parts):
        return False
    return all(
        same_value(Expr("mul", (left, expected.parts[0])), Expr("mul", (right, answer.parts[0])))
        for left, right in zip(answer.parts, expected.parts, strict=True)
    )


def _same_time(answer: Clock, expected: Clock) -> bool:
    if (answer.minute, answer.second) != (expected.minute, expected.second):
        return False
    if answer.half and expected.half:
        return _hour(answer) == _hour(expected)
    if expected.half:
        return _hour(answer) == _hour(expected) and not 1 <= answer.hour <= 12
    return expected.hour in ({answer.hour, _hour(answer)} if answer.half else {answer.hour})


def _hour(clock: Clock) -> int:
    return clock.hour % 12 + (12 if clock.half == "pm" else 0) if clock.half else clock.hour % 24


def _regions(answer: Reading, expected: Reading) -> bool:
    try:
        if isinstance(answer, Region) and isinstance(expected, Region):
            return same_region(answer, expected)
        if isinstance(answer, OrderedItems) or isinstance(expected, OrderedItems):
            return same_region(region_of(answer), region_of(expected))
    except Unreadable:
        return False
    finite = [members(reading) if isinstance(reading, Region) else reading for reading in (answer, expected)]
    one, other = finite
    return isinstance(one, UnorderedItems) and isinstance(other, UnorderedItems) and agree(one, other)


def _each(answers: Sequence[Reading], expected: Sequence[Reading]) -> bool:
    return len(answers) == len(expected) and all(map(agree, answers, expected))


def _paired(answers: Sequence[Reading], expected: Sequence[Reading]) -> bool:
    """Return whether the answers match the expected ones one to one, in any order."""
    if len(answers) != len(expected):
        return False
    left = list(answers)
    for wanted in expected:
        found = next((at for at, given in enumerate(left) if agree(given, wanted)), None)
        if found is None:
            return False
        del left[found]
    return True


def _distinct(items: Sequence[Reading]) -> list[Reading]:
    kept: list[Reading] = []
    for item in items:
        if not any(agree(item, other) for other in kept):
            kept.append(item)
    return kept
