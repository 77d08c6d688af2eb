"""Curves of runs at matched acceptance."""

from collections.abc import Callable

import numpy as np
import pytest

from arbiter.protocols.errors import DataError
from arbiter.runs.reports.curves import Curve, CurvePoint, along, area_ratio, curve, difference, resampled_problems
from arbiter.runs.reports.problem_outcomes import outcomes_of
from arbiter.runs.results import Result

Points = Callable[..., CurvePoint]

RNG = np.random.default_rng(5)
PROBLEMS = 80


def answers(share: float) -> list[bool]:
    return [bool(one) for one in RNG.random(PROBLEMS) < share]


@pytest.fixture(scope="module")
def curves(a_point: Points) -> list[Curve]:
    """Return curves of random, router and oracle between the same two ends."""
    draft, target = a_point(1.0, answers(0.5)), a_point(0.0, answers(0.9))
    inner = ((0.55, 0.75), (0.62, 0.82), (0.75, 0.9))
    return [curve([draft, a_point(0.7, answers(high)), a_point(0.3, answers(low)), target]) for high, low in inner]


def test_a_curve_goes_through_its_points_and_is_linear_between_them(a_point: Points) -> None:
    runs = curve([a_point(1.0, [False, False]), a_point(0.5, [True, False]), a_point(0.0, [True, True])])
    assert runs.at([0, 0.25, 0.5, 0.75, 1]) == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_acceptance_is_pooled_over_problems_and_what_is_not_graded_is_left_out(a_point: Points) -> None:
    runs = curve([a_point(0.4, [True, None, False, False])])
    assert runs.acceptance(runs.ones)[0, 0] == 0.4
    assert runs.at([0.4]) == pytest.approx([1 / 3])


def test_points_at_the_same_acceptance_are_one(a_point: Points) -> None:
    runs = curve([a_point(0.5, [True, True]), a_point(0.5, [False, True])])
    assert runs.at([0.5]) == [0.75]


def test_the_order_of_problems_in_a_run_does_not_matter(a_point: Points) -> None:
    one = a_point(0.5, [True, False, None])
    turned = CurvePoint(None, list(reversed(one.outcomes)))
    assert (curve([one, turned]).right[:, 0] == curve([one, turned]).right[:, 1]).all()


def test_runs_over_other_problems_are_refused(a_point: Points) -> None:
    with pytest.raises(DataError, match=r"has other problems .*\(1 are not in both\)"):
        curve([a_point(0.5, [True, False]), a_point(0.2, [True])])
    with pytest.raises(DataError, match="at least one run"):
        curve([])
    with pytest.raises(DataError, match="the curves have different problems"):
        resampled_problems([curve([a_point(0.5, [True, False])]), curve([a_point(0.2, [True])])])


def test_a_curve_does_not_differ_from_itself(curves: list[Curve]) -> None:
    weights = resampled_problems(curves, 200)
    for found in difference(curves[0], curves[0], [0.2, 0.5], weights):
        assert (found.value, found.interval) == (0, (0, 0))
    assert area_ratio(curves[0], curves[0], curves[2], weights).interval == (0, 0)


def test_a_paired_difference_is_surer_than_the_two_curves_alone(curves: list[Curve]) -> None:
    weights = resampled_problems(curves, 500)
    [found] = difference(curves[1], curves[0], [0.9], weights)

    def width(interval: tuple[float, float] | None) -> float:
        assert interval is not None
        return interval[1] - interval[0]

    alone = [width(along(each, [0.9], weights)[0].interval) for each in curves[:2]]
    assert found.value == pytest.approx(curves[1].at([0.9])[0] - curves[0].at([0.9])[0])
    assert width(found.interval) < sum(alone)


def test_the_area_ratio_is_0_for_the_base_and_1_for_the_best(curves: list[Curve]) -> None:
    base, _, best = curves
    weights = resampled_problems(curves, 300)
    assert area_ratio(base, base, best, weights).value == 0
    found = area_ratio(best, base, best, weights)
    assert found.value == pytest.approx(1)
    between = area_ratio(curves[1], base, best, weights)
    assert between.value is not None
    assert 0 < between.value < 1


def test_an_area_ratio_without_room_between_base_and_best_has_no_value(curves: list[Curve]) -> None:
    assert area_ratio(curves[1], curves[0], curves[0], resampled_problems(curves, 100)).value is None


def test_an_area_is_exact_also_between_the_points(a_point: Points) -> None:
    high = curve([a_point(1.0, [False, False]), a_point(0.5, [True, False]), a_point(0.0, [True, False])])
    low = curve([a_point(1.0, [False, False]), a_point(0.0, [False, False])])
    weights = np.ones((3, 2))
    assert high.areas(0, 1, weights) - low.areas(0, 1, weights) == pytest.approx(0.25 + 0.125)
    assert high.areas(0.4, 0.6, weights) - low.areas(0.4, 0.6, weights) == pytest.approx(0.05 + 0.1 * 0.45)


def test_the_samples_of_a_problem_are_one_outcome(a_result: Callable[..., Result]) -> None:
    results = [a_result(True, sample=0, seconds=1.0), a_result(False, sample=1, seconds=3.0)]
    [found] = outcomes_of(results)
    assert (found.right, found.draft_steps, found.steps, found.seconds) == (0.5, 2, 2, 2.0)


def test_a_run_with_nothing_graded_has_no_accuracy(a_point: Points) -> None:
    [found] = along(curve([a_point(0.5, [None, None])]), [0.5], np.ones((10, 2)))
    assert found.value is None
