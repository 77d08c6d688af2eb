"""Percentile bootstrap over problems. Steps of a problem are correlated, so problems are drawn, not steps.

Needs numpy (the extra ``train``).

A resample is a row of weights: how often each problem was drawn. A function of sums over problems is then one matrix
product for all resamples. Two figures are compared on the same resamples (paired).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from arbiter.runs.intervals import BootstrapEstimate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RESAMPLES = 1000
_AT_ONCE = 300_000  # weights of steps that are in memory together
_ENDS = (0.025, 0.975)
_UNDEFINED = 0.025  # the highest share of resamples without a value; beyond it an interval would be biased


def drawn(problems: int, resamples: int, seed: int) -> Floats:
    """Return how often each problem is in each resample: (resamples, problems). Each row sums to ``problems``."""
    numbers = np.random.default_rng(seed).integers(problems, size=(resamples, problems))
    cells = (numbers + problems * np.arange(resamples)[:, None]).ravel()
    return np.bincount(cells, minlength=resamples * problems).reshape(resamples, problems).astype(np.float64)


def by_step(weights: Floats, problem: Integers) -> Iterator[Floats]:
    """Yield the weights of steps for some resamples at a time: (some resamples, steps).

    ``problem`` is the column of each step in ``weights``.
    """
    some = max(1, _AT_ONCE // max(len(problem), 1))
    for first in range(0, len(weights), some):
        yield weights[first : first + some][:, problem]


def summed(values: Floats, problem: Integers, problems: int) -> Floats:
    """Sum ``values`` over the steps of each problem: (steps, …) becomes (problems, …), to multiply with weights."""
    sums = np.zeros((problems, *values.shape[1:]))
    np.add.at(sums, problem, values)
    return sums


def ratio(part: Floats, whole: Floats) -> Floats:
    """Return ``part / whole``, with nan where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole != 0)


def estimate(value: float, resampled: Floats) -> BootstrapEstimate:
    """Return a figure with the 2.5 % and 97.5 % quantiles of its resamples, shape (resamples,).

    There is no interval if more than 2.5 % of the resamples have no value (nan): it would be biased.
    """
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return BootstrapEstimate(None)
    if not len(known) or len(known) < (1 - _UNDEFINED) * len(resampled):
        return BootstrapEstimate(float(value))
    low, high = np.quantile(known, _ENDS)
    return BootstrapEstimate(float(value), (float(low), float(high)))


def estimates(values: Floats, resampled: Floats) -> list[BootstrapEstimate]:
    """Return an estimate for each of ``values``, (figures,), from ``resampled``, (resamples, figures)."""
    return [estimate(float(value), resampled[:, column]) for column, value in enumerate(values)]
