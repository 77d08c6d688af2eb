"""How a score orders steps: rank correlation, AUROC, and the gain it finds first. All with weights, for resamples.

Weights are of the shape (resamples, steps); a weight of 2 counts a step twice, exactly as if it were there twice.
"""

import msgspec
import numpy as np

from arbiter.evaluation.resampling import Floats, Integers, ratio


class Order(msgspec.Struct, frozen=True, eq=False):
    """Steps from the highest score to the lowest: ``steps`` their numbers, ``ends`` the last place of each tie.

    ``group`` is the tie that each step is in, by the step's number.
    """

    steps: Integers
    ends: Integers
    group: Integers


def order_of(score: Floats) -> Order:
    """The order of the shape (steps,) that ``score`` gives."""
    steps = np.argsort(-score, kind="stable")
    falls = np.flatnonzero(np.diff(score[steps]))
    ends = np.append(falls, len(score) - 1)
    group = np.empty(len(score), dtype=np.int64)
    group[steps] = np.searchsorted(ends, np.arange(len(score)))
    return Order(steps, ends, group)


class Gains(msgspec.Struct, frozen=True, eq=False):
    """Of escalating the highest scores first: (resamples, shares) and, for the area, (resamples,).

    ``captured`` and ``net`` are shares of the total positive advantage Σ max(Δ, 0), ``net`` with the harm in it.
    """

    captured: Floats
    net: Floats
    area: Floats


class Ordered:
    """Weighted steps in the order of a score; ``weights`` are (resamples, steps), by the steps' numbers."""

    def __init__(self, order: Order, weights: Floats) -> None:
        self._order = order
        self._weights = weights[:, order.steps]
        self.counts = self.reached()

    def reached(self, values: Floats | None = None) -> Floats:
        """Weighted sums of ``values``, (steps,), or of 1, from the top down to the end of each tie, with a 0 before:
        (resamples, ties + 1).
        """
        parts = self._weights if values is None else self._weights * values[self._order.steps]
        sums = np.cumsum(parts, axis=1)[:, self._order.ends]
        return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)

    def ranks(self) -> Floats:
        """Average ranks from the top, less their mean: (resamples, steps), by the steps' numbers."""
        middle = (self.counts[:, :-1] + self.counts[:, 1:] - self.counts[:, -1:]) / 2
        return middle[:, self._order.group]

    def auroc(self, positive: Floats) -> Floats:
        """P(score of a positive > that of another) + P(equal) / 2, (resamples,); nan where one class has no weight.

        ``positive`` is 1 or 0 a step.
        """
        above = self.reached(positive)
        others = np.diff(self.counts - above, axis=1)
        won = np.einsum("rg,rg->r", others, above[:, :-1] + above[:, 1:]) / 2
        positives = above[:, -1]
        return ratio(won, positives * (self.counts[:, -1] - positives))

    def gains(self, delta: Floats, shares: Floats) -> Gains:
        """The gain at each of the ``shares`` of steps escalated, 0 to 1.

        G(s) = Σ_{escalated} max(Δ, 0) / Σ max(Δ, 0); within a tie it is linear in s, the mean over all orders of the
        tie. The area is ∫ G(s) ds over [0, 1]. All are nan where no step has Δ > 0.
        """
        gained, won = self.reached(np.maximum(delta, 0)), self.reached(delta)
        escalated = self.counts / self.counts[:, -1:]
        captured, net = ratio(gained, gained[:, -1:]), ratio(won, gained[:, -1:])
        area = np.einsum("rg,rg->r", np.diff(escalated, axis=1), captured[:, :-1] + captured[:, 1:]) / 2
        return Gains(_at(shares, escalated, captured), _at(shares, escalated, net), area)


def rank_correlation(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Spearman's ρ of two centred average ranks, (resamples,). A score that is the same everywhere has ρ = 0: its mean
    over all orders. It is nan where ``other`` is the same everywhere.
    """
    weighted = weights * one
    both = np.einsum("rs,rs->r", weighted, other)
    mine = np.einsum("rs,rs->r", weighted, one)
    others = np.einsum("rs,rs,rs->r", weights, other, other)
    return np.where((mine == 0) & (others > 0), 0.0, ratio(both, np.sqrt(mine * others)))


def _at(shares: Floats, x: Floats, y: Floats) -> Floats:
    """The lines through (x, y), a row each, at ``shares``."""
    found = np.empty((len(x), len(shares)))
    for place in range(len(x)):
        found[place] = np.interp(shares, x[place], y[place])
    return found
