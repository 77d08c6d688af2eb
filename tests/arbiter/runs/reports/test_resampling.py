"""Resamples of problems and their intervals."""

import numpy as np
import pytest

from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.resampling import by_step, drawn, estimate, ratio, summed


def test_a_resample_has_as_many_problems_as_there_are_and_the_seed_decides_it() -> None:
    weights = drawn(30, 50, 1)
    assert weights.shape == (50, 30)
    assert (weights.sum(axis=1) == 30).all()
    assert (weights == drawn(30, 50, 1)).all()
    assert (weights != drawn(30, 50, 2)).any()


def test_the_weights_of_steps_are_those_of_their_problems() -> None:
    weights, problem = drawn(3, 1000, 0), np.array([0, 0, 2] * 2000)
    parts = list(by_step(weights, problem))
    assert len(parts) > 1
    assert (np.concatenate(parts)[:, :3] == weights[:, [0, 0, 2]]).all()


def test_sums_are_over_the_steps_of_each_problem() -> None:
    assert summed(np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), 3).tolist() == [4, 3, 0]


def test_the_interval_of_figures_that_are_all_the_same_is_the_figure() -> None:
    assert estimate(0.25, np.full(100, 0.25)) == BootstrapEstimate(0.25, (0.25, 0.25))


@pytest.mark.parametrize(("undefined", "known"), [(2, True), (3, False), (100, False)])
def test_there_is_no_interval_of_a_selection(undefined: int, known: bool) -> None:
    resampled = np.where(np.arange(100) < undefined, np.nan, 0.5)
    assert (estimate(0.5, resampled).interval is not None) == known


def test_a_figure_that_is_not_defined_has_no_value() -> None:
    assert estimate(float("nan"), np.full(100, 0.5)) == BootstrapEstimate(None)


def test_intervals_cover_the_truth_about_as_often_as_they_say_with_steps_that_resemble_one_another() -> None:
    rng = np.random.default_rng(0)
    covered, naive = 0, 0
    problem = np.arange(400) // 10
    for trial in range(200):
        values = np.repeat(rng.normal(size=40), 10) + rng.normal(size=400) / 4  # mean 0, correlated within problems
        sums = summed(np.stack([values, np.ones(400)], 1), problem, 40)
        found = drawn(40, 300, trial) @ sums
        low, high = estimate(values.mean(), ratio(found[:, 0], found[:, 1])).interval or (0.0, 0.0)
        covered += low <= 0 <= high
        naive += bool(abs(values.mean()) <= 1.96 * values.std() / 20)
    assert 0.90 <= covered / 200 <= 0.98
    assert naive / 200 < 0.7
