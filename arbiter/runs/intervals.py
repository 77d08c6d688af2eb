"""Shares with their 95 % intervals, and quantiles. Every figure here is the same each time: nothing is drawn."""

import math
from collections.abc import Sequence

Interval = tuple[float, float]

_Z = 1.959964  # the standard normal quantile of a two-sided 95 % interval


def wilson_interval(right: int, of: int) -> Interval | None:
    """The 95 % score interval of a share (Wilson 1927): sound at 0 and 1 and for few problems."""
    return score_interval(right / of, of) if of else None


def score_interval(share: float, count: float) -> Interval:
    """Wilson's interval of a share that is as sure as ``count`` independent answers, which need not be whole."""
    z2 = _Z * _Z
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))  # rounding must not part them


def clustered_interval(parts: Sequence[float], wholes: Sequence[float], most: float) -> Interval | None:
    """The 95 % interval of ``sum(parts) / sum(wholes)``, one part and whole a problem; None of nothing.

    Answers to one problem resemble one another, so that they count for less than as many independent ones: for
    ``count / d``, where d is the design effect (Kish 1965) from the spread between the problems (the cluster-robust
    variance of a ratio). The interval is Wilson's for that many, never for more than ``most``. With one answer a
    problem it is Wilson's own.

    d is estimated with four problems more, two all right and two all wrong, as Agresti and Coull do: otherwise a run
    without a wrong answer would seem to have no spread at all.
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
    as_sure_as = share * (1 - share) * sum(wholes) ** 2 / spread
    count = min(as_sure_as * whole / sum(wholes), most)
    return score_interval((sum(parts) - 2 * typical) / whole, count)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The ``share`` quantile (0 to 1) with linear interpolation; None of no values."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
