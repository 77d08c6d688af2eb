"""Decide whether two readings say the same. A false right is worse than a false wrong: what is unclear differs."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise

from arbiter.grading.arithmetic import constant, proportional, real_value, same_value
from arbiter.grading.naming import are_numbered, ordered_values, unfolded
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

_MOST_TRIES = 60  # items that are compared with all others
_NOWHERE = Region(())
_RADIANS = Expr("div", (Expr("pi"), whole(180)))


def agree(answer: Reading, expected: Reading) -> bool:
    """Return whether ``answer`` says what ``expected`` says. A unit, a base or a name may be missing in the answer."""
    match answer, expected:
        case (UnorderedItems(items=(one,)), Value()):
            return agree(one, expected)
        case (Value(), UnorderedItems(items=(one,))):
            return agree(answer, one)
        case _:
            return _same(unfolded(answer), unfolded(expected))


def _same(answer: Reading, expected: Reading) -> bool:
    """Return whether two readings agree, also as members of lists: there ``{2}`` is not 2."""
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
        case (UnorderedItems(braces=False, choice=False), OrderedItems()):  # the brackets are missing
            values = ordered_values(answer.items) or answer.items
            return not _may_be_closed_interval(expected) and _each(values, expected.items)
        case (OrderedItems(opened="[", items=items), UnorderedItems(braces=False)) if (
            len(items) > 2
        ):  # a list as programs print it
            return _paired(items, expected.items)
        case (OrderedItems(opened="("), UnorderedItems(braces=False)) if values := ordered_values(expected.items):
            return _each(answer.items, values)
        case (OrderedItems(opened="(", items=items), Matrix(rows=rows)) if _is_column(rows):
            return _each(items, [row[0] for row in rows])
        case (Matrix(rows=rows), OrderedItems(opened="(", items=items)) if _is_column(rows):
            return _each([row[0] for row in rows], items)
        case (UnorderedItems(), UnorderedItems()):
            return _lists(answer, expected)
        case _:
            return False


def _is_column(rows: Sequence[Sequence[Reading]]) -> bool:
    return all(len(row) == 1 for row in rows)


def _may_be_closed_interval(items: OrderedItems) -> bool:
    return items.opened == "[" and len(items.items) == 2


def _lists(answer: UnorderedItems, expected: UnorderedItems) -> bool:
    """Compare two lists or sets. If one of them gives several names their values, the order stands for the names."""
    named, wanted = ordered_values(answer.items), ordered_values(expected.items)
    if named is not None and wanted is not None:
        return answer.choice == expected.choice and _paired(answer.items, expected.items)
    if named is None and wanted is None:
        return _paired(*(_distinct(side.items) if side.braces else side.items for side in (answer, expected)))
    if any(side.braces or side.choice for side in (answer, expected)):
        return False
    if named and are_numbered(answer.items):
        return _paired(named, expected.items)
    return _each(named or answer.items, wanted or expected.items)


def _named(answer: Reading, expected: Reading) -> bool:
    match answer, expected:
        case (Value(unit=None) | Named(reading=Value(unit=None)), Named(reading=Value(unit=Unit(is_modulus=True)))):
            return False  # of the numbers with this rest, the answer names one
        case (Named(), Named()):
            if answer.name == expected.name and agree(answer.reading, expected.reading):
                return True
            one, other = answer.equation, expected.equation
            return one is not None and other is not None and agree(one, other)
        case (Named(equation=Relation() as equation), Relation()):
            return agree(equation, expected)
        case (Relation(), Named(equation=Relation() as equation)):
            return agree(answer, equation)
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
    if one is not None:  # the reference has no unit
        if one.is_doubtful:
            return False
        converted = _without_unit(answer.expression, one, expected.expression)
        other_unit = (
            one.factor != 1 or _may_be_share(expected.expression)
            if one.is_percent
            else one.is_angle and _has_pi(expected.expression)
        )
        return converted or (not other_unit and same_value(answer.expression, expected.expression))
    if same_value(answer.expression, expected.expression):
        return True
    return other is not None and _without_unit(expected.expression, other, answer.expression)


def _may_be_share(expression: Expr) -> bool:
    """Return whether a value without a unit may be a share, and not a percentage: it is at most 1, or not known."""
    with suppress(Unreadable):
        return not constant(expression) or bool(real_value(expression) <= 1)
    return True


def _has_pi(expression: Expr) -> bool:
    return expression.op == "pi" or any(map(_has_pi, expression.args))


def _without_unit(value: Expr, unit: Unit, bare: Expr) -> bool:
    """Return whether a percentage is the bare share, or degrees are the bare radians."""
    if unit.is_percent:
        return same_value(Expr("mul", (value, whole(unit.factor / 100))), bare)
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
            one, other = region_of(answer), region_of(expected)
            return same_region(one, other) and not same_region(one, _NOWHERE)  # (5, 1) is no interval
    except Unreadable:
        return False
    finite = [members(reading) if isinstance(reading, Region) else reading for reading in (answer, expected)]
    one, other = finite
    return isinstance(one, UnorderedItems) and isinstance(other, UnorderedItems) and agree(one, other)


def _each(answers: Sequence[Reading], expected: Sequence[Reading]) -> bool:
    return len(answers) == len(expected) and all(map(_same, map(unfolded, answers), map(unfolded, expected)))


def _paired(answers: Sequence[Reading], expected: Sequence[Reading]) -> bool:
    """Return whether the answers match the expected ones one to one, in any order.

    Long lists that cannot be sorted by their values count as different: comparing all items takes too long.
    """
    if len(answers) != len(expected):
        return False
    given, wanted = Counter(answers), Counter(expected)
    left, missing = list((given - wanted).elements()), list((wanted - given).elements())
    if len(left) > _MOST_TRIES:
        values = _by_value(left), _by_value(missing)
        return all(values) and _each(*values)
    for item in missing:
        found = next((at for at, answer in enumerate(left) if _each([answer], [item])), None)
        if found is None:
            return False
        del left[found]
    return True


def _distinct(items: Sequence[Reading]) -> list[Reading]:
    found = list(dict.fromkeys(items))
    if len(found) > _MOST_TRIES:  # equal ones are next to each other
        ordered = _by_value(found) or found
        return ordered[:1] + [item for before, item in pairwise(ordered) if not _each([before], [item])]
    kept: list[Reading] = []
    for item in found:
        if not any(_each([item], [other]) for other in kept):
            kept.append(item)
    return kept


def _by_value(items: Sequence[Reading]) -> list[Reading]:
    """Return numbers in the order of their values; an empty list if an item is no real number."""
    values: list[tuple[float, int]] = []
    with suppress(Unreadable, OverflowError):
        for at, item in enumerate(items):
            if not isinstance(item, Value) or not constant(item.expression):
                return []
            factor = item.unit.factor if item.unit else 1
            values.append((float(real_value(item.expression)) * float(factor), at))
        return [items[at] for _, at in sorted(values)]
    return []
