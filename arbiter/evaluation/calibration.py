"""Whether a probability means what it says, and what a threshold does to steps. Sums over problems, for resamples."""

import msgspec
import numpy as np

from arbiter.evaluation.resampling import Floats, Integers, ratio, summed
from arbiter.evaluation.scores import StepScores

BINS = 15
EQUAL = 1e-6
"""Rewards closer than this are equal: the same text, scored in another batch, differs in its last digits."""

OUTCOMES = ("kept", "improved", "wasted", "harmed")


class Bins(msgspec.Struct, frozen=True, eq=False):
    """Sums of each bin of equal mass, with the lowest scores first: (problems, bins)."""

    steps: Floats
    predicted: Floats
    positive: Floats

    def means(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Weight, mean ŷ and share of Δ > 0 in each bin, (resamples, bins); nan where a bin is empty."""
        steps = weights @ self.steps
        return steps, ratio(weights @ self.predicted, steps), ratio(weights @ self.positive, steps)

    def ece(self, weights: Floats) -> Floats:
        """Σ_b n_b / n · abs(mean ŷ − share of Δ > 0), in [0, 1]: (resamples,)."""
        gaps = np.abs(weights @ self.predicted - weights @ self.positive)
        return gaps.sum(axis=1) / (weights @ self.steps).sum(axis=1)


def bins_of(scored: StepScores, bins: int = BINS) -> Bins:
    """``bins`` of as many steps each as can be; equal scores are in one bin, so that there may be fewer."""
    edges = np.unique(np.quantile(scored.score, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, scored.score, side="left")
    inside = 1.0 * (place[:, None] == np.unique(place))
    sums = [
        summed(inside * values[:, None], scored.problem, scored.problems)
        for values in (np.ones(len(scored.score)), scored.score, (scored.delta > 0).astype(np.float64))
    ]
    return Bins(*sums)


def brier(scored: StepScores, weights: Floats) -> Floats:
    """Mean of (ŷ − 1[Δ > 0])², in [0, 1]: (resamples,)."""
    return _mean((scored.score - (scored.delta > 0)) ** 2, np.ones(len(scored.score)), scored, weights)


def class_accuracy(scored: StepScores, threshold: float, positive: bool, weights: Floats) -> Floats:
    """Of the steps with Δ > 0 (or else the others) the share that score > ``threshold`` tells right: (resamples,)."""
    there = (scored.delta > 0) == positive
    right = there & ((scored.score > threshold) == positive)
    return _mean(right.astype(np.float64), there.astype(np.float64), scored, weights)


def outcomes(problem: Integers, delta: Floats, escalated: Floats, weights: Floats) -> Floats:
    """Shares of steps that are kept, improved, wasted and harmed (``OUTCOMES``): (resamples, 4); they sum to 1.

    ``escalated`` is 1 or 0 a step. Wasted steps have abs(Δ) ≤ ``EQUAL``: the target wrote nothing better or worse.
    """
    better, worse = delta > EQUAL, delta < -EQUAL
    kinds = np.stack([1 - escalated, escalated * better, escalated * ~(better | worse), escalated * worse], axis=1)
    counts = weights @ summed(kinds, problem, weights.shape[1])
    return counts / counts.sum(axis=1, keepdims=True)


def _mean(part: Floats, whole: Floats, scored: StepScores, weights: Floats) -> Floats:
    sums = weights @ summed(np.stack([part, whole], axis=1), scored.problem, scored.problems)
    return ratio(sums[:, 0], sums[:, 1])
