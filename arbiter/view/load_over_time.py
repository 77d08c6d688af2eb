"""Requests, queues, limits and ends over time, in a bounded number of equal intervals.

The length of a run is not known while its log is read. Whenever it no longer fits, the intervals become twice as long,
and each two neighbours are added. So memory is bounded.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.log.live import model_of
from arbiter.log.timing import seconds_waited
from arbiter.protocols.events import (
    CallFailed,
    CallGenerated,
    CallStarted,
    Event,
    Graded,
    LimitMoved,
    RunStarted,
    StepKeptEvent,
)
from arbiter.protocols.records import Record, StepRecord

INTERVALS = 512
"""The largest number of intervals."""

_SHORTEST = 1 / 64  # seconds: an interval at first; a power of two, so that sums of intervals are exact
_MOVES = 500


class Series:
    """Sums over intervals. ``values`` are as long as they need to be."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def add(self, interval: int, amount: float) -> None:
        missing = interval + 1 - len(self.values)
        if missing > 0:
            self.values += [0.0] * missing
        self.values[interval] += amount

    def halve(self) -> None:
        """Add each two neighbours."""
        even, odd = self.values[::2], self.values[1::2]
        self.values = [one + other for one, other in zip(even, [*odd, 0.0], strict=False)]


class LimitMove(Record, frozen=True):
    """A limit that moved ``at`` a time."""

    at: float
    model: str
    limit: int
    reason: str


class Load:
    """What happened over time in a run. Times are in seconds of its clock."""

    def __init__(self) -> None:
        self.interval = _SHORTEST
        self.seconds = 0.0
        self.sessions: list[float] = []
        self.moves: deque[LimitMove] = deque(maxlen=_MOVES)
        self._series: dict[tuple[str, str], Series] = {}
        self._limits: dict[str, dict[int, int]] = {}

    def note(self, event: Event) -> None:
        """Add an event of the run itself, or a grade."""
        self._reach(event.mono)
        match event.payload:
            case RunStarted():
                self.sessions.append(event.mono)
            case LimitMoved(model=model, limit=limit, reason=reason):
                self.moves.append(LimitMove(event.mono, model, limit, reason))
                self._limits.setdefault(model, {})[self._place(event.mono)] = limit
            case Graded(right=right):
                if right is not None:
                    self._count("problems", "right" if right else "wrong", event.mono)
            case _:
                pass

    def add(self, problem: ProblemHistory, steps: Sequence[StepRecord]) -> None:
        """Add a problem that has ended, with its kept ``steps`` and its requests."""
        end = problem.ended.mono if problem.ended is not None else problem.start.mono
        self._reach(end)
        self._spread("problems", "active", problem.start.mono, end)
        self._count("problems", "ended", end)
        for message in problem.messages.values():
            number = message.step or 0
            if message.to == "assembler" and isinstance(message.payload, StepKeptEvent) and number < len(steps):
                self._count("steps", steps[number].kept.author, min(message.mono, self.seconds))
        for call in problem.calls.values():
            self._add_call(problem, call)

    def to_json(self) -> dict[str, object]:
        """Return the series as the API has them (``docs/reference/view-api.md``)."""
        count = min(INTERVALS, self._place(self.seconds) + 1)
        models = sorted({group.removeprefix("model ") for group, _ in self._series if group.startswith("model ")})
        return {
            "seconds": round(self.seconds, 6),
            "interval": self.interval,
            "intervals": count,
            "problems": {
                "active": self._means("problems", "active", count),
                **{name: self._counts("problems", name, count) for name in ("ended", "right", "wrong")},
            },
            "steps": {author: self._counts("steps", author, count) for author in ("draft", "target")},
            "models": {model: self._model(model, count) for model in sorted({*models, *self._limits})},
            "limits": list(self.moves),
            "sessions": [{"at": at, "session": session} for session, at in enumerate(self.sessions)],
        }

    def _model(self, model: str, count: int) -> dict[str, object]:
        group = f"model {model}"
        return {
            **{name: self._means(group, name, count) for name in ("in_flight", "waiting")},
            **{name: self._counts(group, name, count) for name in ("tokens", "calls", "failed", "retries")},
            "limit": self._limit(model, count),
        }

    def _add_call(self, problem: ProblemHistory, call: CallHistory) -> None:
        started, ended = call.started, call.ended
        begin = started.mono if started is not None else None
        last = ended.mono if ended is not None else begin
        if last is None:
            return
        self._reach(last)
        payload = started and started.payload
        group = f"model {model_of(payload) if isinstance(payload, CallStarted) else call.model}"
        outcome = call.outcome
        begin = max(0.0, last - outcome.seconds) if begin is None and outcome is not None else begin
        if begin is not None:
            self._spread(group, "in_flight", begin, last)
            if waited := seconds_waited(problem, call):
                self._spread(group, "waiting", begin - waited, begin)
        self._count(group, "calls", last)
        self._count(group, "failed", last, isinstance(outcome, CallFailed))
        for retry in call.retries:
            self._count(group, "retries", min(retry.mono, self.seconds))
        if isinstance(outcome, CallGenerated):
            self._count(group, "tokens", last, outcome.cost.completion_tokens)

    def _reach(self, at: float) -> None:
        self.seconds = max(self.seconds, at)
        while self.seconds >= self.interval * INTERVALS:
            self.interval *= 2
            for series in self._series.values():
                series.halve()
            for model, limits in self._limits.items():
                self._limits[model] = {place // 2: limit for place, limit in limits.items()}  # the later one stays

    def _place(self, at: float) -> int:
        return int(max(0.0, at) / self.interval)

    def _of(self, group: str, name: str) -> Series:
        series = self._series.get((group, name))
        if series is None:
            series = self._series[group, name] = Series()
        return series

    def _count(self, group: str, name: str, at: float, amount: float = 1) -> None:
        if amount:
            self._of(group, name).add(self._place(at), amount)

    def _spread(self, group: str, name: str, begin: float, end: float) -> None:
        """Add the seconds from ``begin`` to ``end`` to the intervals in which they lie."""
        series, begin = self._of(group, name), max(0.0, begin)
        first, last = self._place(begin), self._place(end)
        if first == last:
            series.add(first, max(0.0, end - begin))
            return
        for place in range(first, last + 1):
            low, high = place * self.interval, (place + 1) * self.interval
            series.add(place, max(0.0, min(end, high) - max(begin, low)))

    def _counts(self, group: str, name: str, count: int) -> list[int]:
        return [round(value) for value in self._filled(group, name, count)]

    def _means(self, group: str, name: str, count: int) -> list[float]:
        return [round(value / self.interval, 4) for value in self._filled(group, name, count)]

    def _filled(self, group: str, name: str, count: int) -> Iterable[float]:
        series = self._series.get((group, name))
        values = series.values[:count] if series is not None else []
        return [*values, *[0.0] * (count - len(values))]

    def _limit(self, model: str, count: int) -> list[int | None]:
        limits, last = self._limits.get(model, {}), None
        return [last := limits.get(place, last) for place in range(count)]
