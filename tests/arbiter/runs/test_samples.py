"""Figures over several samples per problem."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading import Grade
from arbiter.runs.samples import comparable, majority_vote, mean_accuracy, pass_at, pass_at_each, unbiased_pass

RIGHT, WRONG, UNGRADED = Grade(True, "4"), Grade(False, "5"), Grade(None, "6", "too slow")
NO_ANSWER, FAILED = Grade(False, None, "there is no answer"), Grade(None, None, "the model fell over")

grades = st.sampled_from([RIGHT, WRONG, UNGRADED, NO_ANSWER, FAILED])
problems = st.lists(st.lists(grades, min_size=1, max_size=6), max_size=12)


@st.composite
def draws(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw a number of right samples, a number of samples, and a k."""
    of = draw(st.integers(1, 300))
    return draw(st.integers(0, of)), of, draw(st.integers(1, of))


@given(draws())
def test_pass_at_k_lies_between_zero_and_one(drawn: tuple[int, int, int]) -> None:
    assert 0 <= unbiased_pass(*drawn) <= 1


@given(draws())
def test_pass_at_k_does_not_fall_with_more_draws(drawn: tuple[int, int, int]) -> None:
    right, of, k = drawn
    assert k == of or unbiased_pass(right, of, k) <= unbiased_pass(right, of, k + 1)


@given(draws())
def test_pass_at_one_is_the_share_of_right_samples(drawn: tuple[int, int, int]) -> None:
    right, of, _ = drawn
    assert unbiased_pass(right, of, 1) == pytest.approx(right / of)


@pytest.mark.parametrize(("right", "of"), [(0, 5), (1, 5), (3, 5), (5, 5)])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_right_one(right: int, of: int, k: int) -> None:
    samples = [index < right for index in range(of)]
    drawn = [any(draw) for draw in itertools.combinations(samples, k)]
    assert unbiased_pass(right, of, k) == pytest.approx(sum(drawn) / len(drawn))


@given(problems)
def test_every_figure_lies_in_its_interval_and_counts_no_problem_twice(drawn: list[list[Grade]]) -> None:
    vote = majority_vote(drawn)
    assert vote.problems + vote.undecided == len(drawn)
    for found in (mean_accuracy(drawn), vote, *pass_at_each(drawn, 4).values()):
        assert found.problems <= len(drawn)
        assert (found.value is None) == (found.interval is None) == (found.problems == 0)
        if found.value is not None and found.interval is not None:
            assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= 1


@given(st.lists(st.lists(st.sampled_from([RIGHT, WRONG, NO_ANSWER]), min_size=4, max_size=4), min_size=1))
def test_where_all_samples_are_graded_pass_at_one_is_the_mean_accuracy(drawn: list[list[Grade]]) -> None:
    accuracy, passed = mean_accuracy(drawn), pass_at(drawn, 1)
    assert passed.value == pytest.approx(accuracy.value)
    assert passed.interval == pytest.approx(accuracy.interval)


@pytest.mark.parametrize(("samples", "ks"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])])
def test_pass_at_k_is_told_for_powers_of_two_and_for_all_samples(samples: int, ks: list[int]) -> None:
    assert list(pass_at_each([[RIGHT] * samples], samples)) == ks


def test_a_problem_with_fewer_than_k_graded_samples_is_not_in_pass_at_k() -> None:
    found = pass_at([[RIGHT, UNGRADED], [WRONG, WRONG], [FAILED, FAILED]], 2)
    assert (found.value, found.problems) == (0.0, 1)


def test_mean_accuracy_is_over_samples_and_leaves_out_the_ungraded() -> None:
    found = mean_accuracy([[RIGHT, WRONG, UNGRADED], [RIGHT, RIGHT], [FAILED]])
    assert (found.value, found.problems) == (3 / 4, 2)


@pytest.mark.parametrize(
    ("votes", "right"),
    [
        ([RIGHT, RIGHT, WRONG], True),
        ([WRONG, RIGHT, WRONG], False),
        (
            [Grade(True, "1/2"), WRONG, Grade(True, "0.5"), WRONG, Grade(True, "\\frac12")],
            True,
        ),  # right answers are equal
        ([Grade(False, "7"), RIGHT, Grade(False, "8"), RIGHT, Grade(False, "9")], True),  # wrong answers differ
        ([Grade(False, "x+1"), RIGHT, Grade(False, "x + 1")], False),  # written the same
        ([NO_ANSWER, NO_ANSWER, RIGHT], True),  # a sample without answer has no vote
        ([FAILED, FAILED, WRONG], False),
        ([Grade(True), Grade(True), WRONG], True),  # right without an answer text
        ([NO_ANSWER, FAILED], False),  # no votes, but one sample was judged
        ([FAILED, FAILED], None),
        ([UNGRADED, UNGRADED, RIGHT], None),  # the most frequent answer was never judged
        ([Grade(None, "4", "too slow"), RIGHT, WRONG], True),  # the same text was judged once
    ],
)
def test_the_majoritys_answer_decides(votes: list[Grade], right: bool | None) -> None:
    found = majority_vote([votes])
    assert (found.value, found.undecided) == (None if right is None else float(right), int(right is None))


@pytest.mark.parametrize(("votes", "right"), [([RIGHT, WRONG], 1.0), ([WRONG, RIGHT], 0.0)])
def test_a_tie_goes_to_the_answer_of_the_lowest_sample_and_is_counted(votes: list[Grade], right: float) -> None:
    found = majority_vote([votes])
    assert (found.value, found.ties) == (right, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000", "1000."),
        ("0.50", ".5".rjust(3, "0")),
        ("-0", "0"),
        ("007", "7"),
        ("$x + 1$", "x+1"),
        ("\\dfrac{1}{2}", "\\frac{1}{2}"),
        ("\\left( 1,\\ 2 \\right)", "(1,2)"),
        ("2 \\pi", "2\\pi"),
        ("no  solution", "no solution"),
    ],
)
def test_answers_that_differ_only_in_their_looks_are_written_the_same(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1 1/2", "11/2"), ("12,34", "1234"), ("-1", "1"), ("0.05", "0.5"), ("10", "1"), ("\\pi r", "\\pir")],
)
def test_different_answers_are_written_differently(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


@given(st.integers())
def test_whole_numbers_are_kept(number: int) -> None:
    assert comparable(f"{number}") == comparable(f"{number:,}") == str(number)


def test_the_estimator_is_exact_for_many_samples() -> None:
    assert unbiased_pass(1, 10_000, 100) == pytest.approx(0.01)
    assert math.isclose(unbiased_pass(5_000, 10_000, 10_000), 1.0)
