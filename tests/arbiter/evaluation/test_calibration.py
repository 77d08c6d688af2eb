"""Probabilities and thresholds, compared with scikit-learn and with constructed examples."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.evaluation.calibration import bins_of, brier, class_accuracy, outcomes
from arbiter.evaluation.scores import StepScores

metrics: Any = importlib.import_module("sklearn.metrics")
Build = Callable[..., StepScores]

RNG = np.random.default_rng(3)
SCORE, DELTA, PROBLEM = RNG.random(200), RNG.normal(size=200), np.arange(200) // 5
ONES = np.ones((1, 40))


def test_the_brier_score_is_that_of_scikit_learn(scored: Build) -> None:
    found = brier(scored(SCORE, DELTA, PROBLEM), ONES)[0]
    assert found == pytest.approx(metrics.brier_score_loss(DELTA > 0, SCORE))


def test_the_accuracies_of_the_classes_are_the_recalls_of_scikit_learn(scored: Build) -> None:
    for positive in (True, False):
        found = class_accuracy(scored(SCORE, DELTA, PROBLEM), 0.5, positive, ONES)[0]
        assert found == pytest.approx(metrics.recall_score(DELTA > 0, SCORE > 0.5, pos_label=positive))


def test_a_score_at_the_threshold_keeps_the_draft(scored: Build) -> None:
    assert class_accuracy(scored([0.5, 0.5], [0.1, -0.1]), 0.5, False, np.ones((1, 2)))[0] == 1


def test_a_calibration_error_worked_out_by_hand(scored: Build) -> None:
    steps = scored([0.1, 0.2, 0.6, 0.8], [0.0, 0.3, 0.3, 0.3])
    bins = bins_of(steps, 2)
    counts, predicted, positive = bins.means(np.ones((1, 4)))
    assert counts[0].tolist() == [2, 2]
    assert predicted[0] == pytest.approx([0.15, 0.7])
    assert positive[0] == pytest.approx([0.5, 1.0])
    assert bins.ece(np.ones((1, 4)))[0] == pytest.approx((0.35 + 0.3) / 2)


def test_bins_have_as_many_steps_each_as_can_be(scored: Build) -> None:
    counts, _, _ = bins_of(scored(SCORE, DELTA, PROBLEM)).means(ONES)
    assert counts.shape == (1, 15)
    assert set(counts[0]) <= {13, 14}


def test_equal_scores_are_in_one_bin(scored: Build) -> None:
    counts, _, _ = bins_of(scored([0.3] * 9 + [0.9], DELTA[:10])).means(np.ones((1, 10)))
    assert counts[0].tolist() == [9, 1]


@pytest.mark.parametrize(("delta", "place"), [(0.1, 1), (0.0, 2), (5e-7, 2), (-5e-7, 2), (-0.1, 3)])
def test_an_escalated_step_is_improved_wasted_or_harmed(delta: float, place: int) -> None:
    found = outcomes(np.zeros(1, np.int64), np.array([delta]), np.ones(1), np.ones((1, 1)))
    assert np.flatnonzero(found[0]).tolist() == [place]


@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=1))
def test_outcomes_are_shares_of_all_steps(steps: list[tuple[float, bool]]) -> None:
    delta, escalated = (np.array(column, dtype=np.float64) for column in zip(*steps, strict=True))
    found = outcomes(np.arange(len(steps)), delta, escalated, np.ones((1, len(steps))))[0]
    assert found.sum() == pytest.approx(1)
    assert found[0] == pytest.approx(1 - escalated.mean())
