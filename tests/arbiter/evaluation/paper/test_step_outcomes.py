"""Outcomes of steps."""

from collections.abc import Callable

import pytest

from arbiter.evaluation.paper.step_outcomes import StepOutcomes, steps_of
from arbiter.grading import Grade
from arbiter.protocols.records import AuditScores, Author, Candidate, Rating, Solution, StepRecord, Usage
from arbiter.runs.results import Result


def a_candidate(author: Author, score: float | None = None) -> Candidate:
    rating = None if score is None else Rating(score, Usage(), 0.0)
    return Candidate(author=author, text=author, stop_reason="separator", usage=Usage(), seconds=0.0, rating=rating)


def a_result(*steps: StepRecord) -> Result:
    return Result(Solution("p", "q", steps, "answered", 0.0, {}), Grade(right=True, answer="1", reason="exact"))


@pytest.fixture
def escalated() -> Callable[[AuditScores | None], StepRecord]:
    def build(audit: AuditScores | None) -> StepRecord:
        return StepRecord((a_candidate("draft"), a_candidate("target")), 1, "escalate", audit)

    return build


def test_an_audited_escalation_is_improved_wasted_or_harmed_by_its_advantage(
    escalated: Callable[[AuditScores | None], StepRecord],
) -> None:
    kept = StepRecord((a_candidate("draft"),), 0, "keep_draft")
    better, same, worse = (escalated(AuditScores(0.5, target)) for target in (0.9, 0.5 + 1e-9, 0.1))
    assert steps_of([a_result(kept, better), a_result(same, worse)]) == StepOutcomes(4, 0.25, 0.25, 0.25, 0.25)


def test_the_scores_that_chose_a_step_judge_it_where_there_is_no_audit() -> None:
    candidates = a_candidate("draft", 0.2), a_candidate("target", 0.8)
    assert steps_of([a_result(StepRecord(candidates, 1, "keep_target"))]) == StepOutcomes(1, 0.0, 1.0, 0.0, 0.0)


def test_steps_that_nobody_scored_are_not_judged(escalated: Callable[[AuditScores | None], StepRecord]) -> None:
    alone = StepRecord((a_candidate("target"),), 0)
    assert steps_of([a_result(escalated(None), alone)]) == StepOutcomes(0)
