"""What a replayed problem does beside what its log says that it did."""

import math
from functools import cached_property
from typing import Any

import msgspec

from arbiter.actors.assembler import failure
from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols import events
from arbiter.protocols.events import Detail, Entry, Event
from arbiter.protocols.records import Record


class ComparedMessage(Record, frozen=True):
    """A message, call or end, as it is shown."""

    id: str
    actor: str
    to: str | None
    cause: str | None
    payload: events.AnyPayload


class MessageDifference(Record, frozen=True):
    """Where a replay first leaves its log; one side is None where only the other has something.

    ``causes`` are the ids of what led there, from the problem's start on.
    """

    problem: str
    sample: int
    step: int | None
    recorded: ComparedMessage | None
    replayed: ComparedMessage | None
    causes: tuple[str, ...]


class MessageComparison:
    """Collects what a problem does in its replay, and compares it with its log.

    Outcomes of calls are what a replay is fed with; they are not compared, and neither are times.
    """

    def __init__(self, problem: ProblemHistory, detail: Detail) -> None:
        self._problem = problem
        self._detail: Detail = detail
        self._recorded = {event.id: event for event in _compared(problem)}
        self._replayed: dict[str, Entry] = {}

    @property
    def messages(self) -> int:
        """How many messages were replayed."""
        return sum(entry.to is not None for entry in self._replayed.values())

    @property
    def seconds(self) -> float:
        """From the problem's start to the last of its events that is compared, in the run."""
        return max(event.mono for event in self._recorded.values()) - self._problem.start.mono

    def add(self, entry: Entry) -> bool:
        """Take note of what happened; whether the log has it too, so that the replay may go on from there."""
        if isinstance(entry.payload, events.Outcome):
            return True
        self._replayed[entry.id] = entry
        return entry.id in self._recorded and not self._came_too_late(entry)

    def difference(self) -> MessageDifference | None:
        """The first difference in the order of causes; None if there is none."""
        differing = [name for name in {**self._recorded, **self._replayed} if self._differs(name)]
        if not differing or all(self._is_beyond_the_cut(name) for name in differing):
            return None
        first = min(differing, key=self._place)
        beside = [name for name in differing if self._causes(name) == self._causes(first)]
        recorded = next((self._recorded[name] for name in beside if name in self._recorded), None)
        replayed = next((self._replayed[name] for name in beside if name in self._replayed), None)
        step = (recorded or replayed or self._problem.start).step
        return MessageDifference(*self._problem.key, step, _told(recorded), _told(replayed), self._causes(first))

    def _differs(self, name: str) -> bool:
        recorded, replayed = self._recorded.get(name), self._replayed.get(name)
        if replayed is None:
            return recorded is not None and recorded.mono < self._failed_at
        if recorded is None:
            return not self._waited_in_vain(replayed)
        return self._content(recorded) != self._content(replayed)

    def _waited_in_vain(self, replayed: Entry) -> bool:
        """Whether it is a call that the run never made, since another one for the same message failed before."""
        if not isinstance(replayed.payload, events.CallStarted):
            return False
        beside = [call for call in self._problem.calls.values() if call.asked and call.asked.cause == replayed.cause]
        return any(isinstance(call.outcome, events.CallFailed) for call in beside)

    def _came_too_late(self, entry: Entry) -> bool:
        """Whether the run gave the problem up before the Assembler took this message in."""
        end = self._problem.end
        if end is None or not self._cut_short or entry.to != "assembler":
            return False
        if isinstance(entry.payload, events.StepFailedEvent):
            return entry.payload.failed_kind != "audit_step" and end.error != _failure(entry, entry.payload)
        kept = isinstance(entry.payload, events.StepKeptEvent)
        return kept and entry.step is not None and entry.step >= end.steps

    def _is_beyond_the_cut(self, name: str) -> bool:
        """Whether it is what a problem that was cut short in the run would have done next."""
        return self._cut_short and name not in self._recorded

    @property
    def _cut_short(self) -> bool:
        """Whether the run gave the problem up, and it was chance how far its last answers still got."""
        end = self._problem.end
        return end is None or end.finish_reason == "failed" or struck_after(self._problem) < math.inf

    @cached_property
    def _failed_at(self) -> float:
        """When the first failure came, from which on it was chance what the problem still did; else infinity."""
        calls = [
            call.ended.mono
            for call in self._problem.calls.values()
            if call.ended is not None and isinstance(call.outcome, events.CallFailed) and _fails_problem(call)
        ]
        return min((*calls, *(event.mono for event in self._recorded.values() if _fails(event))), default=math.inf)

    def _place(self, name: str) -> tuple[bool, int, float]:
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
        elif self._detail != "full" and isinstance(payload, events.DraftStepEvent | events.EscalateStepEvent):
            payload = msgspec.structs.replace(payload, context="")  # of texts that the log does not hold
        return entry.actor, entry.to, entry.cause, payload


def _fails_problem(call: CallHistory) -> bool:
    return call.model != "audit" and not call.is_ahead


def _failure(entry: Entry, failed: events.StepFailedEvent) -> str:
    """A failed step as its problem's error tells it."""
    return failure(failed.actor, entry.step or 0, failed.error)


def _fails(event: Event) -> bool:
    return isinstance(event.payload, events.StepFailedEvent) and event.payload.failed_kind != "audit_step"


def struck_after(problem: ProblemHistory) -> float:
    """How many seconds after the problem's start its deadline struck in the run; infinity if it did not."""
    end, deadline = problem.end, problem.task.limits.deadline
    if end is None or problem.ended is None or deadline is None or end.seconds < deadline:
        return math.inf
    return problem.ended.mono - problem.start.mono


def _compared(problem: ProblemHistory) -> list[Event]:
    calls = (call.asked for call in problem.calls.values() if call.asked is not None and not call.is_ahead)
    # a replay looks at nothing ahead, and asks for each draft in its turn
    drafts = (msgspec.structs.replace(event, payload=events.CallStarted("draft")) for event in problem.reused.values())
    ends = (problem.ended,) if problem.ended is not None else ()
    return sorted((*problem.messages.values(), *calls, *drafts, *ends), key=lambda event: event.seq)


def _told(entry: Entry | Event | None) -> ComparedMessage | None:
    return None if entry is None else ComparedMessage(entry.id, entry.actor, entry.to, entry.cause, entry.payload)
