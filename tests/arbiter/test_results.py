"""The figures of a run, from results made by hand."""

import itertools
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.results import (
    Latency,
    ModelCalls,
    ModelTokens,
    Result,
    Summary,
    Waste,
    quantile,
    summarise,
    wilson_interval,
)
from protocols.records import Audit, Candidate, Model, Solution, StepRecord, Tally, Usage

Candidates = Callable[..., Candidate]
Solutions = Callable[..., Solution]
Results = Callable[..., Result]

PROMISED = {
    "problems",
    "graded",
    "failed",
    "accuracy",
    "accuracy_interval",
    "acceptance_rate",
    "steps",
    "target_calls",
    "tokens",
    "latency",
    "wall_seconds",
}


def summary(*results: Result) -> Summary:
    return summarise(results, "router", 0.5, wall_seconds=10.0)


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


def test_the_summary_has_the_keys_that_are_promised() -> None:
    written = msgspec.json.decode(msgspec.json.encode(summary()), type=dict[str, object])
    assert written.keys() >= PROMISED
    assert written["latency"] == {"mean": None, "p50": None, "p95": None}


def test_a_run_without_a_problem_has_no_shares() -> None:
    empty = summary()
    assert (empty.problems, empty.graded, empty.failed, empty.steps, empty.target_calls) == (0, 0, 0, 0, 0)
    assert (empty.accuracy, empty.accuracy_interval, empty.acceptance_rate) == (None, None, None)
    assert (empty.acceptance_rate_tokens, empty.latency) == (None, Latency(None, None, None))
    assert empty.wasted_escalations == Waste(judged=0, share=None)
    assert (empty.calls, empty.tokens, empty.finish) == ({}, {}, {})


def test_what_is_known_of_the_run_is_told_as_it_was_given() -> None:
    told = summarise([], "rsd", 0.8, wall_seconds=12.5, interrupted=True)
    assert (told.run_type, told.threshold, told.wall_seconds, told.interrupted) == ("rsd", 0.8, 12.5, True)


def test_accuracy_is_the_share_of_right_answers_among_the_graded(a_result: Results) -> None:
    figures = summary(a_result(True), a_result(True), a_result(False), a_result(None))
    assert (figures.problems, figures.graded, figures.accuracy) == (4, 3, 2 / 3)
    assert figures.accuracy_interval == wilson_interval(2, 3)


def test_a_failed_problem_is_counted_and_not_graded(a_result: Results) -> None:
    figures = summary(a_result(True), a_result(None, finish="failed", error="boom"))
    assert (figures.problems, figures.failed, figures.graded, figures.accuracy) == (2, 1, 1, 1.0)
    assert figures.finish == {"answered": 1, "failed": 1}


def test_acceptance_counts_steps_and_tokens(a_result: Results, a_solution: Solutions, a_candidate: Candidates) -> None:
    kept = StepRecord(candidates=(a_candidate("draft", tokens=2),), chosen=0, verdict="keep_draft")
    replaced = StepRecord(
        candidates=(a_candidate("draft", tokens=50), a_candidate("target", tokens=6)), chosen=1, verdict="escalate"
    )
    figures = summary(
        a_result(solution=a_solution("p", kept, kept, replaced)), a_result(solution=a_solution("q", kept))
    )
    assert (figures.steps, figures.escalations) == (4, 1)
    assert (figures.acceptance_rate, figures.acceptance_rate_tokens) == (3 / 4, 6 / 12)


def test_tokens_are_kept_or_discarded_and_add_up_to_what_was_written(
    a_result: Results, a_solution: Solutions, a_candidate: Candidates
) -> None:
    replaced = StepRecord(
        candidates=(a_candidate("draft", tokens=5), a_candidate("target", tokens=7)), chosen=1, verdict="escalate"
    )
    calls: dict[Model, Tally] = {
        "draft": Tally(requests=2, cancelled=1, usage=Usage(20, 5, 4)),
        "target": Tally(requests=1, usage=Usage(30, 9, 0)),
        "router": Tally(requests=1, usage=Usage(15)),
    }
    figures = summary(a_result(solution=a_solution("p", replaced, calls=calls)))
    assert figures.tokens == {
        "draft": ModelTokens(kept=0, discarded=5, prompt=20, cached=4),
        "target": ModelTokens(kept=7, discarded=2, prompt=30, cached=0),
        "router": ModelTokens(kept=0, discarded=0, prompt=15, cached=0),
    }


def test_requests_are_added_up_by_model(a_result: Results) -> None:
    first: dict[Model, Tally] = {"draft": Tally(requests=3, failed=1), "target": Tally(requests=2, cancelled=1)}
    figures = summary(a_result(calls=first), a_result(calls={"target": Tally(requests=4)}))
    assert figures.calls == {"draft": ModelCalls(3, 1, 0), "target": ModelCalls(6, 0, 1)}


def test_target_calls_count_every_request_to_the_target(a_result: Results) -> None:
    calls: dict[Model, Tally] = {"target": Tally(requests=4, failed=1, cancelled=1), "audit": Tally(requests=9)}
    assert summary(a_result(calls=calls), a_result()).target_calls == 4


@pytest.mark.parametrize(("draft", "target", "wasted"), [(0.5, 0.6, 0.0), (0.5, 0.5, 1.0), (0.6, 0.5, 1.0)])
def test_an_audited_escalation_is_wasted_unless_it_improved_the_step(
    a_result: Results, a_solution: Solutions, a_candidate: Candidates, draft: float, target: float, wasted: float
) -> None:
    step = StepRecord((a_candidate("draft"), a_candidate("target")), 1, "escalate", Audit(draft, target))
    assert summary(a_result(solution=a_solution("p", step))).wasted_escalations == Waste(judged=1, share=wasted)


def test_an_oracle_step_is_wasted_unless_the_targets_first_sample_scored_higher(
    a_result: Results, a_solution: Solutions, a_candidate: Candidates
) -> None:
    def step(draft: float, *targets: float) -> StepRecord:
        samples = (a_candidate("target", score, sample=n) for n, score in enumerate(targets))
        return StepRecord((a_candidate("draft", draft), *samples), 0, "keep_draft")

    steps = step(0.5, 0.9), step(0.5, 0.5), step(0.5, 0.4, 0.9), step(0.1, 0.2)
    assert summary(a_result(solution=a_solution("p", *steps))).wasted_escalations == Waste(judged=4, share=0.5)


def test_a_step_that_was_never_scored_twice_is_not_judged(
    a_result: Results, a_solution: Solutions, a_candidate: Candidates
) -> None:
    routed = StepRecord((a_candidate("draft", 0.9), a_candidate("target")), 1, "escalate")
    kept = StepRecord((a_candidate("draft", 0.1),), 0, "keep_draft")
    assert summary(a_result(solution=a_solution("p", routed, kept))).wasted_escalations.judged == 0


def test_latency_is_of_the_problems_that_did_not_fail(a_result: Results) -> None:
    solved = [a_result(seconds=seconds) for seconds in (1.0, 2.0, 6.0)]
    failed = a_result(None, seconds=100.0, finish="failed", error="boom")
    assert summary(*solved, failed).latency == Latency(mean=3.0, p50=2.0, p95=5.6)
