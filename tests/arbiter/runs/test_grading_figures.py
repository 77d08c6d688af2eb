"""What is ungraded and why, the bounds of the accuracy, and how answers were found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading import Grade
from arbiter.grading.grader import NO_REFERENCE
from arbiter.runs.grading_figures import (
    accuracy_bounds,
    can_be_graded,
    found_by,
    grader_names,
    in_bounds,
    ungraded_reasons,
    without_box,
)
from arbiter.runs.samples import mean_accuracy, pass_at

RIGHT, WRONG = Grade(True, "4", found_by="box"), Grade(False, "5", found_by="####")
SLOW, LOST = Grade(None, "6", "too slow: 10 s", "box"), Grade(None, None, NO_REFERENCE)

problems = st.lists(st.lists(st.sampled_from([RIGHT, WRONG, SLOW, LOST]), min_size=1, max_size=4), max_size=6)


def test_reasons_are_counted_with_their_details_and_failures_by_themselves() -> None:
    grades = [(RIGHT, False), (SLOW, False), (SLOW, False), (LOST, False), (Grade(None, reason="down: x"), True)]
    assert ungraded_reasons(grades) == {"too slow: 10 s": 2, NO_REFERENCE: 1, "failed": 1}


def test_a_long_reason_is_cut() -> None:
    (reason,) = ungraded_reasons([(Grade(None, reason="it failed: " + "x" * 500), False)])
    assert reason.startswith("it failed: xxx")
    assert len(reason) < 150


@pytest.mark.parametrize(("ungraded", "count"), [({"too slow": 2}, None), ({"too slow": 2, NO_REFERENCE: 1}, 2)])
def test_samples_without_a_reference_are_not_in_the_bounds(ungraded: dict[str, int], count: int | None) -> None:
    assert in_bounds(ungraded) == count


def test_bounds_count_all_ungraded_as_wrong_and_as_right() -> None:
    assert accuracy_bounds([[RIGHT], [WRONG], [SLOW], [RIGHT]]) == (0.5, 0.75)
    assert accuracy_bounds([[RIGHT, SLOW], [WRONG, WRONG]]) == (0.25, 0.5)


def test_ungraded_answers_cannot_hide_behind_a_perfect_accuracy() -> None:
    half = [[RIGHT]] * 5 + [[SLOW]] * 5
    assert mean_accuracy(half).value == 1.0
    assert accuracy_bounds(half) == (0.5, 1.0)


@pytest.mark.parametrize("graded", [[], [[RIGHT]], [[RIGHT, WRONG], [WRONG]], [[RIGHT], [LOST]]])
def test_there_are_no_bounds_where_nothing_but_the_data_is_missing(graded: list[list[Grade]]) -> None:
    assert accuracy_bounds(graded) is None


@given(problems)
def test_bounds_enclose_what_any_verdicts_would_give(drawn: list[list[Grade]]) -> None:
    bounds = accuracy_bounds(drawn)
    if bounds is not None:
        judged = [[WRONG if grade is SLOW else grade for grade in grades] for grades in drawn]
        lowest = mean_accuracy(judged).value
        assert lowest is not None
        assert bounds[0] == pytest.approx(lowest)
        assert 0 <= bounds[0] <= bounds[1] <= 1


@given(problems)
def test_the_accuracy_is_pass_at_one_also_with_ungraded_samples(drawn: list[list[Grade]]) -> None:
    assert mean_accuracy(drawn) == pass_at(drawn, 1)


def test_rules_are_counted_and_those_without_a_box_are_told_apart() -> None:
    counts = found_by([RIGHT, RIGHT, WRONG, LOST, Grade(True, "3")])
    assert counts == {"box": 2, "####": 1, "no answer": 1, "not recorded": 1}
    assert without_box(counts) == {"####": 1}
    assert without_box({"code block": 2, "whole text": 1, "answer:": 3}) == {"answer:": 3}


@pytest.mark.parametrize(
    ("graders", "names"),
    [
        ([], ""),
        ([("math", 2), ("math", 2)], "math 2"),
        ([("math", 2), ("math", 1), ("math", 2)], "math 1 and 2"),
        ([("math", 2), ("choice", 1)], "choice 1, math 2"),
    ],
)
def test_the_graders_are_named_with_all_versions_of_the_grades(graders: list[tuple[str, int]], names: str) -> None:
    assert grader_names(graders) == names


@pytest.mark.parametrize(("reasons", "can"), [([], False), (["failed", NO_REFERENCE], False), (["too slow"], True)])
def test_only_what_the_grader_failed_at_is_worth_grading_again(reasons: list[str], can: bool) -> None:
    assert can_be_graded(reasons) is can
