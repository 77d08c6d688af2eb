"""The figures of a run, from constructed results."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.config.config import Config
from arbiter.config.model_tables import PriceTable
from arbiter.grading import Grade
from arbiter.protocols.records import (
    AuditScores,
    Candidate,
    Gathered,
    Model,
    PrefixMatch,
    RequestCounts,
    Solution,
    StepRecord,
    Usage,
)
from arbiter.runs.gathering_waits import GatheringWaits
from arbiter.runs.intervals import wilson_interval
from arbiter.runs.results import (
    Cost,
    Latency,
    ModelCalls,
    ModelTokens,
    Result,
    Summary,
    VerificationSavings,
    Waste,
    summarise,
    summary_of,
)

Candidates = Callable[..., Candidate]
Solutions = Callable[..., Solution]
Results = Callable[..., Result]
Configs = Callable[..., Config]

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


def apart(*results: Result) -> list[Result]:
    """Return ``results``, each with a separate problem."""
    return [
        msgspec.structs.replace(result, solution=msgspec.structs.replace(result.solution, problem=str(number)))
        for number, result in enumerate(results)
    ]


def summary(*results: Result) -> Summary:
    return summarise(apart(*results), "router", 0.5, wall_seconds=10.0)


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
    assert (empty.requests, empty.tokens, empty.finish_reasons) == ({}, {}, {})


def test_what_is_known_of_the_run_is_told_as_it_was_given() -> None:
    found = summarise([], "rsd", 0.8, wall_seconds=12.5, interrupted=True)
    assert (found.run_type, found.threshold, found.wall_seconds, found.interrupted) == ("rsd", 0.8, 12.5, True)


def test_accuracy_is_the_share_of_right_answers_among_the_graded(a_result: Results) -> None:
    figures = summary(a_result(True), a_result(True), a_result(False), a_result(None))
    assert (figures.problems, figures.graded, figures.accuracy) == (4, 3, 2 / 3)
    assert figures.accuracy_interval == wilson_interval(2, 3)


def test_a_failed_problem_is_counted_and_not_graded(a_result: Results) -> None:
    figures = summary(a_result(True), a_result(None, finish_reason="failed", error="boom"))
    assert (figures.problems, figures.failed, figures.graded, figures.accuracy) == (2, 1, 1, 1.0)
    assert figures.finish_reasons == {"answered": 1, "failed": 1}


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


def test_tokens_are_kept_or_discarded_and_those_of_cancelled_requests_are_in_neither(
    a_result: Results, a_solution: Solutions, a_candidate: Candidates
) -> None:
    replaced = StepRecord(
        candidates=(a_candidate("draft", tokens=5), a_candidate("target", tokens=7)), chosen=1, verdict="escalate"
    )
    calls: dict[Model, RequestCounts] = {
        "draft": RequestCounts(requests=2, cancelled=1, usage=Usage(20, 5, 4)),
        "target": RequestCounts(requests=1, usage=Usage(30, 9, 0)),
        "router": RequestCounts(requests=1, usage=Usage(15)),
    }
    figures = summary(a_result(solution=a_solution("p", replaced, requests=calls)))
    assert figures.tokens == {
        "draft": ModelTokens(kept=0, discarded=5, prompt=20, cached=4, cancelled=None),
        "target": ModelTokens(kept=7, discarded=2, prompt=30, cached=0),
        "router": ModelTokens(kept=0, discarded=0, prompt=15, cached=0),
    }


def test_requests_are_added_up_by_model(a_result: Results) -> None:
    first: dict[Model, RequestCounts] = {
        "draft": RequestCounts(requests=3, failed=1),
        "target": RequestCounts(requests=2, cancelled=1),
    }
    figures = summary(a_result(requests=first), a_result(requests={"target": RequestCounts(requests=4)}))
    assert figures.requests == {"draft": ModelCalls(3, 1, 0), "target": ModelCalls(6, 0, 1)}


def test_target_calls_count_every_request_to_the_target(a_result: Results) -> None:
    calls: dict[Model, RequestCounts] = {
        "target": RequestCounts(requests=4, failed=1, cancelled=1),
        "audit": RequestCounts(requests=9),
    }
    assert summary(a_result(requests=calls), a_result()).target_calls == 4


@pytest.mark.parametrize(("draft", "target", "wasted"), [(0.5, 0.6, 0.0), (0.5, 0.5, 1.0), (0.6, 0.5, 1.0)])
def test_an_audited_escalation_is_wasted_unless_it_improved_the_step(
    a_result: Results, a_solution: Solutions, a_candidate: Candidates, draft: float, target: float, wasted: float
) -> None:
    step = StepRecord((a_candidate("draft"), a_candidate("target")), 1, "escalate", AuditScores(draft, target))
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
    failed = a_result(None, seconds=100.0, finish_reason="failed", error="boom")
    assert summary(*solved, failed).latency == Latency(mean=3.0, p50=2.0, p95=5.6)


@given(verdicts=st.lists(st.sampled_from([True, False, None]), max_size=30))
def test_with_one_sample_a_problem_all_shares_are_the_plain_accuracy(verdicts: list[bool | None]) -> None:
    results = [
        Result(
            solution=Solution(str(number), "?", (), "answered", 1.0, {}),
            grade=Grade(right=verdict, answer=None if verdict is None else str(verdict)),
        )
        for number, verdict in enumerate(verdicts)
    ]
    figures, graded = summarise(results, "router", 0.5, 1.0), [right for right in verdicts if right is not None]
    accuracy, interval = sum(graded) / len(graded) if graded else None, wilson_interval(sum(graded), len(graded))
    assert (figures.problems, figures.decoded, figures.graded) == (len(verdicts), len(verdicts), len(graded))
    assert (figures.accuracy, figures.accuracy_interval) == (accuracy, interval)
    assert figures.pass_at_k.keys() == {1}
    assert (figures.pass_at_k[1].value, figures.pass_at_k[1].interval) == (accuracy, interval)
    assert figures.majority_vote is not None
    assert (figures.majority_vote.value, figures.majority_vote.interval) == (accuracy, interval)


def test_problems_are_counted_once_however_often_each_is_decoded(a_result: Results) -> None:
    results = [a_result(problem=name, sample=number) for name in ("p", "q") for number in range(3)]
    figures = summarise(results, "router", 0.5, 1.0, samples=3)
    assert (figures.problems, figures.samples, figures.decoded, figures.graded, figures.steps) == (2, 3, 6, 6, 6)
    assert list(figures.pass_at_k) == [1, 2, 3]


@given(order=st.permutations(range(6)))
def test_the_order_in_which_samples_end_changes_no_share(order: list[int]) -> None:
    answers = "112223"
    results = [
        Result(
            solution=Solution("p", "?", (), "answered", 1.0, {}, sample=number),
            grade=Grade(right=answers[number] == "1", answer=answers[number]),
        )
        for number in order
    ]
    figures = summarise(results, "router", 0.5, 1.0, samples=6)
    assert (figures.accuracy, figures.majority_vote and figures.majority_vote.value) == (2 / 6, 0.0)


PRICES = {
    "draft": PriceTable(prompt=1.0, cached=0.5, completion=4.0),
    "target": PriceTable(prompt=10.0, completion=40.0),
    "prm": PriceTable(prompt=3.0, completion=0.0),
}


def test_a_model_costs_what_it_read_and_all_that_it_wrote(a_result: Results) -> None:
    calls: dict[Model, RequestCounts] = {
        "draft": RequestCounts(requests=1, usage=Usage(3_000_000, 2_000_000, 1_000_000)),
        "target": RequestCounts(requests=1, usage=Usage(1_000_000, 100_000, 500_000)),
    }
    found = summarise(
        [a_result(requests=calls), a_result(problem="q", requests=calls)], "rsd", 0.7, 1.0, prices=PRICES
    ).cost
    assert found == Cost({"draft": 2 * (2 + 0.5 + 8), "target": 2 * (10 + 4)}, 2 * (10.5 + 14))


def test_without_a_price_for_a_called_model_the_whole_cost_is_not_known(a_result: Results) -> None:
    calls: dict[Model, RequestCounts] = {
        "draft": RequestCounts(1, usage=Usage(1_000_000)),
        "router": RequestCounts(1, usage=Usage(9)),
    }
    found = summarise([a_result(requests=calls)], "router", 0.5, 1.0, prices=PRICES).cost
    assert found == Cost({"draft": 1.0, "router": None}, None)


def test_an_audit_costs_what_the_prm_costs_and_is_not_in_the_total(a_result: Results) -> None:
    calls: dict[Model, RequestCounts] = {
        "draft": RequestCounts(1, usage=Usage(1_000_000)),
        "audit": RequestCounts(1, usage=Usage(1_000_000)),
    }
    found = summarise([a_result(requests=calls)], "random", 0.5, 1.0, prices=PRICES).cost
    assert found == Cost({"draft": 1.0, "audit": 3.0}, 1.0)


def test_each_of_several_targets_has_its_own_requests_tokens_and_price(
    a_config: Configs, a_result: Results, a_solution: Callable[..., Solution]
) -> None:
    model = {"model": "m", "prompt": "{question}"}
    targets = {
        "small": {**model, "cost": 1, "price": {"prompt": 1.0, "completion": 2.0}},
        "large": {**model, "cost": 5, "price": {"prompt": 10.0, "completion": 20.0}},
    }
    request_counts = {
        "small": RequestCounts(2, usage=Usage(1_000_000, 3)),
        "large": RequestCounts(1, usage=Usage(500_000, 4)),
    }
    kept = Candidate("target", "t", "separator", Usage(completion_tokens=3), 0.0, target="small")
    whole: dict[Model, RequestCounts] = {"target": request_counts["small"] + request_counts["large"]}
    steps = (StepRecord((kept,), 0, "escalate"),)
    config = a_config(run_type="router", models={"targets": targets})
    solution = a_solution("p", *steps, requests=whole, targets=request_counts)
    found = summary_of(config, [a_result(solution=solution)], 1.0)
    assert (found.target_calls, found.tokens["target"].discarded) == (3, 4)
    assert {
        name: (one.calls.requests, one.tokens.kept, one.tokens.discarded) for name, one in found.targets.items()
    } == {
        "small": (2, 3, 0),
        "large": (1, 0, 4),
    }
    assert [found.targets[name].cost for name in ("small", "large")] == pytest.approx([1.000006, 5.00008])
    assert found.cost is not None
    assert found.cost.models["target"] == found.cost.total == pytest.approx(6.000086)


def test_what_a_head_on_the_draft_reads_costs_what_the_draft_costs(a_config: Configs, a_result: Results) -> None:
    draft = {"model": "m", "prompt": "{question}", "price": {"prompt": 0.5, "completion": 1.5}}
    config = a_config(models={"draft": draft, "router": {"backend": "draft-head", "model": "head"}})
    calls: dict[Model, RequestCounts] = {"router": RequestCounts(requests=4, usage=Usage(2_000_000, 0))}
    assert summary_of(config, [a_result(requests=calls)], 1.0).cost == Cost({"router": 1.0}, 1.0)


def test_without_any_price_there_is_no_cost(a_config: Configs, a_result: Results) -> None:
    assert summary_of(a_config(), [a_result()], 1.0).cost is None


def test_the_summary_of_a_run_takes_all_from_its_configuration(a_config: Configs, a_result: Results) -> None:
    priced = {"model": "m", "prompt": "{question}", "price": {"prompt": 0.5, "completion": 1.5}}
    config = a_config(
        run_type="draft", models={"draft": priced}, sampling={"temperature": 0.7, "samples": 2}, data={"source": "x"}
    )
    calls: dict[Model, RequestCounts] = {"draft": RequestCounts(requests=1, usage=Usage(2_000_000, 1_000_000))}
    found = summary_of(config, [a_result(requests=calls)], None, interrupted=True)
    assert (found.run_type, found.threshold, found.samples, found.wall_seconds) == ("draft", None, 2, None)
    assert (found.cost, found.interrupted) == (Cost({"draft": 2.5}, 2.5), True)


def rewritten(tokens: int, seconds: float, agreement: PrefixMatch | None = None) -> StepRecord:
    draft = Candidate("draft", "d", "separator", Usage(), 0.1)
    target = Candidate("target", "t", "separator", Usage(completion_tokens=tokens), seconds, prefix_match=agreement)
    return StepRecord(candidates=(draft, target), chosen=1, verdict="escalate")


def test_of_escalations_that_were_shown_the_draft_the_agreed_tokens_are_counted(
    a_result: Results, a_solution: Solutions
) -> None:
    steps = [rewritten(10, 0.5, PrefixMatch(8, 4)), rewritten(5, 0.2, PrefixMatch(4, 4)), rewritten(20, 2.0)]
    found = summary(a_result(True, a_solution("p", *steps))).verification
    # writing 6 + 1 tokens takes 0.7 s at the pace of the plain candidate, so verifying took no time
    assert found == VerificationSavings(shown=2, whole=1, proposed=12, agreed=8, tokens=15, break_even=0.0)


def test_of_escalations_that_gathered_the_waits_and_the_size_of_releases_are_told(
    a_result: Results, a_solution: Solutions
) -> None:
    replace = msgspec.structs.replace
    groups = [Gathered(0.02, 2), Gathered(0.0, 2), Gathered(0.03, 4), None]  # two of a release of four were cancelled
    steps = [
        replace(step, candidates=(*step.candidates[:1], replace(step.kept, gathered=each)))
        for step, each in ((rewritten(10, 0.5), each) for each in groups)
    ]
    assert summary(a_result(True, a_solution("p", *steps))).gathering == GatheringWaits(3, 0.016667, 0.03, 2.4)
    assert summary(a_result(True, a_solution("p", steps[-1]))).gathering == GatheringWaits()


def test_the_break_even_is_what_checking_costs_in_tokens(a_result: Results, a_solution: Solutions) -> None:
    steps = [rewritten(10, 1.3, PrefixMatch(8, 0)), rewritten(20, 2.0)]
    assert summary(a_result(True, a_solution("p", *steps))).verification.break_even == pytest.approx(3.0)
    assert summary(a_result(True, a_solution("p", *steps[:1]))).verification.break_even is None
    assert summary(a_result(True, a_solution("p", *steps[1:]))).verification == VerificationSavings()
