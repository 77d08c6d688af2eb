r"""Compare the values of expressions: exactly where both are exact, else to the digits that a decimal number has.

Two expressions with variables are the same if they agree at all points of ``sample_points``, and neither is real where
the other is not.
"""

from collections.abc import Callable
from fractions import Fraction

from arbiter.grading.operations import (
    MP,
    Number,
    all_rational,
    evaluate,
    inexact,
    is_integer,
    is_real,
    symbols,
)
from arbiter.grading.sample_points import ENOUGH, Sample, compared, digits_of, sampled
from arbiter.grading.terms import Expr, Unreadable, signs_of

_RELATIVE = Fraction(101, 10**8)  # six digits: 0.333333 is a third
_SIX_DECIMALS = Fraction(1, 10**6)
_NEAR_AND_WIDE = (Fraction(0), Fraction(1), Fraction(2), Fraction(5), Fraction(-7, 3), Fraction(26, 15))


def same_value(one: Expr, other: Expr) -> bool:
    """Return whether two expressions have the same value, for all values of their variables.

    Numbers that are too large for all their digits differ. Raises ``TooLarge`` if both are too large to compute.
    """

    def holds(samples: list[Sample]) -> bool:
        tolerance = _tolerance(one, other)
        return all(tolerance(found.left, found.right) or _vanishes(one, other, found) for found in samples)

    if one == other:
        return True
    if one.op == other.op == "num" and one.decimals is None and other.decimals is None:
        return False
    return compared(one, other, holds)


def proportional(one: Expr, other: Expr, *, positive: bool = False) -> bool:
    """Return whether ``one`` is ``other`` times a number that is not zero, or with ``positive`` greater than zero.

    With a plus-minus sign, each of the two expressions that it stands for has its counterpart.
    """
    signed, others = signs_of(one), signs_of(other)
    if len(signed) > 1 or len(others) > 1:
        matches = [[proportional(left, right, positive=positive) for right in others] for left in signed]
        return all(map(any, matches)) and all(map(any, zip(*matches, strict=True)))

    def holds(samples: list[Sample]) -> bool:
        ratios: list[Number] = []
        for _, left, right, _, _ in samples:
            if right:
                ratios.append(left / right if all_rational(left, right) else inexact(left) / inexact(right))
        if len(ratios) < ENOUGH or not ratios[0] or not all(_near(ratio, ratios[0]) for ratio in ratios):
            return False
        return not positive or (is_real(ratios[0]) and inexact(ratios[0]).real > 0)

    return one == other or compared(one, other, holds)


def constant(expression: Expr) -> bool:
    """Return whether an expression has no variables."""
    return not symbols(expression)


def real_value(expression: Expr) -> Number:
    """Return the value of a constant expression. Raises ``Unreadable`` if it is not real or has no value."""
    with MP.workdps(digits_of(expression, expression)):
        value = evaluate(expression, {})
        if value is None or not is_real(value):
            raise Unreadable("it is no real number")
        return inexact(value).real


def linear_root(expression: Expr, name: str) -> tuple[Fraction | Number, int] | None:
    """Return where a linear expression in ``name`` is zero, and the sign of its slope; None if it is not linear."""
    with MP.workdps(digits_of(expression)):
        values = [evaluate(expression, {name: at}) for at in _NEAR_AND_WIDE]
        known: list[Number] = [value for value in values if value is not None and is_real(value)]
        if len(known) < len(values):
            return None
        start, slope = known[0], known[1] - known[0]
        if not slope or not all(
            _near(value - start, inexact(at) * slope if not all_rational(slope) else at * slope)
            for value, at in zip(known, _NEAR_AND_WIDE, strict=True)
        ):
            return None
        return -start / slope, (1 if inexact(slope).real > 0 else -1)


def _vanishes(one: Expr, other: Expr, sample: Sample) -> bool:
    """Return whether the difference is zero: with twice the digits it is smaller by as many digits."""
    if all_rational(sample.left, sample.right):
        return False
    difference, digits = abs(inexact(sample.left) - inexact(sample.right)), MP.dps
    if not MP.isfinite(difference) or difference > inexact(10) ** (-digits // 2):
        return False
    with MP.workdps(2 * digits):
        again, least = sampled(one, other, sample.point), inexact(10) ** (-digits // 2)
        return again is not None and abs(inexact(again.left) - inexact(again.right)) <= difference * least


def _tolerance(one: Expr, other: Expr) -> Callable[[Number, Number], bool]:
    """Return the comparison of two values that suits the decimals of the two expressions."""
    decimals = [_decimals(one), _decimals(other)]
    if not _has_decimals(one) and not _has_decimals(other):
        return _near
    plain = [count for count in decimals if count is not None]
    names = symbols(one) | symbols(other)

    def within(left: Number, right: Number) -> bool:
        if _near(left, right):
            return True
        if is_integer(left) and is_integer(right):
            return False
        difference, size = _difference(left, right), min(abs(left), abs(right), key=inexact)
        if inexact(difference) > inexact(size) * inexact(_RELATIVE):
            return False
        if len(plain) == 2:
            return bool(inexact(difference) <= inexact(Fraction(50001, 100000) / Fraction(10) ** min(plain)))
        last = Fraction(1) / Fraction(10) ** plain[0] if plain else _SIX_DECIMALS
        if not plain and names:
            return True
        return difference < last if all_rational(difference) else bool(difference < inexact(last))

    return within


def _difference(left: Number, right: Number) -> Number:
    return abs(left - right if all_rational(left, right) else inexact(left) - inexact(right))


def _decimals(expression: Expr) -> int | None:
    """Return the decimals of a decimal number, also of a percentage; None for any other expression."""
    if expression.op == "neg":
        return _decimals(expression.args[0])
    if expression.op in ("mul", "div"):
        decimals, power = _decimals(expression.args[0]), _power_of_ten(expression.args[1].value)
        if decimals is None or power is None:
            return None
        return decimals - power if expression.op == "mul" else decimals + power
    return expression.decimals if expression.op == "num" else None


def _power_of_ten(value: Fraction | None) -> int | None:
    powers = {Fraction(10) ** power: power for power in range(-9, 10)}
    return None if value is None else powers.get(value)


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
