"""Rank correlation, AUROC and gain curves of a score, all weighted for resampling.

Weights have the shape (resamples, steps). A weight of 2 counts a step exactly as two equal steps.
"""

import msgspec
import numpy as np

from arbiter.runs.reports.resampling import Floats, Integers, ratio


class Order(msgspec.Struct, frozen=True, eq=False):
    """The order of steps from the highest score to the lowest.

    ``steps`` has the step numbers in this order, ``ends`` the last position of each tie. ``group`` has the tie of each
    step, by step number.
    """

    steps: Integers
    ends: Integers
    group: Integers


def order_of(score: Floats) -> Order:
    """Return the order of ``score``, which has the shape (steps,)."""
    steps = np.argsort(-score, kind="stable")
    falls = np.flatnonzero(np.diff(score[steps]))
    ends = np.append(falls, len(score) - 1)
    group = np.empty(len(score), dtype=np.int64)
    group[steps] = np.searchsorted(ends, np.arange(len(score)))
    return Order(steps, ends, group)


class Gains(msgspec.Struct, frozen=True, eq=False):
    """The gains of escalating the highest scores first: (resamples, shares), and (resamples,) for ``area``.

    ``captured`` and ``net`` are shares of the total positive advantage Σ max(Δ, 0). ``net`` subtracts the harm.
    """

    captured: Floats
    net: Floats
    area: Floats


class Ordered:
    """Weighted steps in the order of a score. ``weights`` are by step number: (resamples, steps)."""

    def __init__(self, order: Order, weights: Floats) -> None:
        self._order = order
        self._weights = weights[:, order.steps]
        self.counts = self.reached()

    def reached(self, values: Floats | None = None) -> Floats:
        """Return cumulative weighted sums from the top to the end of each tie, starting with 0: (resamples, ties + 1).

        The summands are ``values``, (steps,), or 1.
        """
        parts = self._weights if values is None else self._weights * values[self._order.steps]
        sums = np.cumsum(parts, axis=1)[:, self._order.ends]
        return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)

    def ranks(self) -> Floats:
        """Return average ranks from the top minus their mean, by step number: (resamples, steps)."""
        middle = (self.counts[:, :-1] + self.counts[:, 1:] - self.counts[:, -1:]) / 2
        return middle[:, self._order.group]

    def auroc(self, positive: Floats) -> Floats:
        """Return P(score of a positive > score of a negative) + P(equal) / 2: (resamples,).

        It is nan where a class has no weight. ``positive`` is 1 or 0 per step.
        """
        above = self.reached(positive)
        others = np.diff(self.counts - above, axis=1)
        won = np.einsum("rg,rg->r", others, above[:, :-1] + above[:, 1:]) / 2
        positives = above[:, -1]
        return ratio(won, positives * (self.counts[:, -1] - positives))

    def gains(self, delta: Floats, shares: Floats) -> Gains:
        """Return the gain at each of ``shares``, the shares of steps escalated, 0 to 1.

        G(s) = Σ_{escalated} max(Δ, 0) / Σ max(Δ, 0). Within a tie it is linear in s, which is the mean over all orders
        of the tie. The area is ∫ G(s) ds over [0, 1]. All are nan if no step has Δ > 0.
        """
        gained, won = self.reached(np.maximum(delta, 0)), self.reached(delta)
        escalated = self.counts / self.counts[:, -1:]
        captured, net = ratio(gained, gained[:, -1:]), ratio(won, gained[:, -1:])
        area = np.einsum("rg,rg->r", np.diff(escalated, axis=1), captured[:, :-1] + captured[:, 1:]) / 2
        return Gains(_at(shares, escalated, captured), _at(shares, escalated, net), area)


def rank_correlation(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Return Spearman's ρ of two centred average ranks: (resamples,).

    If ``one`` is constant, ρ is 0, its mean over all orders. If ``other`` is constant, ρ is nan.
    """
    weighted = weights * one
    covariance = np.einsum("rs,rs->r", weighted, other)
    one_variance = np.einsum("rs,rs->r", weighted, one)
    other_variance = np.einsum("rs,rs,rs->r", weights, other, other)
    correlation = ratio(covariance, np.sqrt(one_variance * other_variance))
    return np.where((one_variance == 0) & (other_variance > 0), 0.0, correlation)


def _at(shares: Floats, x: Floats, y: Floats) -> Floats:
    """Interpolate the lines through (x, y), one per row, at ``shares``."""
    found = np.empty((len(x), len(shares)))
    for row in range(len(x)):
        found[row] = np.interp(shares, x[row], y[row])
    return found
