"""McNemar's exact test of whether one of two runs answers more problems correctly."""

import importlib
from typing import Any

import numpy as np

from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Record
from arbiter.runs.reports.curves import Curve
from arbiter.runs.reports.resampling import Floats

_stats: Any = importlib.import_module("scipy.stats")  # it has no types


class McNemar(Record, frozen=True):
    """The result of the test. ``first`` and ``second`` count the problems that only that run answers correctly.

    Only problems with a grade in both runs count. ``p`` is the two-sided exact p-value: that of ``first`` heads in
    ``first + second`` tosses of a fair coin. The acceptance rates and thresholds are those of the two runs.
    """

    first: int
    second: int
    p: float
    acceptance: tuple[float, float]
    thresholds: tuple[float | None, float | None]


def exact_p(first: int, second: int) -> float:
    """Return the two-sided p-value of discordant counts, or 1 if there are none."""
    return float(_stats.binomtest(first, first + second, 0.5).pvalue) if first + second else 1.0


def mcnemar(one: Curve, other: Curve, acceptance: float) -> McNemar:
    """Test the points of two curves nearest to an acceptance rate in [0, 1]. Of two equally near points, use the first.

    Raises ``DataError`` if the curves have different problems, or if the answers of a problem are neither all right nor
    all wrong.
    """
    if one.problems != other.problems:
        raise DataError("the curves have different problems, so they cannot be compared problem by problem")
    points = [_nearest(each, acceptance) for each in (one, other)]
    (right, graded), (others_right, others_graded) = (
        (each.right[:, point], each.graded[:, point]) for each, point in zip((one, other), points, strict=True)
    )
    both = (graded > 0) & (others_graded > 0)
    if not (_is_whole(right[both]) and _is_whole(others_right[both])):
        raise DataError("McNemar's test needs one answer per problem, but these runs have several: compare curves")
    first = int((both & (right > others_right)).sum())
    second = int((both & (right < others_right)).sum())
    rates = [float(each.acceptance(each.ones)[0, point]) for each, point in zip((one, other), points, strict=True)]
    thresholds = one.thresholds[points[0]], other.thresholds[points[1]]
    return McNemar(first, second, exact_p(first, second), (rates[0], rates[1]), thresholds)


def _nearest(one: Curve, acceptance: float) -> int:
    return int(np.argmin(np.abs(one.acceptance(one.ones)[0] - acceptance)))


def _is_whole(shares: Floats) -> bool:
    return bool(np.isin(shares, (0.0, 1.0)).all())
