"""Intervals and quantiles."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.runs.intervals import clustered_interval, quantile, wilson_interval


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(0, 10, 0.0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1.0), (1, 1, 0.20655, 1.0)],
)
def test_the_interval_is_wilsons(right: int, of: int, low: float, high: float) -> None:
    assert wilson_interval(right, of) == pytest.approx((low, high), abs=1e-5)


def test_there_is_no_interval_of_nothing() -> None:
    assert wilson_interval(0, 0) is None


def test_an_interval_holds_its_share_and_stays_within_zero_and_one() -> None:
    for of, right in itertools.chain.from_iterable([(of, right) for right in range(of + 1)] for of in range(1, 60)):
        low, high = wilson_interval(right, of) or (1.0, 0.0)
        assert 0 <= low <= right / of <= high <= 1, (right, of)


@given(of=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wrong_answers_have_the_mirrored_interval(of: int, share: float) -> None:
    right = round(share * of)
    low, high = wilson_interval(right, of) or (0.0, 0.0)
    assert wilson_interval(of - right, of) == pytest.approx((1 - high, 1 - low))


@given(right=st.integers(0, 50), more=st.integers(0, 50))
def test_ten_times_the_problems_narrow_the_interval(right: int, more: int) -> None:
    of = right + more + 1
    few, many = wilson_interval(right, of) or (0.0, 0.0), wilson_interval(10 * right, 10 * of) or (0.0, 1.0)
    assert many[1] - many[0] < few[1] - few[0]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([3, 1, 2], 0.5, 2), ([1, 2], 0.5, 1.5), ([1, 2, 3], 1.0, 3), ([2, 1], 0, 1)],
)
def test_a_quantile_interpolates_between_its_neighbours(
    values: list[float], share: float, expected: float | None
) -> None:
    assert quantile(values, share) == expected


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1), share=st.floats(0, 1))
def test_a_quantile_lies_within_its_values(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found is not None
    assert min(values) - 1e-6 <= found <= max(values) + 1e-6


answers = st.lists(st.integers(0, 4), min_size=1, max_size=40)


def clustered(right: list[int], samples: int) -> tuple[float, float]:
    """Return the interval of the share of right samples, with ``samples`` per problem."""
    of = [float(samples)] * len(right)
    return clustered_interval([float(count) for count in right], of, most=sum(of)) or (1.0, 0.0)


@given(right=st.lists(st.sampled_from([0.0, 1.0]), min_size=1))
def test_with_one_answer_a_problem_the_clustered_interval_is_wilsons(right: list[float]) -> None:
    found = clustered_interval(right, [1.0] * len(right), most=len(right))
    assert found == wilson_interval(int(sum(right)), len(right))


def test_there_is_no_clustered_interval_of_nothing() -> None:
    assert clustered_interval([], [], most=0) is None


@given(right=answers)
def test_a_clustered_interval_holds_its_share_and_stays_within_zero_and_one(right: list[int]) -> None:
    low, high = clustered(right, 4)
    assert 0 <= low <= sum(right) / (4 * len(right)) <= high <= 1


@given(right=answers)
def test_samples_of_one_problem_are_worth_no_more_than_as_many_problems(right: list[int]) -> None:
    low, high = clustered(right, 4)
    apart = wilson_interval(sum(right), 4 * len(right)) or (0.0, 1.0)
    assert low <= apart[0] + 1e-12
    assert apart[1] - 1e-12 <= high


@given(right=st.lists(st.booleans(), min_size=1, max_size=40))
def test_samples_that_always_agree_are_worth_one(right: list[bool]) -> None:
    found = clustered([4 * one for one in right], 4)
    assert found == pytest.approx(wilson_interval(sum(right), len(right)))


@given(right=answers)
def test_the_order_of_the_problems_does_not_move_the_interval(right: list[int]) -> None:
    assert clustered(sorted(right), 4) == pytest.approx(clustered(right, 4))


@given(right=answers)
def test_wrong_samples_have_the_mirrored_interval(right: list[int]) -> None:
    low, high = clustered(right, 4)
    assert clustered([4 - count for count in right], 4) == pytest.approx((1 - high, 1 - low))


def test_one_wrong_sample_does_not_make_a_run_surer_than_none() -> None:
    without, with_one = clustered([4] * 100, 4), clustered([*[4] * 99, 3], 4)
    assert with_one[0] < without[0]
