"""Matched acceptance: thresholds at the quantiles of the calibration split's scores, so that scores of different
scales are compared where they escalate as many steps.
"""

import numpy as np

from arbiter.evaluation.ranking import Ordered, order_of
from arbiter.evaluation.resampling import Floats


def threshold_within(score: Floats, cost: Floats, budgets: Floats, weights: Floats) -> Floats:
    """The lowest τ for which Σ cost over the steps with score > τ is at most the budget: (resamples,).

    ``cost`` is of the shape (steps,) and not negative, ``budgets`` (resamples,), ``weights`` (resamples, steps). With a
    cost of 1 a step and a budget of e · steps, τ is the 1 − e quantile of the scores. It is a score that occurs, or,
    where all steps are within the budget, the next number below them all.
    """
    order = order_of(score)
    spent = Ordered(order, weights).reached(cost)[:, 1:]
    within = (spent <= budgets[:, None] * (1 + 1e-12)).sum(axis=1)  # groups; a sum's rounding is no overdraft
    levels = score[order.steps[order.ends]]
    return np.append(levels, np.nextafter(levels[-1], -np.inf))[within]


def threshold_at(score: Floats, escalated: float) -> float:
    """The lowest τ at which at most the share ``escalated`` (0 to 1) of the steps has score > τ."""
    ones = np.ones(len(score))
    return float(threshold_within(score, ones, np.array([escalated * len(score)]), ones[None])[0])
