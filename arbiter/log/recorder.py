"""The journal of a run: times every event, makes the lines of the log, and returns the outcomes of earlier sessions."""

import time
from collections.abc import Callable

import anyio
import msgspec

from arbiter.actors.clock import running_clock
from arbiter.log.history import ProblemHistory
from arbiter.log.lines import MICRO, Happened, Timed
from arbiter.log.redaction import reduced
from arbiter.log.resume import EarlierSessions
from arbiter.log.writer import LineWriter
from arbiter.protocols import events
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import (
    SCHEMA,
    AnyPayload,
    CallCancelled,
    CallFailed,
    CallGenerated,
    CallScored,
    Detail,
    Entry,
    Event,
    Outcome,
)

ACTOR = "run"
"""The actor of the run's own events."""

CARRY_SECONDS = 1.0
"""The time in seconds after which events that no other event carried get a line of their own."""

Watch = Callable[[Event], None]

_CARRIED = frozenset(
    {
        events.GlimpseStepEvent,
        events.StepGlimpsedEvent,
        events.DraftStepEvent,
        events.EscalateStepEvent,
        events.StepDraftedEvent,
        events.StepRegeneratedEvent,
        events.StepScoredEvent,
        events.StepAcceptedEvent,
        events.AuditStepEvent,
        events.StepAuditedEvent,
        events.StepFailedEvent,
        events.CallStarted,
    }
)
"""The kinds that a resumed run computes again from the answers. They wait for the next line of their problem."""


class Recorder:
    """A ``Journal`` that passes events to ``writer`` and to ``watch``, where given. ``open_journal`` makes it.

    The line of an answer carries the messages of its problem since the line before. They wait for it at most about
    ``CARRY_SECONDS``.

    Messages that an earlier session wrote are not written again. A message that differs from the logged one stops the
    run, because its log would become inconsistent. If ``goes_on`` is False, the unfinished problems of earlier sessions
    are not continued: a problem of the same id is a new one.
    """

    kept = True

    def __init__(
        self,
        writer: LineWriter | None,
        earlier: EarlierSessions,
        detail: Detail,
        watch: Watch | None = None,
        goes_on: bool = True,
    ) -> None:
        self.earlier = earlier
        self._writer = writer
        self._watch = watch
        self._detail: Detail = detail
        self._seq = earlier.seq
        self._clock = running_clock()
        self._started = self._clock() - earlier.mono
        self._carried: dict[tuple[str | None, int], list[Timed]] = {}  # the problem that waits longest is first
        self._some_carried: anyio.Event | None = None
        self._messages: dict[str, Event] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._spent: dict[str, float] = {}
        self._decided: dict[str, float] = {}
        self.threshold = earlier.threshold
        self._diverged = anyio.Event()
        self._difference = ""
        if goes_on and detail == "full":  # without its texts a problem can only start again
            for problem in earlier.unfinished.values():
                self.remember(problem, earlier.mono - problem.start.mono)

    @property
    def has_texts(self) -> bool:
        """Whether the log holds the texts of steps."""
        return self._detail == "full"

    @property
    def seconds(self) -> float:
        """The run's clock: the seconds since the run began, without the time between its sessions."""
        return self._clock() - self._started

    async def write(self, entry: Entry) -> None:
        known = self._messages.get(entry.id) if self._messages else None
        if known is None:
            if self._writer is not None and type(entry.payload) not in _CARRIED and self._writer.is_full:
                await self._writer.room()
            self.note(entry)
            if self._writer is not None and self._writer.confirms and isinstance(entry.payload, Outcome):
                await self._writer.written()
        elif (_as_read(entry.payload), entry.cause, entry.to) != (known.payload, known.cause, known.to):
            self._difference = (
                f"{known.id} is {known.payload} in line {known.seq + 1} of its log, but {entry.payload} now"
            )
            self._diverged.set()
            await anyio.sleep_forever()  # the run is being stopped

    def note(self, entry: Entry) -> None:
        micros = int((self._clock() - self._started) * MICRO)
        if self._watch is not None:
            self._watch(self._event(entry, micros))
        kept = entry if self._detail == "full" else reduced(entry, self._detail)
        if kept is None or self._writer is None:
            return
        key = (entry.problem, entry.sample)
        carried = self._carried.get(key)
        if type(entry.payload) not in _CARRIED:
            if carried is None:
                self._put(self._writer, [(kept, micros)])
            else:
                del self._carried[key]
                carried.append((kept, micros))
                self._put(self._writer, carried)
        elif carried is not None:
            carried.append((kept, micros))
        else:
            self._carried[key] = [(kept, micros)]
            if self._some_carried is not None:
                self._some_carried.set()
                self._some_carried = None

    def recall(self, call: str) -> CallGenerated | CallScored | CallFailed | None:
        outcome = self._outcomes.get(call)
        return None if isinstance(outcome, CallCancelled) else outcome

    def decided(self, place: str) -> float | None:
        return self._decided.get(place)

    def spent(self, start: str) -> float:
        return self._spent.get(start, 0.0)

    async def record(self, name: str, payload: AnyPayload, problem: str | None = None, sample: int = 0) -> None:
        """Write an event of the run itself, which no actor of the ring writes."""
        await self.write(Entry(name, ACTOR, payload, problem=problem, sample=sample))

    async def guard(self) -> None:
        """Wait, and raise ``RunError`` when the run diverges from its log."""
        await self._diverged.wait()
        raise RunError(
            f"the run cannot be resumed: {self._difference}. "
            "If another version of Arbiter started it (see versions.json in the run's folder), use that version"
        )

    async def write_waiting(self) -> None:
        """Write the events that no line carried within ``CARRY_SECONDS``. Never returns."""
        while True:
            if not self._carried:
                self._some_carried = anyio.Event()
                await self._some_carried.wait()
            await anyio.sleep(CARRY_SECONDS)
            self._put_carried(int((self.seconds - CARRY_SECONDS) * MICRO))

    def write_carried(self) -> None:
        """Write the events that still wait for a line that carries them, before the last event of a session."""
        self._put_carried(int(self.seconds * MICRO))

    def _put_carried(self, before: int) -> None:
        """Write the waiting events of the problems whose first one happened ``before`` or earlier."""
        while self._writer is not None and self._carried:
            key, carried = next(iter(self._carried.items()))
            if carried[0][1] > before:
                return
            del self._carried[key]
            self._put(self._writer, carried, self.seconds - carried[-1][1] / MICRO)

    def _put(self, writer: LineWriter, happened: list[Timed], ago: float = 0.0) -> None:
        """Write the line of events of which the last one happened ``ago`` seconds ago."""
        wall = time.time_ns() // 1000 / MICRO
        writer.put(Happened(self.earlier.run, self._seq, round(wall - ago, 6) if ago else wall, happened))
        self._seq += 1

    def remember(self, problem: ProblemHistory, spent: float) -> None:
        """Continue a problem that another session or worker began, ``spent`` seconds after its start.

        Its messages are not written again, and its answers are not requested again.
        """
        self._messages.update(problem.messages)
        self._decided.update({problem.place(step): moved for step, moved in problem.thresholds().items()})
        self._outcomes.update({name: call.outcome for name, call in problem.answers().items() if call.outcome})
        self._spent[problem.start.id] = spent

    def forget(self, problem: str, sample: int) -> None:
        """Drop the events of a problem that still wait for a line. It is another worker's now, or begins again."""
        self._carried.pop((problem, sample), None)

    async def written(self) -> None:
        """Wait until all lines so far are in the file. Without a file, return immediately."""
        if self._writer is not None:
            await self._writer.written()

    def _event(self, entry: Entry, micros: int) -> Event:
        return Event(
            v=SCHEMA,
            run=self.earlier.run,
            seq=self._seq,
            mono=micros / MICRO,
            wall=round(time.time(), 6),
            id=entry.id,
            actor=entry.actor,
            to=entry.to,
            cause=entry.cause,
            problem=entry.problem,
            sample=entry.sample,
            step=entry.step,
            payload=entry.payload,
        )


def _as_read(payload: AnyPayload) -> AnyPayload:
    """Return ``payload`` as it would be read from a log: JSON has no infinity."""
    return msgspec.json.decode(msgspec.json.encode(payload), type=type(payload))
