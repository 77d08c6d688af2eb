"""Compute the values of two expressions at enough points, with enough digits.

The values of variables are whole and others, odd and even, of both signs, small, and larger than each number of the
expressions.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from arbiter.grading.operations import MP, Number, TooLarge, Trace, evaluate, is_real, symbols
from arbiter.grading.terms import Expr

_DIGITS, _MOST_DIGITS = 50, 3000
_MOST_LOST = 5000
_MOST_LOST_AT_A_POINT = 300
_FARTHEST = 10**6
_POINTS = (
    (Fraction(17, 13), Fraction(29, 31), Fraction(5, 7), Fraction(43, 19), Fraction(11, 23), Fraction(3, 2)),
    (Fraction(7, 5), Fraction(3, 11), Fraction(41, 17), Fraction(8, 13), Fraction(31, 29), Fraction(19, 37)),
    (Fraction(23, 9), Fraction(13, 6), Fraction(37, 41), Fraction(14, 3), Fraction(2, 17), Fraction(53, 43)),
    (Fraction(-19, 12), Fraction(21, 8), Fraction(-16, 7), Fraction(5, 14), Fraction(-9, 4), Fraction(27, 26)),
    (Fraction(26, 15), Fraction(-6, 17), Fraction(12, 5), Fraction(-15, 4), Fraction(33, 28), Fraction(-4, 9)),
    (Fraction(-11, 7), Fraction(-25, 16), Fraction(-7, 9), Fraction(-18, 5), Fraction(-3, 8), Fraction(-39, 34)),
    (Fraction(5, 13), Fraction(4, 11), Fraction(6, 17), Fraction(3, 10), Fraction(2, 9), Fraction(7, 16)),
    (Fraction(-3, 8), Fraction(5, 12), Fraction(2, 7), Fraction(1, 6), Fraction(-4, 15), Fraction(3, 14)),
    (Fraction(2, 9), Fraction(-7, 15), Fraction(-1, 5), Fraction(8, 19), Fraction(5, 17), Fraction(-6, 23)),
    *(
        tuple(map(Fraction, row))
        for row in (
            (4, 2, 9, 3, 16, 5),
            (8, 3, 27, 10, 6, 7),
            (7, 4, 2, 11, 5, 12),
            (5, 9, -3, 2, 13, 8),
            (6, -7, 5, 14, 3, 10),
            (3, -5, 4, 7, 9, 2),
            (-3, 6, 11, 5, 8, 15),
            (-5, 3, 8, 9, 7, 4),
        )
    ),
)
ENOUGH = 2

Point = dict[str, Fraction]


class Sample(NamedTuple):
    """The values of two expressions at a point."""

    point: Point
    left: Number
    right: Number
    lost: int
    unreal: bool


def compared(one: Expr, other: Expr, holds: Callable[[list[Sample]], bool]) -> bool:
    """Return whether ``holds`` is true of the values that count, computed with enough digits."""
    points = _points(one, other)
    most = _MOST_LOST if len(points) == 1 else _MOST_LOST_AT_A_POINT
    digits = digits_of(one, other)
    with MP.workdps(digits):
        samples = [sample for point in points if (sample := sampled(one, other, point)) is not None]
    samples = [sample for sample in samples if sample.lost <= most]
    lost = max((sample.lost for sample in samples), default=0)
    with MP.workdps(digits + lost):
        if lost:
            again = [sampled(one, other, sample.point) for sample in samples]
            samples = [sample for sample in again if sample is not None]
        counted = _counted(one, other, samples, min(ENOUGH, len(points)))
        return counted is not None and holds(counted)


def _counted(one: Expr, other: Expr, samples: list[Sample], enough: int) -> list[Sample] | None:
    """Return the samples that must agree; None if they are too few, or only one side is real at a point.

    Without complex numbers in the texts, the real values count. Where several variables are negative, a side that is
    real only by way of complex numbers does not count: ``\\sqrt x\\sqrt y`` is ``\\sqrt{xy}``.
    """
    if len(samples) < enough:
        return None
    if enough < ENOUGH or _is_complex(one) or _is_complex(other):
        return samples
    samples = [sample for sample in samples if not (sample.unreal and _negative(sample.point) > 1)]
    kinds = [(is_real(sample.left), is_real(sample.right)) for sample in samples]
    if any(left != right for left, right in kinds):
        return None
    real = [sample for sample, (kind, _) in zip(samples, kinds, strict=True) if kind]
    if len(real) >= enough:
        return real
    return samples if len(samples) >= enough else None


def _is_complex(expression: Expr) -> bool:
    """Return whether an expression has a constant that is not real."""
    if expression.op == "i":
        return True
    if symbols(expression):
        return any(map(_is_complex, expression.args))
    value = evaluate(expression, {})
    return value is not None and not is_real(value)


def _negative(point: Point) -> int:
    return sum(value < 0 for value in point.values())


def sampled(one: Expr, other: Expr, point: Point) -> Sample | None:
    """Return both values; None where one has none. A number that is too large equals no other one."""
    values: list[Number | None] = []
    large, trace = 0, Trace()
    for expression in (one, other):
        try:
            values.append(evaluate(expression, point, trace))
        except TooLarge:
            large += 1
    if large == 2 and not point:
        raise TooLarge("the numbers are too large to compare")
    if large or None in values or (point and not all(map(_is_finite, values))):
        return None
    return Sample(point, values[0], values[1], trace.lost, trace.unreal)


def _is_finite(value: Number) -> bool:
    return isinstance(value, Fraction) or bool(MP.isfinite(value))


def _points(one: Expr, other: Expr) -> list[Point]:
    names = sorted(symbols(one) | symbols(other))
    if not names:
        return [{}]
    far = min(Fraction(_FARTHEST), max(_largest(one), _largest(other)))
    rows = (*_POINTS, [far + value for value in _POINTS[0]], [-far - value for value in _POINTS[1]])
    return [
        {name: values[index % len(values)] + index // len(values) for index, name in enumerate(names)}
        for values in rows
    ]


def _largest(expression: Expr) -> Fraction:
    """Return the largest number that an expression writes."""
    return max(abs(expression.value or Fraction(0)), *map(_largest, expression.args), Fraction(0))


def digits_of(*expressions: Expr) -> int:
    """Return with how many digits to compute expressions, so that each number keeps all of its own."""
    return min(_MOST_DIGITS, _DIGITS + 2 * max(map(_length, expressions)))


def _length(expression: Expr) -> int:
    """Return about how many digits the longest number of an expression has."""
    own = 0
    if expression.value is not None:
        own = (expression.value.numerator.bit_length() + expression.value.denominator.bit_length()) * 3 // 10
    if expression.op == "pow" and expression.args[1].op in ("num", "neg"):
        exponent = expression.args[1].args[0] if expression.args[1].op == "neg" else expression.args[1]
        if exponent.value is not None and not symbols(expression.args[0]):
            own = min(_MOST_DIGITS, (1 + _length(expression.args[0])) * int(abs(exponent.value)))
    return max(own, *(_length(arg) for arg in expression.args), 0)
