"""Evaluate expressions: exactly while the values are rational, else with ``mpmath``."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, cast

import mpmath  # pyright: ignore[reportMissingTypeStubs]

from arbiter.grading.terms import Expr

Number = Any
"""A ``Fraction`` where the value is rational and small enough to be exact, else a number of ``mpmath``."""

MP = cast("Any", mpmath).mp
"""The context that computes. Its precision is that of the caller's ``MP.workdps``."""
_EXACT_BITS = 300_000
_LARGEST_FACTORIAL = 20_000
_DIGITS_OF_A_BIT = 0.30103
_LARGEST_LOG = 10**10


class TooLarge(Exception):  # noqa: N818 - the name describes the number
    """A number is too large to compute."""


class Trace:
    """What an evaluation meets on its way.

    ``lost`` is how many digits an inexact sum or function may lose, since its terms are so large or small. ``unreal``
    is True if a value is not real.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.unreal = False

    def meets(self, operation: str, values: Sequence[Number], result: Number) -> None:
        """Note an operation with its operands and its result."""
        if isinstance(result, Fraction):
            return
        self.unreal = self.unreal or not is_real(result)
        if operation not in _KEEP_DIGITS:
            self.lost = max(self.lost, *map(_magnitude, values))


def evaluate(expression: Expr, at: Mapping[str, Fraction], trace: Trace | None = None) -> Number | None:
    """Return the value of an expression; None where it has none. Raises ``TooLarge``.

    A power whose exponent has variables has a value where its base is positive or its exponent is whole. An odd root of
    an expression with variables is the real one.
    """
    try:
        return _evaluated(expression, at, trace)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None


def symbols(expression: Expr) -> frozenset[str]:
    """Return the names of the variables of an expression."""
    own = {expression.name} if expression.op == "sym" else set[str]()
    return frozenset(own.union(*(symbols(arg) for arg in expression.args)))


def inexact(value: Number) -> Number:
    """Return a value as a number of ``mpmath``."""
    return MP.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else MP.mpmathify(value)


def all_rational(*values: Number) -> bool:
    """Return whether all values are exact."""
    return all(isinstance(value, Fraction) for value in values)


def is_integer(value: Number) -> bool:
    """Return whether a value is an exact integer."""
    return isinstance(value, Fraction) and value.denominator == 1


def is_real(value: Number) -> bool:
    """Return whether a value is a real number, up to its precision."""
    if isinstance(value, Fraction):
        return True
    return not abs(MP.im(value)) > abs(value) * inexact(10) ** (15 - MP.dps)


def _evaluated(expression: Expr, at: Mapping[str, Fraction], trace: Trace | None) -> Number:
    match expression.op:
        case "num":
            return expression.value
        case "sym":
            return at[expression.name]
        case "pi" | "e" | "inf":
            return {"pi": +MP.pi, "e": +MP.e, "inf": MP.inf}[expression.op]
        case "i":
            return MP.mpc(0, 1)
        case _:
            values = [_evaluated(arg, at, trace) for arg in expression.args]
            operation = expression.name if expression.op == "call" else expression.op
            if operation in ("gcd", "lcm") and symbols(expression) and min(values) <= 0:
                raise ValueError("no divisors of a natural number")
            result = _variable_power(expression, *values) if operation == "pow" else _OPERATIONS[operation](*values)
            if trace is not None:
                trace.meets(operation, values, result)
            return result


def _magnitude(value: Number) -> int:
    """Return about how many digits a number has before its point, or zeros behind it."""
    if isinstance(value, Fraction):
        bits = value.numerator.bit_length() - value.denominator.bit_length() if value else 0
    else:
        bits = int(MP.mag(value)) if value and MP.isfinite(value) else 0
    return int(abs(bits) * _DIGITS_OF_A_BIT)


def _variable_power(expression: Expr, base: Number, exponent: Number) -> Number:
    """Return a power. Raises ``ValueError`` where its exponent varies and it is no real function."""
    positive = is_real(base) and inexact(base).real > 0
    if positive or is_integer(exponent):
        return _power(base, exponent)
    if symbols(expression.args[1]):
        raise ValueError("the base is not positive")
    odd = isinstance(exponent, Fraction) and exponent.denominator % 2 == 1
    if odd and is_real(base) and symbols(expression.args[0]):
        return _power(_root(Fraction(exponent.denominator), base), Fraction(exponent.numerator))
    return _power(base, exponent)


def _add(left: Number, right: Number) -> Number:
    return left + right if all_rational(left, right) else inexact(left) + inexact(right)


def _multiplied(left: Number, right: Number) -> Number:
    return left * right if all_rational(left, right) else inexact(left) * inexact(right)


def _divided(left: Number, right: Number) -> Number:
    return left / right if all_rational(left, right) else inexact(left) / inexact(right)


def _power(base: Number, exponent: Number) -> Number:
    if all_rational(base, exponent) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent.numerator) <= _EXACT_BITS:
            return base**exponent.numerator
    base, exponent = inexact(base), inexact(exponent)
    if base and abs(exponent) * (1 + abs(MP.log(abs(base)))) > _LARGEST_LOG:
        raise TooLarge("the number is too large to compute")
    return MP.power(base, exponent)


def _root(index: Number, radicand: Number) -> Number:
    if is_integer(index) and is_real(radicand) and MP.re(inexact(radicand)) < 0 and index.numerator % 2:
        return -_root(index, -radicand)  # the real root
    if all_rational(index, radicand) and index.denominator == 1 and index > 0:
        exact = _exact_root(int(index), radicand)
        if exact is not None:
            return exact
    return MP.power(inexact(radicand), 1 / inexact(index))


def _exact_root(index: int, radicand: Fraction) -> Fraction | None:
    if radicand < 0 or radicand.numerator.bit_length() > 2000 or radicand.denominator.bit_length() > 2000:
        return None
    root = Fraction(*(int(MP.nint(MP.root(part, index))) for part in (radicand.numerator, radicand.denominator)))
    return root if index < 100 and root**index == radicand else None


def _factorial(value: Number) -> Number:
    if is_integer(value) and 0 <= value <= _LARGEST_FACTORIAL:
        return Fraction(math.factorial(int(value)))
    return MP.factorial(inexact(value))


def _binomial(above: Number, below: Number) -> Number:
    if is_integer(above) and is_integer(below):
        if above < 0 and below < 0:
            raise ValueError("no number of choices")
        factors = min(below, above - below)
        if factors >= 0 and factors * above.numerator.bit_length() <= _EXACT_BITS:
            return Fraction(math.comb(int(above), int(below)))
    return MP.binomial(inexact(above), inexact(below))


def _logarithm(base: Number, value: Number) -> Number:
    return MP.log(inexact(value)) / MP.log(inexact(base))


def _floor(value: Number) -> Number:
    return Fraction(value.__floor__()) if isinstance(value, Fraction) else MP.floor(value)


def _ceiling(value: Number) -> Number:
    return Fraction(value.__ceil__()) if isinstance(value, Fraction) else MP.ceil(value)


def _whole(*values: Number) -> Iterator[int]:
    for value in values:
        if not is_integer(value):
            raise ValueError("no whole number")
        yield value.numerator


def _elementary(name: str) -> Callable[[Number], Number]:
    def applied(value: Number) -> Number:
        return getattr(MP, name)(inexact(value))

    return applied


def _negated(value: Number) -> Number:
    return -value


def _exponential(value: Number) -> Number:
    return _power(+MP.e, value)


def _cube_root(value: Number) -> Number:
    return _root(Fraction(3), value)


def _gcd(*values: Number) -> Fraction:
    return Fraction(math.gcd(*_whole(*values)))


def _lcm(*values: Number) -> Fraction:
    return Fraction(math.lcm(*_whole(*values)))


_KEEP_DIGITS = {"mul", "div", "neg", "pow", "root", "abs", "factorial", "binom", "max", "min"}
"""The operations whose result is, with its digits, as exact as their operands are."""

_OPERATIONS: dict[str, Callable[..., Number]] = {
    "add": _add,
    "mul": _multiplied,
    "div": _divided,
    "neg": _negated,
    "pow": _power,
    "root": _root,
    "log": _logarithm,
    "abs": abs,
    "floor": _floor,
    "ceil": _ceiling,
    "factorial": _factorial,
    "binom": _binomial,
    "max": max,
    "min": min,
    "gcd": _gcd,
    "lcm": _lcm,
    "exp": _exponential,
    "cbrt": _cube_root,
    **{name: _elementary(name) for name in ("ln", "sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh")},
    **{"arc" + name: _elementary("a" + name) for name in ("sin", "cos", "tan", "sec", "csc", "cot")},
    **{"ar" + name: _elementary("a" + name) for name in ("sinh", "cosh", "tanh")},
}
