"""Orders of steps: compared with scipy and scikit-learn, on constructed examples, and by invariants."""

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.evaluation.ranking import Ordered, order_of, rank_correlation
from arbiter.runs.reports.resampling import Floats

stats: Any = importlib.import_module("scipy.stats")
metrics: Any = importlib.import_module("sklearn.metrics")

SHARES = np.linspace(0, 1, 21)
numbers = st.integers(-6, 6).map(lambda number: number / 8)  # with many ties
steps = st.lists(st.tuples(numbers, numbers, st.integers(0, 3)), min_size=2, max_size=30)


def columns(rows: list[tuple[float, float, int]]) -> tuple[Floats, Floats, Floats]:
    score, delta, weight = np.array(rows, dtype=np.float64).T
    return score, delta, weight


def spearman(score: Floats, delta: Floats, weight: Floats) -> float:
    mine, others = (Ordered(order_of(values), weight[None]).ranks() for values in (score, delta))
    return float(rank_correlation(mine, others, weight[None])[0])


def gain(score: Floats, delta: Floats, weight: Floats | None = None) -> Floats:
    weights = (np.ones(len(score)) if weight is None else weight)[None]
    return Ordered(order_of(score), weights).gains(delta, SHARES).captured[0]


@given(steps)
def test_a_weighted_rank_correlation_is_that_of_steps_that_are_there_so_often(
    rows: list[tuple[float, float, int]],
) -> None:
    score, delta, weight = columns(rows)
    whole = weight.astype(int)
    often, gained = np.repeat(score, whole), np.repeat(delta, whole)
    if len(set(often)) > 1 and len(set(gained)) > 1:
        assert spearman(score, delta, weight) == pytest.approx(stats.spearmanr(often, gained).statistic, abs=1e-9)


@given(steps)
def test_a_weighted_auroc_is_that_of_scikit_learn(rows: list[tuple[float, float, int]]) -> None:
    score, delta, weight = columns(rows)
    positive = (delta > 0).astype(np.float64)
    found = float(Ordered(order_of(score), weight[None]).auroc(positive)[0])
    if len({one for one, often in zip(positive.tolist(), weight.tolist(), strict=True) if often}) == 2:
        assert found == pytest.approx(metrics.roc_auc_score(positive, score, sample_weight=weight), abs=1e-9)
    else:
        assert np.isnan(found)


def test_a_score_that_tells_no_steps_apart_has_the_figures_of_chance() -> None:
    score, delta = np.zeros(4), np.array([0.4, -0.2, 0.1, 0.0])
    assert spearman(score, delta, np.ones(4)) == 0
    ordered = Ordered(order_of(score), np.ones((1, 4)))
    assert ordered.auroc((delta > 0).astype(float))[0] == 0.5
    found = ordered.gains(delta, SHARES)
    assert found.captured[0] == pytest.approx(SHARES)
    assert found.net[0] == pytest.approx(SHARES * delta.sum() / 0.5)
    assert found.area[0] == pytest.approx(0.5)


def test_a_gain_curve_worked_out_by_hand() -> None:
    score, delta = np.array([0.9, 0.7, 0.7, 0.1]), np.array([0.1, -0.3, 0.3, 0.4])
    found = Ordered(order_of(score), np.ones((1, 4))).gains(delta, np.array([0, 0.25, 0.5, 0.75, 1]))
    assert found.captured[0] == pytest.approx([0, 1 / 8, 2.5 / 8, 4 / 8, 1])
    assert found.net[0] == pytest.approx([0, 1 / 8, 1 / 8, 1 / 8, 5 / 8])
    assert found.area[0] == pytest.approx((1 / 16 + (1 / 8 + 1 / 2) + 3 / 4) / 4)


@given(steps)
def test_a_gain_curve_rises_from_0_to_1_and_the_oracle_is_above_every_score(
    rows: list[tuple[float, float, int]],
) -> None:
    score, delta, _ = columns(rows)
    if not (delta > 0).any():
        return
    curve, best = gain(score, delta), gain(delta, delta)
    for line in (curve, best):
        assert line[0] == 0
        assert line[-1] == pytest.approx(1)
        assert (np.diff(line) >= -1e-12).all()
    assert (best >= curve - 1e-9).all()


@given(steps)
def test_a_weighted_gain_curve_is_that_of_steps_that_are_there_so_often(rows: list[tuple[float, float, int]]) -> None:
    score, delta, weight = columns(rows)
    whole = weight.astype(int)
    if (np.repeat(delta, whole) > 0).any():
        assert gain(score, delta, weight) == pytest.approx(gain(np.repeat(score, whole), np.repeat(delta, whole)))
