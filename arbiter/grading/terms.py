"""The tree of an expression, and the ways in which a text can be read."""

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import msgspec

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


class Unreadable(Exception):  # noqa: N818 - the name describes the text
    """The text cannot be read as mathematics."""


class Expr(msgspec.Struct, frozen=True):
    """A node of an expression. ``op`` says what it is.

    - ``num`` has an exact ``value``. ``decimals`` is the number of digits after the point of a decimal number, and None
      for whole numbers and fractions.
    - ``sym`` and ``call`` have a ``name``; ``pi``, ``e``, ``i`` and ``inf`` are the constants.
    - ``add``, ``mul``, ``div``, ``pow``, ``neg``, ``root`` (index, radicand), ``log`` (base, number), ``pm``
      and ``call`` have ``args``. The names of calls are those of functions, and ``factorial`` and ``binom``.
    """

    op: str
    args: "tuple[Expr, ...]" = ()
    name: str = ""
    value: Fraction | None = None
    decimals: int | None = None


class Style(msgspec.Struct, frozen=True):
    """How to read what has two meanings: ``1,234``, ``2e-1`` and ``\\log``."""

    thousands: bool = True
    powers_of_ten: bool = True
    natural_log: bool = True


def whole(value: int | Fraction) -> Expr:
    """Return the exact number ``value`` as an expression."""
    return Expr("num", value=Fraction(value))


def joined(op: str, parts: Sequence[Expr]) -> Expr:
    """Return the sum or the product of several expressions, as a tree that is not deep."""
    if len(parts) == 1:
        return parts[0]
    middle = (len(parts) + 1) // 2
    return Expr(op, (joined(op, parts[:middle]), joined(op, parts[middle:])))


def is_word(letters: str) -> bool:
    """Return whether a run of letters is a word, and not a product of variables."""
    ascending = all(left < right for left, right in pairwise(letters))
    has_vowel = re.search("[aeiou]", letters.lower()) is not None
    return len(letters) >= 3 and not ascending and has_vowel and _WORD.fullmatch(letters) is not None


def signs_of(expression: Expr) -> list[Expr]:
    """Return the expression with plus and with minus for its ``±``; itself if it has none."""
    plus, minus = _with_sign(expression, "add"), _with_sign(expression, "neg")
    return [plus] if plus == minus else [plus, minus]


def _with_sign(expression: Expr, sign: str) -> Expr:
    args = tuple(_with_sign(arg, sign) for arg in expression.args)
    if expression.op != "pm":
        return Expr(expression.op, args, expression.name, expression.value, expression.decimals)
    return Expr("add", (args[0], args[1] if sign == "add" else Expr("neg", (args[1],))))
