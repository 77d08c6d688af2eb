"""95 % intervals of shares, and quantiles. All are computed in closed form: nothing is random.

Only a ``BootstrapEstimate`` comes from random resamples (``arbiter.runs.reports.resampling``).
"""

import math
from collections.abc import Sequence

from arbiter.protocols.records import Record

Interval = tuple[float, float]

_Z = 1.959964  # the standard normal quantile of a two-sided 95 % interval


class BootstrapEstimate(Record, frozen=True):
    """A figure and its 95 % interval. None if it is not defined, such as the AUROC of a single class."""

    value: float | None
    interval: Interval | None = None


def wilson_interval(right: int, of: int) -> Interval | None:
    """Return the 95 % score interval (Wilson 1927) of ``right / of``, or None if ``of`` is 0.

    It is also valid at shares of 0 and 1 and for few problems.
    """
    return score_interval(right / of, of) if of else None


def score_interval(share: float, count: float) -> Interval:
    """Return Wilson's interval of ``share`` for ``count`` independent answers. ``count`` may be fractional."""
    z2 = _Z * _Z
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    # rounding must not exclude the share from its interval
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def clustered_interval(parts: Sequence[float], wholes: Sequence[float], most: float) -> Interval | None:
    """Return the 95 % interval of ``sum(parts) / sum(wholes)``, with one part and one whole per problem.

    Return None if the sum of ``wholes`` is 0. Answers to the same problem are correlated, so n answers are worth only
    n / d independent ones. d is the design effect (Kish 1965), estimated from the spread between problems (the
    cluster-robust variance of a ratio). The result is Wilson's interval for n / d answers, but at most ``most``. With
    one answer per problem it is the plain Wilson interval.

    As Agresti and Coull do, the estimate of d adds four problems: two all right, two all wrong. Otherwise a run without
    a wrong answer would seem to have no spread.
    """
    whole = sum(wholes)
    if not whole:
        return None
    if set(wholes) == {1} and set(parts) <= {0, 1}:
        return score_interval(sum(parts) / whole, whole)
    typical = whole / len(wholes)
    parts, wholes = [*parts, typical, typical, 0, 0], [*wholes, *[typical] * 4]
    share = sum(parts) / sum(wholes)
    spread = sum((part - share * of) ** 2 for part, of in zip(parts, wholes, strict=True))
    effective = share * (1 - share) * sum(wholes) ** 2 / spread
    count = min(effective * whole / sum(wholes), most)
    return score_interval((sum(parts) - 2 * typical) / whole, count)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the ``share`` quantile (0 to 1) of ``values`` with linear interpolation, or None without values."""
    if not values:
        return None
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
