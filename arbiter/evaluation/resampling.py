"""Percentile bootstrap over problems: steps of one problem resemble one another, so problems are drawn, not steps.

A resample is a row of weights: how often each problem was drawn. Whatever is a function of sums over problems is then
one matrix product for all resamples, and two figures are compared on the very same resamples (paired).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from arbiter.protocols.records import Record
from arbiter.runs.intervals import Interval

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 1000
_AT_ONCE = 300_000  # weights of steps that are in memory together
_ENDS = (0.025, 0.975)
_UNDEFINED = 0.025  # resamples without a value, beyond which an interval would be of a selection


class BootstrapEstimate(Record, frozen=True):
    """A figure and its 95 % interval; None where it is not defined (an AUROC of one class alone)."""

    value: float | None
    interval: Interval | None = None


def drawn(problems: int, resamples: int, seed: int) -> Floats:
    """How often each problem is in each resample, shape (resamples, problems); each row sums to ``problems``."""
    numbers = np.random.default_rng(seed).integers(problems, size=(resamples, problems))
    places = (numbers + problems * np.arange(resamples)[:, None]).ravel()
    return np.bincount(places, minlength=resamples * problems).reshape(resamples, problems).astype(np.float64)


def by_step(weights: Floats, problem: Integers) -> Iterator[Floats]:
    """The weights of steps, (some resamples, steps) at a time; ``problem`` is each step's column of ``weights``."""
    some = max(1, _AT_ONCE // max(len(problem), 1))
    for first in range(0, len(weights), some):
        yield weights[first : first + some][:, problem]


def summed(values: Floats, problem: Integers, problems: int) -> Floats:
    """Sums over each problem's steps: (steps, …) becomes (problems, …), to be multiplied with weights."""
    sums = np.zeros((problems, *values.shape[1:]))
    np.add.at(sums, problem, values)
    return sums


def ratio(part: Floats, whole: Floats) -> Floats:
    """``part / whole``, nan where there is no whole."""
    return np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole != 0)


def estimate(value: float, resampled: Floats) -> BootstrapEstimate:
    """A figure with the 2.5 % and 97.5 % quantiles of its resamples, shape (resamples,).

    There is no interval where more than 2.5 % of the resamples have no value (nan): it would be of a selection.
    """
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return BootstrapEstimate(None)
    if not len(known) or len(known) < (1 - _UNDEFINED) * len(resampled):
        return BootstrapEstimate(float(value))
    low, high = np.quantile(known, _ENDS)
    return BootstrapEstimate(float(value), (float(low), float(high)))


def estimates(values: Floats, resampled: Floats) -> list[BootstrapEstimate]:
    """An estimate for each of the ``values``, (figures,), from (resamples, figures)."""
    return [estimate(float(value), resampled[:, place]) for place, value in enumerate(values)]
