r"""Compare the values of expressions: exactly where both are exact, else to the digits that a decimal number has.

Variables get several values, with both signs. Two expressions are the same if they agree at all of them.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction

from arbiter.grading.operations import (
    MP,
    Number,
    TooLarge,
    all_rational,
    evaluate,
    inexact,
    is_integer,
    is_real,
    symbols,
)
from arbiter.grading.terms import Expr, Unreadable

_DIGITS, _MOST_DIGITS = 50, 3000
_RELATIVE = Fraction(101, 10**8)  # six digits: 0.333333 is a third
_POINTS = (
    (Fraction(17, 13), Fraction(29, 31), Fraction(5, 7), Fraction(43, 19), Fraction(11, 23), Fraction(3, 2)),
    (Fraction(7, 5), Fraction(3, 11), Fraction(41, 17), Fraction(8, 13), Fraction(31, 29), Fraction(19, 37)),
    (Fraction(23, 9), Fraction(13, 6), Fraction(37, 41), Fraction(14, 3), Fraction(2, 17), Fraction(53, 43)),
    (Fraction(-19, 12), Fraction(21, 8), Fraction(-16, 7), Fraction(5, 14), Fraction(-9, 4), Fraction(27, 26)),
    (Fraction(26, 15), Fraction(-6, 17), Fraction(12, 5), Fraction(-15, 4), Fraction(33, 28), Fraction(-4, 9)),
    (Fraction(-11, 7), Fraction(-25, 16), Fraction(-7, 9), Fraction(-18, 5), Fraction(-3, 8), Fraction(-39, 34)),
    (Fraction(4), Fraction(2), Fraction(9), Fraction(3), Fraction(16), Fraction(5)),  # floors and ceilings
    (Fraction(8), Fraction(3), Fraction(27), Fraction(10), Fraction(6), Fraction(7)),
)
_ENOUGH = 2


def same_value(one: Expr, other: Expr) -> bool:
    """Return whether two expressions have the same value, for all values of their variables.

    Raises ``TooLarge`` if both are too large to compute.
    """
    if one == other:
        return True
    names = sorted(symbols(one) | symbols(other))
    with MP.workdps(_digits(one, other)):
        return _agree(one, other, _points(names))


def proportional(one: Expr, other: Expr, *, positive: bool = False) -> bool:
    """Return whether ``one`` is ``other`` times a number that is not zero, or with ``positive`` greater than zero."""
    names = sorted(symbols(one) | symbols(other))
    ratios: list[Number] = []
    with MP.workdps(_digits(one, other)):
        for point in _points(names):
            values = _both(one, other, point)
            if values is None or not values[1]:
                continue
            left, right = values if all_rational(*values) else map(inexact, values)
            ratios.append(left / right)
        if len(ratios) < _ENOUGH or not ratios[0] or not all(_near(ratio, ratios[0]) for ratio in ratios):
            return False
        return not positive or (is_real(ratios[0]) and inexact(ratios[0]).real > 0)


def constant(expression: Expr) -> bool:
    """Return whether an expression has no variables."""
    return not symbols(expression)


def real_value(expression: Expr) -> Number:
    """Return the value of a constant expression. Raises ``Unreadable`` if it is not real or has no value."""
    with MP.workdps(_digits(expression, expression)):
        value = evaluate(expression, {})
        if value is None or not is_real(value):
            raise Unreadable("it is no real number")
        return inexact(value).real


def linear_root(expression: Expr, name: str) -> tuple[Fraction | Number, int] | None:
    """Return where a linear expression in ``name`` is zero, and the sign of its slope; None if it is not linear."""
    values = [evaluate(expression, {name: Fraction(at)}) for at in (0, 1, 2, 5)]
    known: list[Number] = [value for value in values if value is not None and is_real(value)]
    if len(known) < len(values):
        return None
    start, slope = known[0], known[1] - known[0]
    if not slope or not (_near(known[2] - known[1], slope) and _near(known[3] - known[2], 3 * slope)):
        return None
    return -start / slope, (1 if slope > 0 else -1)


def _agree(one: Expr, other: Expr, points: list[dict[str, Fraction]]) -> bool:
    pairs = [values for point in points if (values := _both(one, other, point)) is not None]
    real = [(left, right) for left, right in pairs if is_real(left) and is_real(right)]
    counted = real if len(real) >= min(_ENOUGH, len(points)) else pairs
    if len(counted) < min(_ENOUGH, len(points)):
        return False
    tolerance = _tolerance(one, other)
    return all(tolerance(left, right) or _vanishes(one, other, left, right) for left, right in counted)


def _both(one: Expr, other: Expr, point: Mapping[str, Fraction]) -> tuple[Number, Number] | None:
    """Return both values; None where one has none. A number that is too large equals no other one."""
    left = right = None
    large = 0
    try:
        left = evaluate(one, point)
    except TooLarge:
        large += 1
    try:
        right = evaluate(other, point)
    except TooLarge:
        large += 1
    if large == 2:
        raise TooLarge("the numbers are too large to compare")
    return None if left is None or right is None else (left, right)


def _vanishes(one: Expr, other: Expr, left: Number, right: Number) -> bool:
    """Return whether a constant difference is zero: with twice the digits it is smaller by as many digits."""
    if all_rational(left, right) or symbols(one) or symbols(other):
        return False
    difference, digits = abs(inexact(left) - inexact(right)), MP.dps
    if difference > inexact(10) ** (-digits // 2):
        return False
    with MP.workdps(2 * digits):
        again, least = _both(one, other, {}), inexact(10) ** (-digits // 2)
        return again is not None and abs(inexact(again[0]) - inexact(again[1])) <= difference * least


def _tolerance(one: Expr, other: Expr) -> Callable[[Number, Number], bool]:
    """Return the comparison of two values that suits the decimals of the two expressions."""
    decimals = [_decimals(one), _decimals(other)]
    if not _has_decimals(one) and not _has_decimals(other):
        return _near
    plain = [count for count in decimals if count is not None]

    def within(left: Number, right: Number) -> bool:
        if _near(left, right):
            return True
        if is_integer(left) and is_integer(right):
            return False
        difference, size = abs(inexact(left) - inexact(right)), min(abs(inexact(left)), abs(inexact(right)))
        if difference > size * inexact(_RELATIVE):
            return False
        if not plain:
            return symbols(one) != frozenset() or difference <= inexact(10) ** -6
        last = inexact(10) ** -min(plain)
        return bool(difference <= (last * 50001 / 100000 if len(plain) == 2 else last))

    return within


def _decimals(expression: Expr) -> int | None:
    """Return the decimals of a decimal number; None for any other expression."""
    while expression.op == "neg":
        expression = expression.args[0]
    return expression.decimals if expression.op == "num" else None


def _has_decimals(expression: Expr) -> bool:
    return expression.decimals is not None or any(_has_decimals(arg) for arg in expression.args)


def _near(left: Number, right: Number) -> bool:
    if all_rational(left, right):
        return left == right
    left, right = inexact(left), inexact(right)
    if left == right:
        return True
    if not (MP.isfinite(left) and MP.isfinite(right)):
        return False
    return bool(abs(left - right) <= max(abs(left), abs(right)) * inexact(10) ** (15 - MP.dps))


def _points(names: list[str]) -> list[dict[str, Fraction]]:
    if not names:
        return [{}]
    return [
        {name: values[index % len(values)] + index // len(values) for index, name in enumerate(names)}
        for values in _POINTS
    ]


def _digits(*expressions: Expr) -> int:
    return min(_MOST_DIGITS, _DIGITS + 2 * max(map(_length, expressions)))


def _length(expression: Expr) -> int:
    """Return about how many digits the longest number of an expression has."""
    own = 0
    if expression.value is not None:
        own = len(str(expression.value.numerator)) + len(str(expression.value.denominator)) - 2
    if expression.op == "pow" and expression.args[1].op in ("num", "neg"):
        exponent = expression.args[1].args[0] if expression.args[1].op == "neg" else expression.args[1]
        if exponent.value is not None and constant(expression.args[0]):
            own = min(_MOST_DIGITS, (1 + _length(expression.args[0])) * int(abs(exponent.value)))
    return max(own, *(_length(arg) for arg in expression.args), 0)
