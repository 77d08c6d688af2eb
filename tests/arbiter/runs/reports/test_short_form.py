"""A run in a few lines, and its comparison with both models alone: no sentence claims more than its figures."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.config.run_tables import RunType
from arbiter.protocols.records import RequestCounts, Usage
from arbiter.runs.baselines import ComparedRun
from arbiter.runs.reports.short_form import comparison_table, heading, lines_of, not_graded, sentences
from arbiter.runs.results import Cost, Result, Summary, summarise

Results = Callable[..., Result]

BASELINE = ComparedRun(
    run="runs/target",
    problems=200,
    decoded=200,
    graded=200,
    failed=0,
    accuracy=0.5,
    accuracy_interval=(0.4, 0.6),
    target_tokens=1000,
    wall_seconds=10.0,
    cpu_seconds=20.0,
    mean_seconds=1.0,
    cost=None,
)


@pytest.fixture
def a_summary(a_result: Results) -> Callable[..., Summary]:
    """A summary with the given fields replaced."""

    def build(tokens: int = 200, run_type: RunType = "router", **fields: Any) -> Summary:
        calls = {"target": RequestCounts(requests=10, usage=Usage(5, tokens))}
        threshold = 0.5 if run_type == "router" else None
        summary = summarise([a_result(requests=calls)], run_type, threshold, wall_seconds=10.0)
        usual: dict[str, Any] = {"accuracy": 0.5, "accuracy_interval": (0.4, 0.6), "cpu_seconds": 20.0}
        return msgspec.structs.replace(summary, **usual | fields)

    return build


def against(summary: Summary, **fields: Any) -> Summary:
    """The summary compared with a draft alone of 10 %, and a target alone with the given fields."""
    draft = msgspec.structs.replace(BASELINE, accuracy=0.1, accuracy_interval=(0.05, 0.2), target_tokens=0)
    target = msgspec.structs.replace(BASELINE, **fields)
    return msgspec.structs.replace(summary, comparison={"draft": draft, "target": target})


def said(summary: Summary, in_process: bool = True) -> list[str]:
    return list(sentences(summary, in_process))


def test_a_run_has_a_heading_and_five_lines(a_summary: Callable[..., Summary]) -> None:
    summary = a_summary(problems=1200)
    assert heading(summary) == "router, threshold τ = 0.5: 1,200 problems"
    assert lines_of(summary, in_process=True) == {
        "accuracy": "50.0% (95 % interval 40.0% to 60.0%)",
        "acceptance": "100.0% of 1 step written by the draft",
        "target tokens": "200 in 10 requests",
        "wall time": "10.0 s; 1.00 s per problem on average",
        "CPU time": "20.0 s",
    }


def test_failures_and_cost_are_lines_only_if_there_are_any(a_summary: Callable[..., Summary]) -> None:
    fields = {"ungraded": {"too slow": 1, "failed": 2}, "accuracy_bounds": (0.35, 0.65), "found_by": {"box": 5}}
    lines = lines_of(a_summary(**fields, cost=Cost({"target": 0.5}, 0.5)), in_process=True)
    text = "1 (too slow), 2 (failed); with them it is 35.0% if all are wrong, 65.0% if all are right"
    assert (lines["not in accuracy"], lines["cost"]) == (text, "0.5000")
    assert len(lines) == 7


def test_bounds_say_which_of_the_ungraded_samples_they_count(a_summary: Callable[..., Summary]) -> None:
    reasons = {"the problem has no reference answer": 1, "too slow": 2}
    text = not_graded(a_summary(ungraded=reasons, accuracy_bounds=(0.35, 0.65)))
    assert text.endswith(
        "2 (too slow); with the 2 that have a reference answer it is 35.0% if all are wrong, 65.0% if all are right"
    )


def test_answers_without_a_box_are_a_line_that_names_the_rules(a_summary: Callable[..., Summary]) -> None:
    counts = {"box": 5, "####": 1, "final answer": 2, "no answer": 3}
    found = lines_of(a_summary(found_by=counts), in_process=True)["without a box"]
    assert found == '3 answers, found after a phrase: "final answer" 2, "####" 1'


def test_unknown_figures_are_said_to_be_unknown(a_summary: Callable[..., Summary]) -> None:
    lines = lines_of(a_summary(graded=0, accuracy=None, accuracy_interval=None, cpu_seconds=None), in_process=True)
    assert lines["accuracy"] == "not known, because no answer was graded"
    assert lines["CPU time"] == "not known, because the run was resumed"


def test_the_cpu_time_of_served_models_is_not_claimed(a_summary: Callable[..., Summary]) -> None:
    assert lines_of(a_summary(), in_process=False)["CPU time"] == "20.0 s in this process, without the servers"
    assert "CPU" not in said(against(a_summary()), in_process=False)[0]


def test_samples_are_in_the_heading_and_in_the_time(a_summary: Callable[..., Summary]) -> None:
    summary = a_summary(samples=4, interrupted=True)
    assert heading(summary) == "router, threshold τ = 0.5: 1 problem, 4 samples each, interrupted"
    assert lines_of(summary, in_process=True)["wall time"] == "10.0 s; 1.00 s per sample on average"


def test_a_comparison_has_a_row_for_each_model_alone_and_the_run_between_them(
    a_summary: Callable[..., Summary],
) -> None:
    headings, rows = comparison_table(against(a_summary(problems=200)))
    assert headings[0] == "200 problems"
    assert [row[0] for row in rows] == ["draft alone", "router", "target alone"]
    assert rows[1] == ["router", "50.0%", "40.0% to 60.0%", "10.0", "20.0", "200", "1.00"]


@pytest.mark.parametrize(("run_type", "other"), [("draft", "target"), ("target", "draft")])
def test_a_model_alone_is_a_row_with_its_own_name(
    a_summary: Callable[..., Summary], run_type: RunType, other: Any
) -> None:
    summary = msgspec.structs.replace(a_summary(run_type=run_type), comparison={other: BASELINE})
    assert [row[0] for row in comparison_table(summary).rows] == ["draft alone", "target alone"]
    assert said(summary)[0].startswith("Compared with the target alone, draft alone needed ")


def test_costs_are_a_column_if_there_are_any(a_summary: Callable[..., Summary]) -> None:
    headings, rows = comparison_table(against(a_summary(), cost=2.0))
    assert (headings[-1], rows[-1][-1], rows[0][-1]) == ("cost", "2.00", "–")


def test_shares_are_those_of_the_target_alone(a_summary: Callable[..., Summary]) -> None:
    summary = against(a_summary(wall_seconds=4.0, cpu_seconds=5.0))
    assert said(summary)[0] == (
        "Compared with the target alone, router (τ = 0.5) needed 20.0% of the target tokens, 40.0% of the wall time "
        "and 25.0% of the CPU time."
    )


def test_a_run_that_took_longer_is_said_to_have_taken_longer(a_summary: Callable[..., Summary]) -> None:
    sentence = said(against(a_summary(wall_seconds=16.0, cpu_seconds=30.0)))[0]
    assert sentence.endswith("1.60 times the wall time and 1.50 times the CPU time: it took longer.")


@given(st.floats(0.01, 1000), st.floats(0.01, 1000))
def test_longer_is_said_exactly_of_what_is_shown_as_more_than_once(wall: float, target: float) -> None:
    run = summarise([], "router", 0.5, wall_seconds=wall)
    sentence = said(against(run, wall_seconds=target))[0]
    times = re.search(r"([\d.]+) times the wall time", sentence)
    assert ("took longer" in sentence) == (times is not None and float(times[1]) > 1)


def test_seconds_that_are_not_known_are_left_out(a_summary: Callable[..., Summary]) -> None:
    summary = against(a_summary(cpu_seconds=None), wall_seconds=None)
    assert said(summary)[0] == "Compared with the target alone, router (τ = 0.5) needed 20.0% of the target tokens."
    nothing = against(a_summary(cpu_seconds=None), wall_seconds=None, target_tokens=0)
    assert "cannot be compared" in said(nothing)[0]


@pytest.mark.parametrize(
    ("target", "draft", "words"),
    [
        (0.55, 0.45, "target alone lie within each other's 95 % intervals, and so do those of router and draft alone"),
        (0.55, 0.10, "target alone lie within each other's 95 % intervals, but those of router and draft alone do not"),
        (0.90, 0.45, "do not lie within each other's 95 % intervals, but those of router and draft alone do"),
        (0.90, 0.10, "do not lie within each other's 95 % intervals, and neither do those of router and draft alone"),
    ],
)
def test_accuracies_are_compared_by_their_intervals(
    a_summary: Callable[..., Summary], target: float, draft: float, words: str
) -> None:
    runs = {
        role: msgspec.structs.replace(BASELINE, accuracy=value, accuracy_interval=(value - 0.1, value + 0.1))
        for role, value in {"draft": draft, "target": target}.items()
    }
    assert words in said(msgspec.structs.replace(a_summary(), comparison=runs))[1]


def test_an_interval_that_holds_only_one_of_the_accuracies_is_not_enough(a_summary: Callable[..., Summary]) -> None:
    assert "do not lie" in said(against(a_summary(), accuracy=0.58, accuracy_interval=(0.55, 0.61)))[1]


def test_without_grades_no_accuracies_are_compared(a_summary: Callable[..., Summary]) -> None:
    summary = against(a_summary(), accuracy=None, accuracy_interval=None, graded=0, failed=200)
    assert said(summary)[1:] == [
        "The accuracies cannot be compared, because a run has no graded answers.",
        "The accuracy of target alone leaves out: 200 failed.",
    ]


def test_several_targets_are_named(a_summary: Callable[..., Summary]) -> None:
    *_, last = sentences(against(a_summary()), in_process=True, targets=("small", "large"))
    assert last == "The target alone is small, the first target. The target tokens are those of all targets."
