"""Describe in words the decisions of policies that use the history of the problem."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import msgspec

from arbiter.actors.beliefs import BeliefConfidence, BeliefEscalation, BeliefReward
from arbiter.actors.pacing import PacedConfidence, PacedEscalation, PacedJudge, PacedReward, PacedRouter
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.protocols.policy import Evidence
from arbiter.protocols.records import StepRecord

HistoryPolicy = (
    TriggeredEscalation | PacedConfidence | PacedRouter | PacedReward | PacedJudge | BeliefConfidence | BeliefReward
)


def history_policy(recorded: Mapping[str, Any]) -> HistoryPolicy | None:
    """Return the recorded policy if it is a built-in one that uses the history; else None."""
    try:
        return msgspec.convert(recorded, HistoryPolicy)
    except msgspec.ValidationError:
        return None


def reason_by_history(policy: HistoryPolicy, history: Sequence[StepRecord], record: StepRecord) -> str:
    """Return the reason for the decision about the step after ``history``, to follow the verdict.

    It is empty if the log lacks the score or the confidence of the draft.
    """
    if record.verdict is None:
        first = policy.first if isinstance(policy, TriggeredEscalation) else 0
        which = "first step" if first == 1 else f"first {first} steps"
        return f": the target writes the {which}" if len(history) < first else ""
    evidence = Evidence("", len(history), 0, record.draft, (), tuple(history))
    try:
        risk = policy.score(evidence)
    except ValueError:
        return ""
    if isinstance(policy, TriggeredEscalation):
        return f": {_trigger(policy, evidence, risk)}"
    if isinstance(policy, BeliefEscalation):
        return f": {_belief(policy, evidence, risk)}"
    return f": {_pace(policy, evidence, risk)}"


def _belief(policy: BeliefEscalation, evidence: Evidence, gain: float) -> str:
    belief, sign = policy.belief(evidence.history), ">" if gain > policy.threshold else "≤"
    return f"gain = {gain:.4g} {sign} τ = {policy.threshold:g} (belief before it = {belief:.4g})"


def _trigger(policy: TriggeredEscalation, evidence: Evidence, confidence: float) -> str:
    trigger = policy.trigger(evidence)
    match trigger:
        case None:
            return f"no trigger fires, confidence = {confidence:.4g}"
        case "overconfident":
            return f"overconfident, confidence = {confidence:.4g} > τ = {policy.threshold:g}"
        case "unsure":
            return f"unsure, confidence = {confidence:.4g} < {policy.unsure:g}"
        case "hesitant":
            in_a_row = "" if policy.consecutive == 1 else f", {policy.consecutive} drafts in a row"
            return f"hesitant, a word of hesitation{in_a_row}"
        case _:
            assert_never(trigger)


def _pace(policy: PacedEscalation, evidence: Evidence, risk: float) -> str:
    limit = policy.threshold_at(evidence)
    used = f"{policy.used(evidence)} of {policy.allowance} {policy.unit} used before it"
    return f"risk = {risk:.4g} {'>' if risk > limit else '≤'} {limit:.4g} (τ = {policy.threshold:g}, {used})"
