"""Find out, without replaying them, which problems another threshold leaves as they were.

A recorded decision is computed again from its recorded scores, by the policy itself. A problem whose decisions all stay
the same does not change. At the first other decision, the problem usually needs an answer that was not recorded:

- a kept draft that is now escalated needs a step of the target, and
- another candidate in place of the kept one needs the next step in a context that the run never had.

After another decision by a glimpse, the step itself is missing: its other author never wrote it.

Only a candidate that ends the problem needs neither. Such problems are replayed (``arbiter.replay.whatif``).
"""

from collections.abc import Iterable
from typing import Literal

from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.policies import (
    ConfidenceThreshold,
    DraftOnly,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    best_target,
)
from arbiter.actors.transcripts import context_after, finish_reason, first_context
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.log.history import ProblemHistory
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Author, Candidate, Glimpse, Model, Rating, Record, StepRecord, Usage, Verdict
from arbiter.replay.recorded_tasks import task_of

_BY_SCORES = (
    RewardThreshold,
    LearnedRouter,
    ConfidenceThreshold,
    JudgeThreshold,
    GlimpsedEscalation,
    Oracle,
    RandomEscalation,
)
"""Policies that decide by the scores of a step alone."""


class RecordedDecision(Record, frozen=True):
    """A decision of a policy at ``step``: its verdict, and the scores that it read.

    ``ends`` says whether the problem would have ended with the best other candidate of the step. For a decision by a
    ``glimpse``, whose confidence this is, it says whether the log has the step of both authors: the draft that was
    chosen broke the rules of the answer.
    """

    step: int
    verdict: Verdict
    score: float | None
    confidence: float | None
    target_score: float | None
    ends: bool
    glimpse: float | None = None


class RecordedDecisions(Record, frozen=True):
    """The decisions of one sample of a problem, and the name and seed that a random policy reads.

    ``is_whole`` is False if the problem may have had decisions that are not here, because it failed in a step, or if it
    has a deadline: then its end depends on times.
    """

    seed_name: str
    seed: int
    decisions: tuple[RecordedDecision, ...]
    is_whole: bool = True


class DecisionChange(Record, frozen=True):
    """The first decision that changes: the problem then ``ends``, or needs a new answer of ``model`` at ``step``."""

    step: int
    outcome: Literal["left", "ends"]
    model: Model = "draft"


Decided = tuple[RecordedDecision, Evidence]
"""A recorded decision, and the evidence that it was made from."""


def recorded_decisions(problem: ProblemHistory) -> RecordedDecisions:
    """Return the decisions of a problem. A step whose draft broke the rules of the answer had none."""
    task = task_of(problem, DraftOnly())  # no policy decides here
    context, found = first_context(task), list[RecordedDecision]()
    for step, record in enumerate(problem.steps()):
        if record.glimpse is not None:
            found.append(_early(step, record, record.glimpse.confidence))
        elif record.verdict is not None and record.draft is not None and record.draft.valid is not False:
            other = _other(record)
            ends = other is not None and finish_reason(context, other) is not None
            found.append(_decision(step, record.verdict, record, ends))
        context = context_after(context, record.kept)
    is_whole = problem.end is not None and problem.end.finish_reason != "failed" and task.limits.deadline is None
    return RecordedDecisions(task.seed_name, task.seed, tuple(found), is_whole)


def evidence_of(recorded: RecordedDecisions) -> list[Decided]:
    """Return the recorded decisions, each with the evidence for a policy. It has scores and no texts."""
    return [(one, _evidence(recorded, one)) for one in recorded.decisions]


def first_change(policy: Policy, decided: Iterable[Decided]) -> DecisionChange | None:
    """Return the first decision of ``policy`` that differs from the recorded one; None if there is none."""
    for one, evidence in decided:
        verdict = policy.decide(evidence)
        if verdict == one.verdict:
            continue
        if one.glimpse is not None:
            return DecisionChange(
                one.step, "ends" if one.ends else "left", "draft" if verdict == "keep_draft" else "target"
            )
        if verdict == "escalate":
            return DecisionChange(one.step, "left", "target")
        return (
            DecisionChange(one.step, "ends") if one.ends else DecisionChange(one.step + 1, "left", policy.proposers[0])
        )
    return None


def is_local(policy: Policy) -> bool:
    """Return whether each decision of ``policy`` depends on the scores of its own step alone, and chooses no target.

    Other policies may read texts or the history of a problem (``Evidence.history``), which the evidence here lacks.
    """
    by_scores = isinstance(policy, _BY_SCORES) or (isinstance(policy, TriggeredEscalation) and not policy.words)
    return by_scores and policy.budget is None and len(policy.targets) <= 1


def _other(record: StepRecord) -> Candidate | None:
    if record.verdict == "keep_draft":
        return best_target(record.targets) if record.targets else None
    return record.draft


def _decision(step: int, verdict: Verdict, record: StepRecord, ends: bool) -> RecordedDecision:
    draft, best = record.draft, best_target(record.targets) if record.targets else None
    return RecordedDecision(step, verdict, draft and draft.score, draft and draft.confidence, best and best.score, ends)


def _early(step: int, record: StepRecord, confidence: float) -> RecordedDecision:
    verdict: Verdict = "escalate" if record.draft is None else "keep_draft"
    has_both = record.draft is not None and record.verdict == "escalate"
    return RecordedDecision(step, verdict, None, None, None, has_both, confidence)


def _evidence(recorded: RecordedDecisions, one: RecordedDecision) -> Evidence:
    if one.glimpse is not None:
        glimpse = Glimpse("draft", one.glimpse, Usage(), 0.0)
        return Evidence(recorded.seed_name, one.step, recorded.seed, None, glimpse=glimpse)
    targets = () if one.target_score is None else (_scored("target", one.target_score, None),)
    draft = _scored("draft", one.score, one.confidence)
    return Evidence(recorded.seed_name, one.step, recorded.seed, draft, targets)


def _scored(author: Author, score: float | None, confidence: float | None) -> Candidate:
    rating = None if score is None else Rating(score, Usage(), 0.0)
    return Candidate(author, "", "separator", Usage(), 0.0, rating=rating, confidence=confidence)
