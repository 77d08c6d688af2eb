"""What the line of an event leaves out: its usual id, actor, receiver and cause.

Each follows from the kind of the event, from its place (problem, step and sample), and from the events before it in its
line. ``docs/reference/log.md`` has the same rules as a table.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from arbiter.protocols import events
from arbiter.protocols.events import AnyPayload
from arbiter.protocols.ids import (
    StepKind,
    answer_id,
    call_id,
    failed_id,
    message_id,
    problem_ended_id,
    retry_id,
    scored_id,
)
from arbiter.protocols.records import Model


class Trail:
    """The events of a line so far: the id of the last one, and the last request with its actor."""

    __slots__ = ("actor", "call", "last")

    def __init__(self) -> None:
        self.last: str | None = None
        self.call: str | None = None
        self.actor: str | None = None

    def add(self, name: str, actor: str, payload: AnyPayload) -> None:
        """Add an event."""
        self.last = name
        if isinstance(payload, events.CallStarted):
            self.call, self.actor = name, actor


Cause = Callable[[Any, str, int, int, Trail], str | None]
"""Computes the usual cause of an event from its payload, its place (problem, step and sample) and its trail."""

Id = Callable[[Any, str, int, int, str], str]
"""Computes the id of an event from its payload, its place and its cause, the usual one or another."""


class Usual(NamedTuple):
    """The usual fields of one kind of event. ``actor`` is None for the actor of the last request."""

    cause: Cause
    id: Id
    actor: str | None
    to: str | None = None


def _last(payload: AnyPayload, problem: str, step: int, sample: int, trail: Trail) -> str | None:
    return trail.last


def _last_call(payload: AnyPayload, problem: str, step: int, sample: int, trail: Trail) -> str | None:
    return trail.call


def _problem(payload: AnyPayload, problem: str, step: int, sample: int, trail: Trail) -> str:
    return problem


def _same_step(kind: StepKind) -> Cause:
    def cause(payload: AnyPayload, problem: str, step: int, sample: int, trail: Trail) -> str:
        return message_id(problem, step, sample, kind)

    return cause


def _candidates(payload: events.StepScoredEvent, problem: str, step: int, sample: int, trail: Trail) -> str:
    return message_id(problem, step, sample, "step_drafted" if payload.author == "draft" else "step_regenerated")


def _kind(kind: StepKind) -> Id:
    def name(payload: AnyPayload, problem: str, step: int, sample: int, cause: str) -> str:
        return message_id(problem, step, sample, kind)

    return name


def _scored(payload: events.StepScoredEvent, problem: str, step: int, sample: int, cause: str) -> str:
    return scored_id(problem, step, sample, payload.author)


def _failed(payload: events.StepFailedEvent, problem: str, step: int, sample: int, cause: str) -> str:
    return failed_id(problem, step, sample, payload.actor, payload.failed_kind)


def _request(payload: events.CallStarted, problem: str, step: int, sample: int, cause: str) -> str:
    return call_id(cause, payload.model, payload.index)


def _answer(payload: AnyPayload, problem: str, step: int, sample: int, cause: str) -> str:
    return answer_id(cause)


def _retry(payload: events.CallRetried, problem: str, step: int, sample: int, cause: str) -> str:
    return retry_id(cause, payload.attempt)


def _reused(payload: AnyPayload, problem: str, step: int, sample: int, cause: str) -> str:
    return call_id(cause, "draft", 0)


def _prescored(payload: events.Prescored, problem: str, step: int, sample: int, cause: str) -> str:
    return call_id(cause, payload.model, 0)


def _end(payload: AnyPayload, problem: str, step: int, sample: int, cause: str) -> str:
    return problem_ended_id(problem, step, sample)


def _message(kind: StepKind, actor: str, to: str, cause: Cause) -> Usual:
    return Usual(cause, _kind(kind), actor, to)


_OUTCOME = Usual(_last_call, _answer, None)
_CALLS: dict[Model, Usual] = {
    "draft": Usual(_same_step("draft_step"), _request, "drafter"),
    "target": Usual(_same_step("escalate_step"), _request, "escalator"),
    "prm": Usual(_same_step("step_drafted"), _request, "verifier"),
    "router": Usual(_same_step("step_drafted"), _request, "verifier"),
    "judge": Usual(_same_step("step_drafted"), _request, "verifier"),
    "audit": Usual(_same_step("audit_step"), _request, "verifier"),
}
_ESCALATION = _message("escalate_step", "assembler", "escalator", _last)
_REJECTED = _message("escalate_step", "router", "escalator", _last)
_KINDS: dict[type[AnyPayload], Usual] = {
    events.StartProblemEvent: _message("start_problem", "ring", "assembler", _problem),
    events.GlimpseStepEvent: _message("glimpse_step", "assembler", "drafter", _last),
    events.StepGlimpsedEvent: _message("step_glimpsed", "drafter", "router", _same_step("glimpse_step")),
    events.DraftStepEvent: _message("draft_step", "assembler", "drafter", _last),
    events.EscalateStepEvent: _ESCALATION,
    events.StepDraftedEvent: _message("step_drafted", "drafter", "verifier", _same_step("draft_step")),
    events.StepRegeneratedEvent: _message("step_regenerated", "escalator", "assembler", _same_step("escalate_step")),
    events.StepScoredEvent: Usual(_candidates, _scored, "verifier", "router"),
    events.StepAcceptedEvent: _message("step_accepted", "router", "assembler", _last),
    events.AuditStepEvent: _message("audit_step", "assembler", "verifier", _last),
    events.StepAuditedEvent: _message("step_audited", "verifier", "assembler", _same_step("audit_step")),
    events.StepFailedEvent: Usual(_last, _failed, None, "assembler"),
    events.CallGenerated: _OUTCOME,
    events.CallScored: _OUTCOME,
    events.CallFailed: _OUTCOME,
    events.CallCancelled: _OUTCOME,
    events.CallRetried: Usual(_last_call, _retry, None),
    events.Predrafted: Usual(_same_step("draft_step"), _reused, "drafter"),
    events.Prescored: Usual(_same_step("step_drafted"), _prescored, "verifier"),
    events.ProblemEnded: Usual(_same_step("start_problem"), _end, "assembler"),
}


def usual(payload: AnyPayload) -> Usual | None:
    """Return the usual fields of an event of a problem; None if its line has all fields."""
    rule = _KINDS.get(type(payload))
    if rule is None and isinstance(payload, events.CallStarted):
        return _CALLS[payload.model]
    if rule is _ESCALATION and isinstance(payload, events.EscalateStepEvent) and payload.rejects:
        return _REJECTED
    return rule
