"""McNemar's exact test: whether one of two runs answers more problems rightly than the other."""

import importlib
from typing import Any

import numpy as np

from arbiter.evaluation.curves import Curve
from arbiter.evaluation.resampling import Floats
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Record

_stats: Any = importlib.import_module("scipy.stats")  # it has no types


class McNemar(Record, frozen=True):
    """Of the problems that both runs have graded, those that only ``first`` or only ``second`` has right.

    ``p`` is the two-sided exact p-value: that of ``first`` heads in ``first + second`` tosses of a fair coin. The
    acceptance rates and thresholds are those of the two runs that are compared.
    """

    first: int
    second: int
    p: float
    acceptance: tuple[float, float]
    thresholds: tuple[float | None, float | None]


def exact_p(first: int, second: int) -> float:
    """The two-sided p-value of discordant counts; 1 where there are none."""
    return float(_stats.binomtest(first, first + second, 0.5).pvalue) if first + second else 1.0


def mcnemar(one: Curve, other: Curve, acceptance: float) -> McNemar:
    """The test of the two curves' points nearest to an acceptance rate in [0, 1]; of two as near, the first.

    Raises ``DataError`` where the curves are not over the same problems, or where a problem has several answers that
    are not all right or all wrong.
    """
    if one.problems != other.problems:
        raise DataError("the curves are not over the same problems, so that they cannot be compared problem by problem")
    places = [_nearest(each, acceptance) for each in (one, other)]
    (right, graded), (others_right, others_graded) = (
        (each.right[:, place], each.graded[:, place]) for each, place in zip((one, other), places, strict=True)
    )
    both = (graded > 0) & (others_graded > 0)
    if not (_is_whole(right[both]) and _is_whole(others_right[both])):
        raise DataError("McNemar's test needs one answer a problem, and these runs have several: compare their curves")
    first = int((both & (right > others_right)).sum())
    second = int((both & (right < others_right)).sum())
    rates = [float(each.acceptance(each.ones)[0, place]) for each, place in zip((one, other), places, strict=True)]
    thresholds = one.thresholds[places[0]], other.thresholds[places[1]]
    return McNemar(first, second, exact_p(first, second), (rates[0], rates[1]), thresholds)


def _nearest(one: Curve, acceptance: float) -> int:
    return int(np.argmin(np.abs(one.acceptance(one.ones)[0] - acceptance)))


def _is_whole(shares: Floats) -> bool:
    return bool(np.isin(shares, (0.0, 1.0)).all())
