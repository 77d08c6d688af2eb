"""The calibration of probabilities, and the outcomes of thresholds. All are sums over problems, for resampling."""

import msgspec
import numpy as np

from arbiter.evaluation.scores import StepScores
from arbiter.runs.reports.resampling import Floats, Integers, ratio, summed

BINS = 15
EQUAL = 1e-6
"""Rewards closer than this count as equal: scores of the same text differ in the last digits between batches."""

OUTCOMES = ("kept", "improved", "wasted", "harmed")


class Bins(msgspec.Struct, frozen=True, eq=False):
    """Sums per bin of equal mass, lowest scores first. The shape is (problems, bins)."""

    steps: Floats
    predicted: Floats
    positive: Floats

    def means(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the weight, mean ŷ and share of Δ > 0 of each bin: (resamples, bins), nan for an empty bin."""
        steps = weights @ self.steps
        return steps, ratio(weights @ self.predicted, steps), ratio(weights @ self.positive, steps)

    def ece(self, weights: Floats) -> Floats:
        """Return Σ_b n_b / n · abs(mean ŷ − share of Δ > 0), in [0, 1]: (resamples,)."""
        gaps = np.abs(weights @ self.predicted - weights @ self.positive)
        return gaps.sum(axis=1) / (weights @ self.steps).sum(axis=1)


def bins_of(scored: StepScores, bins: int = BINS) -> Bins:
    """Divide steps into ``bins`` bins of equal mass. Equal scores share a bin, so there may be fewer bins."""
    edges = np.unique(np.quantile(scored.score, np.arange(1, bins) / bins))
    bin_of = np.searchsorted(edges, scored.score, side="left")
    inside = 1.0 * (bin_of[:, None] == np.unique(bin_of))
    sums = [
        summed(inside * values[:, None], scored.problem, scored.problems)
        for values in (np.ones(len(scored.score)), scored.score, (scored.delta > 0).astype(np.float64))
    ]
    return Bins(*sums)


def brier(scored: StepScores, weights: Floats) -> Floats:
    """Return the mean of (ŷ − 1[Δ > 0])², in [0, 1]: (resamples,)."""
    return _mean((scored.score - (scored.delta > 0)) ** 2, np.ones(len(scored.score)), scored, weights)


def class_accuracy(scored: StepScores, threshold: float, positive: bool, weights: Floats) -> Floats:
    """Return the share of steps in a class that score > ``threshold`` classifies correctly: (resamples,).

    The class is Δ > 0 if ``positive``, else Δ ≤ 0.
    """
    in_class = (scored.delta > 0) == positive
    right = in_class & ((scored.score > threshold) == positive)
    return _mean(right.astype(np.float64), in_class.astype(np.float64), scored, weights)


def outcomes(problem: Integers, delta: Floats, escalated: Floats, weights: Floats) -> Floats:
    """Return the shares of steps kept, improved, wasted and harmed (``OUTCOMES``): (resamples, 4). They sum to 1.

    ``escalated`` is 1 or 0 per step. Wasted steps have abs(Δ) ≤ ``EQUAL``: the target's step is neither better nor
    worse.
    """
    better, worse = delta > EQUAL, delta < -EQUAL
    kinds = np.stack([1 - escalated, escalated * better, escalated * ~(better | worse), escalated * worse], axis=1)
    counts = weights @ summed(kinds, problem, weights.shape[1])
    return counts / counts.sum(axis=1, keepdims=True)


def _mean(part: Floats, whole: Floats, scored: StepScores, weights: Floats) -> Floats:
    sums = weights @ summed(np.stack([part, whole], axis=1), scored.problem, scored.problems)
    return ratio(sums[:, 0], sums[:, 1])
