"""Compare what a replayed problem does with what its log recorded."""

import math
from functools import cached_property
from typing import Any, get_args

import msgspec

from arbiter.actors.assembler import failure
from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols import events
from arbiter.protocols.events import Detail, Entry, Event
from arbiter.protocols.records import Record

_OUTCOMES = frozenset(get_args(events.Outcome))
_WITH_CONTEXT = events.GlimpseStepEvent | events.DraftStepEvent | events.EscalateStepEvent


class ComparedMessage(Record, frozen=True):
    """A message, a model call or the end of a problem, as a difference shows it."""

    id: str
    actor: str
    to: str | None
    cause: str | None
    payload: events.AnyPayload


class MessageDifference(Record, frozen=True):
    """The first difference between a replay and its log. One side is None if only the other one has an event.

    ``causes`` are the ids of the events that led there, from the start of the problem on.
    """

    problem: str
    sample: int
    step: int | None
    recorded: ComparedMessage | None
    replayed: ComparedMessage | None
    causes: tuple[str, ...]


class MessageComparison:
    """Collects what a problem does in its replay, and compares it with the log.

    Outcomes of calls and times are not compared: the outcomes are the input of the replay.
    """

    def __init__(self, problem: ProblemHistory, detail: Detail) -> None:
        self._problem = problem
        self._detail: Detail = detail
        self._recorded = {event.id: event for event in _compared(problem)}
        self._replayed: dict[str, Entry] = {}

    @property
    def messages(self) -> int:
        """The number of replayed messages."""
        return sum(entry.to is not None for entry in self._replayed.values())

    @property
    def seconds(self) -> float:
        """The recorded seconds from the start of the problem to its last compared event."""
        return max(event.mono for event in self._recorded.values()) - self._problem.start.mono

    def add(self, entry: Entry) -> bool:
        """Add an event. Return whether the log has it too, so that the replay can continue from there."""
        if type(entry.payload) in _OUTCOMES:
            return True
        name = entry.id
        self._replayed[name] = entry
        return name in self._recorded and not (entry.to == "assembler" and self._came_too_late(entry))

    def difference(self) -> MessageDifference | None:
        """Return the first difference in the order of causes, or None if there is none."""
        differing = [name for name in {**self._recorded, **self._replayed} if self._differs(name)]
        if not differing or all(self._is_beyond_the_cut(name) for name in differing):
            return None
        first = min(differing, key=self._sort_key)
        siblings = [name for name in differing if self._causes(name) == self._causes(first)]
        recorded = next((self._recorded[name] for name in siblings if name in self._recorded), None)
        replayed = next((self._replayed[name] for name in siblings if name in self._replayed), None)
        step = (recorded or replayed or self._problem.start).step
        return MessageDifference(*self._problem.key, step, _shown(recorded), _shown(replayed), self._causes(first))

    def _differs(self, name: str) -> bool:
        recorded, replayed = self._recorded.get(name), self._replayed.get(name)
        if replayed is None:
            return recorded is not None and recorded.mono < self._failed_at
        if recorded is None:
            return not self._was_never_called(replayed)
        if recorded.payload == replayed.payload and recorded.cause == replayed.cause and recorded.to == replayed.to:
            return recorded.actor != replayed.actor
        return self._content(recorded) != self._content(replayed)

    def _was_never_called(self, replayed: Entry) -> bool:
        """Return whether the run never made this call because another call for the same message had failed."""
        if not isinstance(replayed.payload, events.CallStarted):
            return False
        calls = self._problem.calls.values()
        siblings = (call for call in calls if call.started and call.started.cause == replayed.cause)
        return any(isinstance(call.outcome, events.CallFailed) for call in siblings)

    def _came_too_late(self, entry: Entry) -> bool:
        """Return whether the run gave up the problem before the Assembler processed this message to it."""
        end = self._problem.end
        if end is None or not self._cut_short:
            return False
        if isinstance(entry.payload, events.StepFailedEvent):
            return entry.payload.failed_kind != "audit_step" and end.error != _failure(entry, entry.payload)
        kept = isinstance(entry.payload, events.StepKeptEvent)
        return kept and entry.step is not None and entry.step >= end.steps

    def _is_beyond_the_cut(self, name: str) -> bool:
        """Return whether this event is one that the run, which cut the problem short, did not reach."""
        return self._cut_short and name not in self._recorded

    @cached_property
    def _cut_short(self) -> bool:
        """Whether the run gave up the problem, so that timing decided how far its last answers got."""
        end = self._problem.end
        return end is None or end.finish_reason == "failed" or struck_after(self._problem) < math.inf

    @cached_property
    def _failed_at(self) -> float:
        """The time of the first failure, or infinity. Timing decided what the problem still did after it."""
        calls = [
            call.ended.mono
            for call in self._problem.calls.values()
            if call.ended is not None and isinstance(call.outcome, events.CallFailed) and _fails_problem(call)
        ]
        return min((*calls, *(event.mono for event in self._recorded.values() if _fails(event))), default=math.inf)

    def _sort_key(self, name: str) -> tuple[bool, int, float]:
        ends = isinstance((self._recorded.get(name) or self._replayed[name]).payload, events.ProblemEnded)
        order = self._recorded[name].seq if name in self._recorded else math.inf
        return ends, len(self._causes(name)), order

    def _causes(self, name: str) -> tuple[str, ...]:
        found: list[str] = []
        entry = self._recorded.get(name) or self._replayed.get(name)
        while entry is not None and entry.cause is not None and entry.cause not in found:
            found.append(entry.cause)
            entry = self._recorded.get(entry.cause) or self._replayed.get(entry.cause)
        return tuple(reversed(found))

    def _content(self, entry: Entry | Event) -> tuple[Any, ...]:
        payload = entry.payload
        if isinstance(payload, events.ProblemEnded):
            payload = msgspec.structs.replace(payload, seconds=0.0)
            if self._cut_short:
                payload = msgspec.structs.replace(payload, steps=0, audited=0)
        elif self._detail != "full" and isinstance(payload, _WITH_CONTEXT):
            payload = msgspec.structs.replace(payload, context="")  # computed from texts that the log does not hold
        return entry.actor, entry.to, entry.cause, payload


def _fails_problem(call: CallHistory) -> bool:
    return call.model != "audit" and not call.is_extra


def _failure(entry: Entry, failed: events.StepFailedEvent) -> str:
    """Return the error text that a problem gets from this failed step."""
    return failure(failed.actor, entry.step or 0, failed.error)


def _fails(event: Event) -> bool:
    return isinstance(event.payload, events.StepFailedEvent) and event.payload.failed_kind != "audit_step"


def struck_after(problem: ProblemHistory) -> float:
    """Return the seconds after which the problem's deadline ended it in the run, or infinity if none did."""
    end, deadline = problem.end, problem.task.limits.deadline
    if end is None or problem.ended is None or deadline is None or end.seconds < deadline:
        return math.inf
    return problem.ended.mono - problem.start.mono


def _compared(problem: ProblemHistory) -> list[Event]:
    calls = (call.started for call in problem.calls.values() if call.started is not None and not call.is_extra)
    # a replay neither drafts ahead nor scores blocks: it requests each draft and each score in its turn
    reused = (
        msgspec.structs.replace(event, payload=events.CallStarted(getattr(event.payload, "model", "draft")))
        for event in problem.reused.values()
    )
    ends = (problem.ended,) if problem.ended is not None else ()
    return sorted((*problem.messages.values(), *calls, *reused, *ends), key=lambda event: event.seq)


def _shown(entry: Entry | Event | None) -> ComparedMessage | None:
    return None if entry is None else ComparedMessage(entry.id, entry.actor, entry.to, entry.cause, entry.payload)
