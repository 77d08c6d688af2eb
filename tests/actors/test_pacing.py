"""The allowance of each problem: the rule as tables, and what it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.pacing import (
    AllowanceUnit,
    PacedConfidence,
    PacedEscalation,
    PacedJudge,
    PacedReward,
    PacedRouter,
)
from arbiter.actors.policies import called_models
from arbiter.protocols.policy import Evidence
from arbiter.protocols.records import Author, Candidate, Model, Rating, StepRecord, Usage, Verdict

shares = st.floats(0, 1)


def candidate(
    author: Author, tokens: int = 0, score: float | None = None, confidence: float | None = None
) -> Candidate:
    rating = None if score is None else Rating(score, Usage(), 1.0)
    usage = Usage(completion_tokens=tokens)
    return Candidate(author, "a step", "separator", usage, 1.0, rating=rating, confidence=confidence)


def step(target_tokens: int | None = None) -> StepRecord:
    """Return a kept draft, or a step for which the target wrote so many tokens."""
    if target_tokens is None:
        return StepRecord((candidate("draft", 5),), 0, "keep_draft")
    return StepRecord((candidate("draft", 5), candidate("target", target_tokens)), 1, "escalate")


def evidence(risk: float, *history: StepRecord) -> Evidence:
    return Evidence("p", len(history), 0, candidate("draft", score=risk), history=history)


def limit(policy: PacedEscalation, *history: StepRecord) -> float:
    return round(policy.threshold_at(evidence(0.0, *history)), 6)


@pytest.mark.parametrize(
    ("history", "threshold"),
    [
        ((), 0.25),  # on plan
        ((step(),), 0.25 ** (1 / 0.75)),  # nothing used where a quarter was planned: it escalates more
        ((step(25),), 0.25),  # a quarter used, as planned
        ((step(50),), 0.25 ** (0.5 / 0.75)),  # more used than planned: it escalates less
        ((step(100),), 1.0),  # all used: it escalates nothing
        ((step(300),), 1.0),
        ((step(25),) * 3, 0.25),
        ((step(25),) * 3 + (step(),), 0.25),  # after the planned steps, the last one counts as left
        ((step(25),) * 3 + (step(),) * 5, 0.25),
    ],
)
def test_the_threshold_is_the_power_of_what_is_left_by_the_steps_that_are_left(
    history: tuple[StepRecord, ...], threshold: float
) -> None:
    assert limit(PacedRouter(0.25, 100, "tokens", 4), *history) == round(threshold, 6)


def test_an_allowance_of_escalations_counts_them_whatever_their_length() -> None:
    policy = PacedRouter(0.5, 2, "escalations", 4)
    assert limit(policy, step(1)) == limit(policy, step(999)) == round(0.5 ** (0.5 / 0.75), 6)
    assert limit(policy, step(1), step(1)) == 1.0


@pytest.mark.parametrize(
    ("risk", "verdict"), [(0.51, "escalate"), (0.5, "keep_draft"), (0.49, "keep_draft"), (1.0, "escalate")]
)
def test_a_draft_is_escalated_whose_risk_is_above_the_threshold(risk: float, verdict: Verdict) -> None:
    assert PacedRouter(0.5, 100).decide(evidence(risk)) == verdict


@pytest.mark.parametrize(
    ("policy", "draft", "risk", "models"),
    [
        (PacedRouter(0.5, 9), candidate("draft", score=0.75), 0.75, {"draft", "target", "router"}),
        (PacedReward(0.5, 9), candidate("draft", score=0.75), 0.25, {"draft", "target", "prm"}),
        (PacedJudge(0.5, 9), candidate("draft", score=0.75), 0.25, {"draft", "target", "judge"}),
        (PacedConfidence(0.5, 9), candidate("draft", confidence=0.75), 0.25, {"draft", "target"}),
    ],
)
def test_the_risk_is_high_where_the_scorer_expects_most_of_the_target(
    policy: PacedEscalation, draft: Candidate, risk: float, models: set[Model]
) -> None:
    assert policy.score(Evidence("p", 0, 0, draft)) == risk
    assert set(called_models(policy, 0.0)) == models


def test_a_draft_without_what_the_policy_reads_is_never_judged() -> None:
    with pytest.raises(ValueError, match="needs a scored candidate"):
        PacedRouter(0.5, 9).decide(Evidence("p", 0, 0, candidate("draft", confidence=0.5)))
    with pytest.raises(ValueError, match="needs the draft's confidence"):
        PacedConfidence(0.5, 9).decide(evidence(0.5))


def walk(policy: PacedEscalation, risks: list[float], lengths: list[int]) -> tuple[StepRecord, ...]:
    """Return the records of a problem whose drafts have these risks, and whose target steps have these lengths."""
    history: tuple[StepRecord, ...] = ()
    for risk, length in zip(risks, lengths, strict=True):
        escalated = policy.decide(evidence(risk, *history)) == "escalate"
        history = (*history, step(length if escalated else None))
    return history


@given(st.lists(st.tuples(shares, st.integers(1, 60)), max_size=30), shares, st.integers(1, 200), st.integers(1, 20))
def test_no_problem_uses_more_than_its_allowance_by_more_than_its_last_escalation(
    steps: list[tuple[float, int]], threshold: float, allowance: int, planned: int
) -> None:
    risks, lengths = [risk for risk, _ in steps], [length for _, length in steps]
    history = walk(PacedRouter(threshold, allowance, "tokens", planned), risks, lengths)
    written = [record.targets[0].usage.completion_tokens for record in history if record.targets]
    assert sum(written[:-1]) < allowance or not written


@given(st.lists(shares, max_size=30), shares, st.integers(1, 10), st.integers(1, 20))
def test_no_problem_has_more_escalations_than_its_allowance(
    risks: list[float], threshold: float, allowance: int, planned: int
) -> None:
    history = walk(PacedRouter(threshold, allowance, "escalations", planned), risks, [1] * len(risks))
    assert sum(record.verdict == "escalate" for record in history) <= allowance


@given(
    shares,
    st.integers(1, 100),
    st.sampled_from(("tokens", "escalations")),
    st.integers(1, 20),
    st.lists(st.integers(1, 20) | st.none(), max_size=20),
    st.integers(0, 19),
)
def test_one_more_escalation_before_a_step_never_lowers_its_threshold(
    threshold: float, allowance: int, unit: AllowanceUnit, planned: int, lengths: list[int | None], place: int
) -> None:
    policy = PacedRouter(threshold, allowance, unit, planned)
    history = [step(length) for length in lengths]
    before = policy.threshold_at(evidence(0.0, *history))
    more = [step(10) if index == place and not record.targets else record for index, record in enumerate(history)]
    assert 0 <= before <= policy.threshold_at(evidence(0.0, *more)) + 1e-12 <= 1 + 1e-12
