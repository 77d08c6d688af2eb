"""The description of why a step was kept, by policy, and of how a problem ended."""

import msgspec
import pytest

from arbiter.actors.beliefs import BeliefConfidence, StepModel
from arbiter.actors.pacing import PacedConfidence
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.log.explain import decision, result_of
from arbiter.log.explain_history import HistoryPolicy, history_policy
from arbiter.log.history import ProblemHistory
from arbiter.protocols.events import SCHEMA, Event, Graded, ProblemEnded, StartProblemEvent
from arbiter.protocols.records import (
    AuditScores,
    Author,
    Candidate,
    FinishReason,
    Glimpse,
    Limits,
    Rating,
    Sampling,
    StepRecord,
    Usage,
    Verdict,
)
from arbiter.protocols.tools import ToolCall


def scored(author: Author, score: float | None) -> Candidate:
    rating = None if score is None else Rating(score, Usage(), 0.0)
    return Candidate(author, "text", "separator", Usage(), 0.0, rating=rating)


def step(verdict: Verdict | None, draft: float | None, target: float | None = None) -> StepRecord:
    return StepRecord((scored("draft", draft), scored("target", target)), 0, verdict)


def sure(verdict: Verdict, confidence: float) -> StepRecord:
    draft = Candidate("draft", "text", "separator", Usage(), 0.0, confidence=confidence)
    return StepRecord((draft, scored("target", None)), 0, verdict)


def glimpsed(verdict: Verdict, confidence: float) -> StepRecord:
    only = scored("draft" if verdict == "keep_draft" else "target", None)
    return StepRecord((only,), 0, verdict, glimpse=Glimpse("draft", confidence, Usage(), 0.0))


def hesitant(verdict: Verdict | None, confidence: float = 0.5) -> StepRecord:
    draft = Candidate("draft", "wait", "separator", Usage(), 0.0, confidence=confidence)
    target = Candidate("target", "text", "separator", Usage(completion_tokens=30), 0.0)
    return StepRecord((draft, target) if verdict == "escalate" else (draft,), int(verdict == "escalate"), verdict)


WRITTEN = StepRecord((Candidate("target", "text", "separator", Usage(completion_tokens=30), 0.0),), 0)
ONE_WORD = TriggeredEscalation(1.0, words=("wait",))
BELIEFS = StepModel(0.8, 0.95, (0.6,), (0.1, 0.9), (0.6, 0.4))
TRIGGERS = TriggeredEscalation(0.9, first=2, unsure=0.25, words=("wait",), consecutive=2)


@pytest.mark.parametrize(
    ("record", "history", "policy", "expected"),
    [
        (WRITTEN, (), TRIGGERS, "only candidate: the target writes the first 2 steps"),
        (hesitant("escalate", 0.95), (), TRIGGERS, "escalated: overconfident, confidence = 0.95 > τ = 0.9"),
        (hesitant("escalate", 0.125), (), TRIGGERS, "escalated: unsure, confidence = 0.125 < 0.25"),
        (
            hesitant("escalate"),
            (WRITTEN, WRITTEN, hesitant("keep_draft")),
            TRIGGERS,
            "escalated: hesitant, a word of hesitation, 2 drafts in a row",
        ),
        (hesitant("escalate"), (), ONE_WORD, "escalated: hesitant, a word of hesitation"),
        (WRITTEN, (), ONE_WORD, "only candidate: the target writes the first step"),
        (hesitant("keep_draft"), (WRITTEN,), TRIGGERS, "kept: no trigger fires, confidence = 0.5"),
        (
            hesitant("escalate"),
            (),
            PacedConfidence(0.25, 100, steps=4),
            "escalated: risk = 0.5 > 0.25 (τ = 0.25, 0 of 100 tokens used before it)",
        ),
        (
            hesitant("keep_draft", 0.9),
            (hesitant("escalate"),),
            PacedConfidence(0.25, 3, "escalations", 3),
            "kept: risk = 0.1 ≤ 0.25 (τ = 0.25, 1 of 3 escalations used before it)",
        ),
        (
            hesitant("escalate"),
            (hesitant("keep_draft", 0.95),),
            BeliefConfidence(0.1, BELIEFS, 2),
            "escalated: gain = 0.4125 > τ = 0.1 (belief before it = 0.9)",
        ),
        (step("keep_draft", 0.5), (), PacedConfidence(0.25, 3), "kept"),
    ],
)
def test_a_decision_by_history_is_told_with_what_it_compared(
    record: StepRecord, history: tuple[StepRecord, ...], policy: HistoryPolicy, expected: str
) -> None:
    recorded = msgspec.json.decode(msgspec.json.encode(policy))
    assert history_policy(recorded) == policy
    assert decision(record, recorded["type"], policy.threshold, policy, history) == expected


def test_other_policies_have_no_description_by_history() -> None:
    assert history_policy({"type": "router", "threshold": 0.5}) is None
    assert history_policy({"type": "Own"}) is None


@pytest.mark.parametrize(
    ("record", "policy", "threshold", "expected"),
    [
        (step("keep_draft", 0.25), "router", 0.5, "kept: ŷ = 0.25 ≤ τ = 0.5"),
        (step("escalate", 0.75), "router", 0.5, "escalated: ŷ = 0.75 > τ = 0.5"),
        (step("keep_draft", 0.75), "rsd", 0.7, "kept: h = 0.75 ≥ τ = 0.7"),
        (step("escalate", 0.25), "rsd", 0.7, "escalated: h = 0.25 < τ = 0.7"),
        (step("keep_target", 0.25, 0.5), "oracle", 0.0, "target kept: Δ = 0.5 - 0.25 = 0.25 > τ = 0"),
        (step("keep_draft", 0.5, 0.25), "generate", None, "kept: Δ = 0.25 - 0.5 = -0.25 ≤ 0"),
        (step("keep_draft", 0.75), "judge", 0.7, "kept: rating = 0.75 ≥ τ = 0.7"),
        (sure("escalate", 0.25), "confidence", 0.8, "escalated: confidence = 0.25 < τ = 0.8"),
        (sure("keep_draft", 0.9), "confidence", 0.8, "kept: confidence = 0.9 ≥ τ = 0.8"),
        (glimpsed("escalate", 0.25), "glimpse", 0.8, "escalated: confidence in the first token = 0.25 < τ = 0.8"),
        (glimpsed("keep_draft", 0.9), "glimpse", 0.8, "kept: confidence in the first token = 0.9 ≥ τ = 0.8"),
        (step("escalate", None), "random", 0.3, "escalated at random (escalation probability 0.3)"),
        (step("keep_draft", None), "random", 0.3, "kept at random (escalation probability 0.3)"),
        (step(None, None), "draft", None, "only candidate"),
        (step("keep_draft", 0.1), "somebody's own", None, "kept"),
    ],
)
def test_a_decision_is_told_by_its_rule(
    record: StepRecord, policy: str, threshold: float | None, expected: str
) -> None:
    assert decision(record, policy, threshold) == expected


def test_a_draft_that_breaks_the_rules_is_told_with_the_reason() -> None:
    draft = Candidate("draft", "{", "end", Usage(), 0.0, valid=False, violation="it is cut")
    record = StepRecord((draft, scored("target", None)), 1, "escalate")
    expected = "escalated without a decision, because the draft breaks the rules: it is cut"
    assert decision(record, "router", 0.5) == expected


def test_a_kept_call_is_told_as_checked() -> None:
    call = Candidate("draft", "{}", "end", Usage(), 0.0, calls=(ToolCall("c", "add", "{}"),), valid=True)
    assert decision(StepRecord((call,), 0, None), "draft", None) == "only candidate; the call keeps the rules"


def test_an_audited_step_tells_the_advantage() -> None:
    record = StepRecord((scored("draft", 0.9), scored("target", None)), 1, "escalate", AuditScores(0.25, 0.75))
    assert decision(record, "router", 0.5).endswith("; audited: Δ = 0.75 - 0.25 = 0.5")


def a_problem(finish: FinishReason | None, error: str | None = None) -> ProblemHistory:
    def event(seq: int, payload: StartProblemEvent | ProblemEnded) -> Event:
        return Event(
            v=SCHEMA, run="r", seq=seq, mono=0.0, wall=0.0, id=str(seq), actor="a", problem="p", payload=payload
        )

    problem = ProblemHistory(event(0, StartProblemEvent("q", {"type": "draft"}, Limits(), Sampling(), "\n\n", 0)))
    if finish is not None:
        problem.add(event(1, ProblemEnded(finish, 0, 1.0, error=error)))
    return problem


@pytest.mark.parametrize(
    ("problem", "grade", "expected"),
    [
        (a_problem(None), None, "unfinished"),
        (a_problem("failed", "drafter, step 1: OSError"), Graded(None), "failed: drafter, step 1: OSError"),
        (a_problem("answered"), Graded(right=True), "right; finish reason: answered"),
        (a_problem("loop"), Graded(False, "3", reference="4"), "wrong (answer 3, expected 4); finish reason: loop"),
        (
            a_problem("answered"),
            Graded(False, None, reference={"answers": ["1", "2"]}),
            "wrong (no answer, expected 1, 2); finish reason: answered",
        ),
        (a_problem("answered"), None, "not graded; finish reason: answered"),
    ],
)
def test_an_end_is_told_with_its_grade(problem: ProblemHistory, grade: Graded | None, expected: str) -> None:
    assert result_of(problem, grade) == expected
