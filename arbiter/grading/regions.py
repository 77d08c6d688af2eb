"""Sets of real numbers as unions of intervals: read from relations, joined, cut and compared."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from arbiter.grading.arithmetic import linear_root, real_value, same_value
from arbiter.grading.operations import symbols
from arbiter.grading.readings import (
    EMPTY,
    INFINITY,
    MINUS_INFINITY,
    Named,
    OrderedItems,
    Piece,
    Reading,
    Region,
    UnorderedItems,
    Value,
)
from arbiter.grading.terms import Expr, Unreadable, whole

_MOST_MEMBERS = 1000


def interval(low: Expr | None, high: Expr | None, has_low: bool, has_high: bool) -> Piece:
    """Return an interval; None is infinity."""
    return Piece(MINUS_INFINITY if low is None else low, INFINITY if high is None else high, has_low, has_high)


def region_of(reading: Reading) -> Region:
    """Return a reading as a set of real numbers. Raises ``Unreadable`` if it cannot be one."""
    match reading:
        case Region():
            return reading
        case OrderedItems(opened=opened, items=(Value(expression=low), Value(expression=high))):
            piece = Piece(low, high, opened == "[", opened == "[")
            if _is_empty(piece):
                raise Unreadable("a pair whose first number is the larger one is no interval")
            return Region((piece,))
        case UnorderedItems(items=items):
            points = [item.reading if isinstance(item, Named) else item for item in items]
            values = [point.expression for point in points if isinstance(point, Value)]
            if len(values) == len(points):
                return Region(tuple(Piece(value, value, has_low=True, has_high=True) for value in values))
        case Named(name=name, reading=Value(expression=value)):
            return Region((Piece(value, value, has_low=True, has_high=True),), name)
        case Value(expression=value):
            return Region((Piece(value, value, has_low=True, has_high=True),))
        case _:
            pass
    raise Unreadable("it is no set of real numbers")


def solved(left: Expr, sign: str, right: Expr, *, symbolic: bool = False) -> Region | None:
    """Return the numbers that satisfy ``left sign right`` if that is linear in one variable; else None.

    With ``symbolic``, the ends may have other variables.
    """
    names = symbols(left) | symbols(right)
    bare = left if left.op == "sym" else right if right.op == "sym" else None
    if bare is not None and bare.name not in symbols(right if bare is left else left) and (symbolic or len(names) == 1):
        return _bounded(bare.name, right if bare is left else left, sign, below=bare is left)
    if len(names) != 1:
        return None
    name = next(iter(names))
    if "abs" in (left.name, right.name) and sign in ("<", r"\le"):
        return _solved_absolute(left, sign, right)
    root = linear_root(Expr("add", (left, Expr("neg", (right,)))), name)
    if root is None or not isinstance(root[0], Fraction):
        return None
    return _bounded(name, whole(root[0]), sign, below=root[1] > 0)


def _solved_absolute(left: Expr, sign: str, right: Expr) -> Region | None:
    """Return the numbers that satisfy ``|a| < b`` or ``b < |a|``, with a linear ``a``."""
    value, bound = (left.args[0], right) if left.name == "abs" else (right.args[0], left)
    negative = Expr("neg", (bound,))
    if left.name == "abs":
        both = solved(value, sign, bound), solved(negative, sign, value)
    else:
        both = solved(bound, sign, value), solved(value, sign, negative)
    found = [region for region in both if region is not None]
    if len(found) < len(both):
        return None
    return intersection(found) if left.name == "abs" else union(found)


def _bounded(name: str, end: Expr, sign: str, *, below: bool) -> Region:
    """Return the numbers below ``end``, or above it."""
    if sign == r"\ne":
        pieces = (interval(None, end, False, False), interval(end, None, False, False))
        return Region(pieces, name)
    closed = sign == r"\le"
    return Region((interval(None, end, False, closed) if below else interval(end, None, closed, False),), name)


def union(regions: Sequence[Region]) -> Region:
    """Return the numbers that are in one of the ``regions``. Raises ``Unreadable`` if their names differ."""
    pieces = [piece for region in regions for piece in region.pieces]
    return Region(tuple(_merged(pieces)), _variable(regions), all(region.integers for region in regions))


def intersection(regions: Sequence[Region]) -> Region:
    """Return the numbers that are in all ``regions``. Raises ``Unreadable`` if that depends on unknown numbers."""
    pieces = list(regions[0].pieces)
    for region in regions[1:]:
        pieces = [both for one in pieces for other in region.pieces if (both := _common(one, other)) is not None]
    return Region(tuple(pieces), _variable(regions), any(region.integers for region in regions))


def difference_of(regions: Sequence[Region]) -> Region:
    """Return the numbers of the first region that are in no other one."""
    left = regions[0]
    for region in regions[1:]:
        for piece in region.pieces:
            outside = Region((
                interval(None, piece.low, False, not piece.has_low),
                interval(piece.high, None, not piece.has_high, False),
            ))  # fmt: skip
            left = Region(intersection([left, outside]).pieces, left.variable, left.integers)
    return left


def same_region(one: Region, other: Region) -> bool:
    """Return whether two regions have the same numbers."""
    if one.variable and other.variable and one.variable != other.variable:
        return False
    if one.integers != other.integers:
        return _whole_numbers(one) is not None and _whole_numbers(one) == _whole_numbers(other)
    members = _whole_numbers(one) if one.integers else None
    if members is not None:
        return members == _whole_numbers(other)
    left, right = _merged(one.pieces), _merged(other.pieces)
    return len(left) == len(right) and all(
        first.has_low == second.has_low
        and first.has_high == second.has_high
        and same_value(first.low, second.low)
        and same_value(first.high, second.high)
        for first, second in zip(left, right, strict=True)
    )


def members(region: Region) -> Reading | None:
    """Return the finite set that a region is; None if it is not finite."""
    numbers = _whole_numbers(region)
    if numbers is not None:
        return UnorderedItems(tuple(Value(whole(number)) for number in numbers), braces=True) if numbers else EMPTY
    pieces = region.pieces
    if all(piece.has_low and piece.has_high and same_value(piece.low, piece.high) for piece in pieces):
        return UnorderedItems(tuple(Value(piece.low) for piece in pieces), braces=True)
    return None


def _whole_numbers(region: Region) -> list[int] | None:
    """Return the whole numbers of a bounded region of integers; None for any other region."""
    if not region.integers:
        return None
    found: set[int] = set()
    for piece in region.pieces:
        low, high = float(real_value(piece.low)), float(real_value(piece.high))
        if abs(low) > 10**6 or abs(high) > 10**6 or high - low > _MOST_MEMBERS:
            return None
        first = math.ceil(low) + (not piece.has_low and low.is_integer())
        last = math.floor(high) - (not piece.has_high and high.is_integer())
        found |= set(range(first, last + 1))
    return sorted(found)


def _variable(regions: Sequence[Region]) -> str:
    names = {region.variable for region in regions if region.variable}
    if len(names) > 1:
        raise Unreadable("conditions on several variables")
    return next(iter(names), "")


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces from low to high, with those joined that touch. One piece may have unknown ends."""
    if len(pieces) < 2:
        return [piece for piece in pieces if not _is_empty(piece)]
    kept: list[Piece] = []
    for piece in sorted((piece for piece in pieces if not _is_empty(piece)), key=_order):
        if kept and _touch(kept[-1], piece):
            kept[-1] = _joined(kept[-1], piece)
        else:
            kept.append(piece)
    return kept


def _order(piece: Piece) -> tuple[Any, bool]:
    return real_value(piece.low), not piece.has_low


def _touch(one: Piece, other: Piece) -> bool:
    if same_value(one.high, other.low):
        return one.has_high or other.has_low
    return bool(real_value(one.high) > real_value(other.low))


def _joined(one: Piece, other: Piece) -> Piece:
    has_low = one.has_low or (other.has_low and same_value(one.low, other.low))
    if same_value(one.high, other.high):
        return Piece(one.low, one.high, has_low, one.has_high or other.has_high)
    longer = one if real_value(one.high) > real_value(other.high) else other
    return Piece(one.low, longer.high, has_low, longer.has_high)


def _common(one: Piece, other: Piece) -> Piece | None:
    low, has_low = _inner(one.low, one.has_low, other.low, other.has_low, larger=True)
    high, has_high = _inner(one.high, one.has_high, other.high, other.has_high, larger=False)
    piece = Piece(low, high, has_low, has_high)
    return None if _is_empty(piece) else piece


def _inner(one: Expr, has_one: bool, other: Expr, has_other: bool, *, larger: bool) -> tuple[Expr, bool]:
    unbounded = MINUS_INFINITY if larger else INFINITY
    if unbounded in (one, other):
        return (other, has_other) if one == unbounded else (one, has_one)
    if same_value(one, other):
        return one, has_one and has_other
    first = (real_value(one) > real_value(other)) == larger
    return (one, has_one) if first else (other, has_other)


def _is_empty(piece: Piece) -> bool:
    if symbols(piece.low) or symbols(piece.high):
        return False
    if same_value(piece.low, piece.high):
        return not (piece.has_low and piece.has_high)
    return bool(real_value(piece.low) > real_value(piece.high))
