"""Matched acceptance: thresholds are quantiles of the scores on the calibration split.

So scores of different scales are compared at the same share of steps escalated.
"""

import numpy as np

from arbiter.evaluation.ranking import Ordered, order_of
from arbiter.runs.reports.resampling import Floats


def threshold_within(score: Floats, cost: Floats, budgets: Floats, weights: Floats) -> Floats:
    """Return the lowest τ for which Σ cost over the steps with score > τ is at most the budget: (resamples,).

    ``cost`` is non-negative with the shape (steps,). ``budgets`` have the shape (resamples,), ``weights`` (resamples,
    steps). With a cost of 1 per step and a budget of e · steps, τ is the 1 − e quantile of the scores. τ is one of the
    scores, or the next number below all scores if all steps are within the budget.
    """
    order = order_of(score)
    spent = Ordered(order, weights).reached(cost)[:, 1:]
    within = (spent <= budgets[:, None] * (1 + 1e-12)).sum(axis=1)  # groups; 1e-12 allows for rounding
    levels = score[order.steps[order.ends]]
    return np.append(levels, np.nextafter(levels[-1], -np.inf))[within]


def threshold_at(score: Floats, escalated: float) -> float:
    """Return the lowest τ at which at most the share ``escalated`` (0 to 1) of the steps has score > τ."""
    ones = np.ones(len(score))
    return float(threshold_within(score, ones, np.array([escalated * len(score)]), ones[None])[0])
