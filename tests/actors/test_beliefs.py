"""The belief that a solution is still right, and what an escalation is worth."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.beliefs import BeliefConfidence, BeliefReward, StepModel
from arbiter.actors.policies import called_models
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Author, Candidate, Rating, Solution, StepRecord, Usage, Verdict

MODEL = StepModel(0.8, 0.95, (0.5,), (0.1, 0.9), (0.6, 0.4))
Solved = Callable[..., list[Solution]]


def draft(score: float) -> Candidate:
    return Candidate("draft", "a step", "separator", Usage(), 0.0, 0, Rating(score, Usage(), 0.0), None, score)


TARGET = Candidate("target", "a step", "separator", Usage(), 0.0)


def record(score: float, verdict: Verdict) -> StepRecord:
    return StepRecord(
        (draft(score), TARGET) if verdict == "escalate" else (draft(score),), int(verdict == "escalate"), verdict
    )


def evidence(score: float, *history: StepRecord) -> Evidence:
    return Evidence("p", len(history), 0, draft(score), history=history)


def test_a_kept_draft_with_a_low_score_lowers_the_belief_and_a_replaced_one_hardly() -> None:
    kept, replaced = MODEL.after_draft(1.0, 0)
    assert kept == pytest.approx(0.8 * 0.1 / (0.8 * 0.1 + 0.2 * 0.6))
    assert replaced == 0.95
    policy = BeliefConfidence(0.1, MODEL)
    assert policy.belief((record(0.4, "keep_draft"),)) == pytest.approx(0.4)
    assert policy.belief((record(0.4, "escalate"),)) == pytest.approx(0.95)
    assert policy.belief((StepRecord((TARGET,), 0),)) == 0.95
    assert policy.belief(()) == 1.0


@pytest.mark.parametrize(("policy", "kind"), [(BeliefConfidence, None), (BeliefReward, "prm")])
def test_the_last_step_is_escalated_iff_its_gain_is_above_the_price(policy: Any, kind: str | None) -> None:
    gain = 0.95 - 0.4
    assert policy(0.1, MODEL, 1).score(evidence(0.4)) == pytest.approx(gain)
    assert policy(gain - 0.01, MODEL, 1).decide(evidence(0.4)) == "escalate"
    assert policy(gain + 0.01, MODEL, 1).decide(evidence(0.4)) == "keep_draft"
    assert policy(1.0, MODEL, 1).decide(evidence(0.4)) == "keep_draft"
    assert set(called_models(policy(0.1, MODEL), 0.0)) == {"draft", "target"} | ({kind} if kind else set())


def test_a_problem_that_is_probably_lost_is_worth_no_escalation() -> None:
    policy = BeliefConfidence(0.1, MODEL, 5)
    lost = [record(0.2, "keep_draft")] * 3
    assert policy.decide(evidence(0.2)) == "escalate"
    assert policy.decide(evidence(0.2, *lost)) == "keep_draft"


def test_a_score_at_an_edge_is_in_the_bin_above_it() -> None:
    assert [MODEL.bin_of(score) for score in (0.0, 0.49, 0.5, 1.0)] == [0, 0, 1, 1]


def test_evidence_without_a_score_is_named() -> None:
    bare = Candidate("draft", "a step", "separator", Usage(), 0.0)
    with pytest.raises(ValueError, match="the draft's confidence"):
        BeliefConfidence(0.1, MODEL).decide(Evidence("p", 0, 0, bare))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (StepModel(1.1, 0.9, (0.5,), (0.5, 0.5), (0.5, 0.5)), "draft_right must be in"),
        (StepModel(0.9, -0.1, (0.5,), (0.5, 0.5), (0.5, 0.5)), "target_right must be in"),
        (StepModel(0.9, 0.9, (0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.5, 0.0)), "edges must rise"),
        (StepModel(0.9, 0.9, (0.5,), (0.5, 0.4), (0.5, 0.5)), "right must have a probability for each of the 2 bins"),
        (StepModel(0.9, 0.9, (0.5,), (0.5, 0.5), (1.0,)), "wrong must have a probability for each of the 2 bins"),
    ],
)
def test_a_model_that_cannot_be_is_refused_by_its_field(model: StepModel, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model.check()


shares = st.integers(0, 20).map(lambda share: share / 20)


@given(shares, shares, shares, shares, shares, st.integers(1, 6), shares, shares)
def test_a_dearer_escalation_is_never_made_where_a_cheaper_one_is_not_at_the_last_step(
    ok: float, right: float, one: float, other: float, score: float, steps: int, price: float, dearer: float
) -> None:
    model = StepModel(ok, right, (0.5,), (one, 1 - one), (other, 1 - other))
    history = [record(score, "keep_draft")] * (steps - 1)
    cheap, dear = (BeliefConfidence(cost, model, steps) for cost in sorted((price, dearer)))
    assert 0.0 <= cheap.score(evidence(score, *history)) <= 1.0
    assert 0.0 <= cheap.belief(tuple(history)) <= 1.0
    if dear.decide(evidence(score, *history)) == "escalate":
        assert cheap.decide(evidence(score, *history)) == "escalate"


def test_the_ring_escalates_what_the_belief_says(solved: Solved, a_task: Callable[..., Task], make_models: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        sure = {0: 0.9, 1: 0.2, 2: 0.9}[request.step]
        ending = "end" if request.step == 2 else "separator"
        return Generation(f"step {request.step}", ending, Usage(9, 3), confidence=sure if request.confidence else None)

    models: Models = make_models(draft=ScriptedGenerator(write), target=ScriptedGenerator(write))
    [solution] = solved(models, [a_task(policy=BeliefConfidence(0.1, MODEL, 3))])
    authors: list[Author] = [step.kept.author for step in solution.steps]
    assert authors == ["draft", "target", "draft"]


def test_an_escalation_is_worth_what_the_target_does_at_such_a_score() -> None:
    plain = StepModel(0.8, 0.5, (0.5,), (0.1, 0.9), (0.6, 0.4))
    by_bin = StepModel(0.8, 0.5, (0.5,), (0.1, 0.9), (0.6, 0.4), (0.9, 0.1))
    for index, chance in enumerate(by_bin.target_by_bin):
        kept, replaced = by_bin.after_draft(1.0, index)
        assert (kept, replaced) == (plain.after_draft(1.0, index)[0], pytest.approx(chance))


@pytest.mark.parametrize("chances", [(0.5,), (0.5, 1.5), (0.5, -0.1)])
def test_probabilities_of_the_target_that_cannot_be_are_refused(chances: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="target_by_bin must be empty"):
        StepModel(0.8, 0.5, (0.5,), (0.1, 0.9), (0.6, 0.4), chances).check()
