"""Convert a log into intervals: the start, the end and the lane of each problem and each request.

Unlike ``arbiter.log.history``, it keeps the requests of every session, including repeated ones. It also keeps requests
that end after their problem, because they were cancelled with it.
"""

from collections import Counter
from collections.abc import Iterator

from arbiter.exports.lanes import Lanes
from arbiter.log.history import Key
from arbiter.log.step_folding import parsed_call
from arbiter.protocols import events
from arbiter.protocols.events import Event, Outcome


class CallSpan:
    """One request, caused by the message ``cause``.

    ``outcome`` is None if the log or its session ended before the request.

    Raises ``RunError`` naming the line of ``first`` if ``name`` is not a valid call id.
    """

    def __init__(self, name: str, first: Event, begin: float, lane: int) -> None:
        parsed = parsed_call(name, first)
        self.id = name
        self.model = parsed.model
        self.cause = str(parsed.message)
        self.first = first
        self.begin = begin
        self.lane = lane
        self.end: float | None = None
        self.outcome: Outcome | None = None
        self.retries: list[Event] = []

    @property
    def attempt(self) -> str:
        """A unique name of this request: a request that a later session made again has the same ``id``."""
        return f"{self.id}@{self.first.seq}"

    @property
    def actor(self) -> str:
        return self.first.actor


class ProblemSpan:
    """One sample of a problem, with its messages in order and its requests ordered by their first event."""

    def __init__(self, start: Event, lane: int) -> None:
        self.start = start
        self.lane = lane
        self.messages: list[Event] = [start]
        self.calls: list[CallSpan] = []
        self.running: dict[str, CallSpan] = {}
        self.ended: Event | None = None

    @property
    def key(self) -> Key:
        return self.start.problem or "", self.start.sample

    @property
    def end(self) -> events.ProblemEnded | None:
        payload = None if self.ended is None else self.ended.payload
        return payload if isinstance(payload, events.ProblemEnded) else None


class Spans:
    """Take a log's events in order, and return each problem when it and all its requests have ended.

    Only open problems are held in memory. ``problems`` and ``requests`` count those in flight. Requests count only
    if the log has their start; a log of decisions does not have it.
    """

    def __init__(self) -> None:
        self.problems = 0
        self.requests: Counter[str] = Counter()
        self.now = 0.0
        self._open: dict[Key, ProblemSpan] = {}
        self._lanes: dict[str, Lanes] = {}

    def add(self, event: Event) -> Iterator[ProblemSpan]:
        """Yield the problems that this event completes."""
        self.now = max(self.now, event.mono)
        if isinstance(event.payload, events.RunStarted):
            self._stop_calls()
        if event.problem is None:
            return
        key = event.problem, event.sample
        if isinstance(event.payload, events.StartProblemEvent):
            if key in self._open:  # started again by a later session
                yield self._close(self._open[key])
            self.problems += 1
            self._open[key] = ProblemSpan(event, self._lane("ring", event.mono))
        elif key in self._open:
            problem = self._open[key]
            self._add(problem, event)
            if problem.ended is not None and not problem.running:
                yield self._close(problem)

    def rest(self) -> Iterator[ProblemSpan]:
        """Yield the unfinished problems, at the end of the log."""
        self._stop_calls()
        for problem in [*self._open.values()]:
            yield self._close(problem)

    def _add(self, problem: ProblemSpan, event: Event) -> None:
        match event.payload:
            case events.CallStarted():
                self._begin(problem, event.id, event, event.mono)
                self.requests[problem.calls[-1].model] += 1
            case events.CallRetried():
                if event.cause in problem.running:
                    problem.running[event.cause].retries.append(event)
            case events.CallGenerated() | events.CallScored() | events.CallFailed() | events.CallCancelled() as outcome:
                self._end(problem, event, outcome)
            case events.ProblemEnded():
                problem.ended = event
                self.problems -= 1
                self._lanes["ring"].release(problem.lane, event.mono)
            case events.Graded():
                pass
            case _:
                problem.messages.append(event)

    def _begin(self, problem: ProblemSpan, name: str, first: Event, begin: float) -> CallSpan:
        call = CallSpan(name, first, begin, self._lane(first.actor, begin))
        problem.calls.append(call)
        problem.running[name] = call
        return call

    def _end(self, problem: ProblemSpan, event: Event, outcome: Outcome) -> None:
        call = problem.running.get(event.cause or "")
        if call is None:  # a log of decisions: the start is computed from the duration
            call = self._begin(problem, event.cause or "", event, max(0.0, round(event.mono - outcome.seconds, 6)))
        call.outcome = outcome
        self._stop(problem, call, event.mono)

    def _stop(self, problem: ProblemSpan, call: CallSpan, end: float) -> None:
        call.end = end
        del problem.running[call.id]
        self._lanes[call.actor].release(call.lane, end)
        if isinstance(call.first.payload, events.CallStarted):
            self.requests[call.model] -= 1

    def _stop_calls(self) -> None:
        """Stop the running requests, which have no outcome because their session was killed."""
        for problem in self._open.values():
            for call in [*problem.running.values()]:
                self._stop(problem, call, self.now)

    def _close(self, problem: ProblemSpan) -> ProblemSpan:
        del self._open[problem.key]
        if problem.ended is None:
            self.problems -= 1
            self._lanes["ring"].release(problem.lane, self.now)
        return problem

    def _lane(self, actor: str, begin: float) -> int:
        return self._lanes.setdefault(actor, Lanes()).take(begin)
