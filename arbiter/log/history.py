"""Rebuild one problem from the log: its messages, its requests, and the solution that results from them."""

from collections.abc import Iterable, Iterator
from copy import copy

import msgspec

from arbiter.log.step_folding import FoldedStep, StepFolder, parsed_call
from arbiter.protocols import events
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Event
from arbiter.protocols.ids import CallId, call_id, message_id, step_id
from arbiter.protocols.records import AuditScores, LookaheadStats, Model, RequestCounts, Solution, StepRecord

Key = tuple[str, int]
"""A problem's id, and the number of its sample."""


class CallHistory:
    """One request: its start, its retries and its outcome.

    ``started`` is the event of its start, None in a log that holds decisions only. ``ended`` is the event of its
    outcome, None if the log has none. ``first`` is the first event of the request.

    Raises ``RunError`` naming the line of ``first`` if ``name`` is not a valid call id.
    """

    def __init__(self, name: str, first: Event) -> None:
        self.id = name
        self.parsed = parsed_call(name, first)
        self.started = first if isinstance(first.payload, events.CallStarted) else None
        self.retries: list[Event] = []
        self.ended: Event | None = None

    @property
    def model(self) -> Model:
        return self.parsed.model

    @property
    def is_ahead(self) -> bool:
        """Whether the request is a draft written ahead, begun before its step was requested."""
        return self.parsed.is_ahead

    @property
    def is_extra(self) -> bool:
        """Whether a replay, which requests each draft and each score in its turn, does not make the request."""
        return self.parsed.is_ahead or self.parsed.is_block

    def part(self, index: int) -> "CallHistory":
        """Return the same request as if it had returned only the step or the score number ``index``."""
        outcome = self.outcome
        if self.ended is None or not isinstance(outcome, events.CallGenerated | events.CallScored):
            return self
        if not outcome.following:
            return self
        part = copy(self)
        part.ended = msgspec.structs.replace(self.ended, payload=outcome.at(index))
        return part

    @property
    def outcome(self) -> events.Outcome | None:
        payload = None if self.ended is None else self.ended.payload
        return payload if isinstance(payload, events.Outcome) else None


class ProblemHistory:
    """All events of one sample of a problem. A request that a later session made again is there once, as made last."""

    def __init__(self, start: Event) -> None:
        self.start = start
        self.messages: dict[str, Event] = {start.id: start}
        self.calls: dict[str, CallHistory] = {}
        self.reused: dict[str, Event] = {}
        self.ended: Event | None = None
        self._folder = StepFolder(self.task.sampling.target_samples)
        self._folded: list[FoldedStep] = []

    @property
    def key(self) -> Key:
        return self.start.problem or "", self.start.sample

    @property
    def task(self) -> events.StartProblemEvent:
        assert isinstance(self.start.payload, events.StartProblemEvent)  # noqa: S101 - only made from such an event
        return self.start.payload

    @property
    def end(self) -> events.ProblemEnded | None:
        payload = None if self.ended is None else self.ended.payload
        return payload if isinstance(payload, events.ProblemEnded) else None

    def add(self, event: Event) -> None:
        """Add an event. Events after the problem's end are ignored."""
        if self.ended is not None:
            return
        answered: CallId | None = None
        match event.payload:
            case events.CallStarted():
                self.calls[event.id] = CallHistory(event.id, event)
            case events.Predrafted() | events.Prescored():
                self.reused[event.id] = event
            case events.CallGenerated() | events.CallScored() | events.CallFailed() | events.CallCancelled():
                call = self._call(event)
                call.ended, answered = event, call.parsed
            case events.CallRetried():
                self._call(event).retries.append(event)
            case events.ProblemEnded():
                self.ended = event
            case _:
                self.messages.setdefault(event.id, event)
        folded = self._folder.add(event, answered)
        if folded is not None:
            self._folded.append(folded)

    def _call(self, event: Event) -> CallHistory:
        name = event.cause or ""
        call = self.calls.get(name)
        if call is None:
            call = self.calls[name] = CallHistory(name, event)
        return call

    def place(self, step: int) -> str:
        """Return the id of a step (``arbiter.protocols.ids``)."""
        problem, sample = self.key
        return step_id(problem, step, sample)

    def message_of(self, call: CallHistory) -> Event | None:
        """Return the message that caused ``call``, or None if the log does not have it."""
        return self.messages.get(str(call.parsed.message))

    def steps(self) -> list[StepRecord]:
        """Return the kept steps in order; for an unfinished problem, those kept so far.

        Raises ``RunError`` naming the line if the log keeps a step that no request wrote.
        """
        for step in self._folded:
            if not step.is_written:
                line = step.message.seq + 1
                raise RunError(f"the log is damaged in line {line}: it keeps a step that no request wrote")
        audited = self._audited()
        kept = self._folded if self.end is None else self._folded[: self.end.steps]
        return [
            msgspec.structs.replace(step.record, audit=self._audit(step.number))
            if step.number in audited
            else step.record
            for step in kept
        ]

    def solution(self) -> Solution | None:
        """Return the solution as the ring returned it; None if the problem has not ended."""
        if self.end is None:
            return None
        return Solution(
            problem=self.key[0],
            question=self.task.question,
            steps=tuple(self.steps()),
            finish_reason=self.end.finish_reason,
            seconds=self.end.seconds,
            requests=self.request_counts(),
            error=self.end.error,
            sample=self.key[1],
            lookahead=self.lookahead(),
            targets=self.target_counts(),
            separator=self.task.separator,
            stop=self.task.stop,
        )

    def thresholds(self) -> dict[int, float]:
        """Return the thresholds that a budget set, by the number of the step that each one decided."""
        payloads = ((event.step or 0, event.payload) for event in self.messages.values())
        return {
            step: payload.threshold
            for step, payload in payloads
            if isinstance(payload, events.StepAcceptedEvent | events.EscalateStepEvent | events.DraftStepEvent)
            and payload.threshold is not None
        }

    def answers(self) -> dict[str, CallHistory]:
        """Return all requests by id.

        A used draft written ahead, or in a block, also has the id of the request that it replaced. So does a score.
        """
        used: dict[str, CallHistory] = {}
        for name, event in self.reused.items():
            payload = event.payload
            if isinstance(payload, events.Predrafted | events.Prescored) and payload.call in self.calls:
                used[name] = self.calls[payload.call].part(payload.index)
        return {**self.calls, **used}

    def lookahead(self) -> LookaheadStats:
        """Return the statistics of drafting ahead."""
        used = {(one.call, one.index) for one in self._predrafted()}
        ahead = [call for call in self.calls.values() if call.is_ahead]
        written = {(call.id, 0): outcome.usage for call, outcome in _generated(ahead)}
        block = {
            (call.id, index): step.usage
            for call, outcome in _generated(self.calls.values())
            for index, step in enumerate(outcome.following, 1)
        }
        tokens = sum(usage.completion_tokens for name, usage in {**written, **block}.items() if name not in used)
        stale = [one.stale for one in self._predrafted()]
        started = len(ahead) + len(block)
        return LookaheadStats(started, hits=stale.count(False), wasted_tokens=tokens, salvaged=stale.count(True))

    def _predrafted(self) -> list[events.Predrafted]:
        return [event.payload for event in self.reused.values() if isinstance(event.payload, events.Predrafted)]

    def request_counts(self) -> dict[Model, RequestCounts]:
        """Return the requests by model. A request without an outcome counts as cancelled."""
        request_counts: dict[Model, RequestCounts] = {}
        for call in self.calls.values():
            request_counts[call.model] = request_counts.get(call.model, RequestCounts()) + _request_counts(call)
        return request_counts

    def target_counts(self) -> dict[str, RequestCounts]:
        """Return the requests to named targets, by the target's name."""
        request_counts: dict[str, RequestCounts] = {}
        for call in self.calls.values():
            if name := self.target_of(call):
                request_counts[name] = request_counts.get(name, RequestCounts()) + _request_counts(call)
        return request_counts

    def target_of(self, call: CallHistory) -> str:
        """Return the name of the target that was called if the policy has several targets, else an empty text."""
        started = call.started and call.started.payload
        if isinstance(started, events.CallStarted):
            return started.target
        message = self.message_of(call)  # a log of decisions has only the message
        return message.payload.target if message and isinstance(message.payload, events.EscalateStepEvent) else ""

    def _audited(self) -> set[int]:
        """Return the steps whose audits came before the problem's end. The solution has no other audits."""
        messages = self.messages.values()
        audits = [message.step or 0 for message in messages if isinstance(message.payload, events.StepAuditedEvent)]
        return set(audits if self.end is None else audits[: self.end.audited])

    def _audit(self, step: int) -> AuditScores | None:
        draft, target = (self._audit_score(step, index) for index in (0, 1))
        return None if draft is None or target is None else AuditScores(draft, target)

    def _audit_score(self, step: int, index: int) -> float | None:
        problem, sample = self.key
        call = self.calls.get(call_id(message_id(problem, step, sample, "audit_step"), "audit", index))
        return call.outcome.value if call and isinstance(call.outcome, events.CallScored) else None


def _request_counts(call: CallHistory) -> RequestCounts:
    match call.outcome:
        case events.CallGenerated() | events.CallScored() as answer:
            return RequestCounts(requests=1, usage=answer.cost)
        case events.CallFailed():
            return RequestCounts(requests=1, failed=1)
        case _:
            return RequestCounts(requests=1, cancelled=1)


def _generated(calls: Iterable[CallHistory]) -> Iterator[tuple[CallHistory, events.CallGenerated]]:
    """Yield the requests that wrote a step, with their outcomes."""
    for call in calls:
        if isinstance(call.outcome, events.CallGenerated):
            yield call, call.outcome


def histories(log: Iterable[Event]) -> Iterator[ProblemHistory]:
    """Yield the problems of a log, each as soon as it has ended, then the unfinished ones.

    Only open problems are held in memory. Events after a problem's end (cancelled requests, grades) are not in its
    history.
    """
    open_problems: dict[Key, ProblemHistory] = {}
    for event in log:
        if event.problem is None:
            continue
        key = event.problem, event.sample
        if isinstance(event.payload, events.StartProblemEvent):
            open_problems[key] = ProblemHistory(event)
        elif key in open_problems:
            open_problems[key].add(event)
            if isinstance(event.payload, events.ProblemEnded):
                yield open_problems.pop(key)
    yield from open_problems.values()
