"""The journal of a run: it numbers and timestamps every event, and returns the outcomes of earlier sessions."""

import time
from collections.abc import Callable

import anyio
import msgspec

from arbiter.log.redaction import reduced
from arbiter.log.resume import EarlierSessions
from arbiter.log.writer import LogWriter
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

Watch = Callable[[Event], None]


class Recorder:
    """A ``Journal`` that passes events to ``writer`` and to ``watch``, where given. ``open_journal`` makes it.

    Messages that an earlier session wrote are not written again. A message that differs from the logged one stops the
    run, because its log would become inconsistent. If ``goes_on`` is False, the unfinished problems of earlier sessions
    are not continued: a problem of the same id is a new one.
    """

    kept = True

    def __init__(
        self,
        writer: LogWriter | None,
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
        self._started = anyio.current_time() - earlier.mono
        self._messages: dict[str, Event] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._spent: dict[str, float] = {}
        self._decided: dict[str, float] = {}
        self.threshold = earlier.threshold
        self._diverged = anyio.Event()
        self._difference = ""
        if goes_on and detail == "full":  # without its texts a problem can only start again
            self._remember()

    @property
    def seconds(self) -> float:
        """The run's clock: the seconds since the run began, without the time between its sessions."""
        return anyio.current_time() - self._started

    async def write(self, entry: Entry) -> None:
        known = self._messages.get(entry.id)
        if known is None:
            if self._writer is not None:
                await self._writer.room()
            self.note(entry)
        elif (_as_read(entry.payload), entry.cause, entry.to) != (known.payload, known.cause, known.to):
            self._difference = (
                f"{known.id} is {known.payload} in line {known.seq + 1} of its log, but {entry.payload} now"
            )
            self._diverged.set()
            await anyio.sleep_forever()  # the run is being stopped

    def note(self, entry: Entry) -> None:
        kept = reduced(entry, self._detail)
        if kept is None and self._watch is None:
            return
        event = self._stamped(entry)
        if self._watch is not None:
            self._watch(event)
        if kept is None:
            return
        self._seq += 1
        if self._writer is not None:
            self._writer.put(event if kept is entry else msgspec.structs.replace(event, payload=kept.payload))

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

    def _remember(self) -> None:
        for problem in self.earlier.unfinished.values():
            self._messages.update(problem.messages)
            self._decided.update({problem.place(step): moved for step, moved in problem.thresholds().items()})
            self._outcomes.update({name: call.outcome for name, call in problem.answers().items() if call.outcome})
            self._spent[problem.start.id] = self.earlier.mono - problem.start.mono

    def _stamped(self, entry: Entry) -> Event:
        return Event(
            v=SCHEMA,
            run=self.earlier.run,
            seq=self._seq,
            mono=round(self.seconds, 6),
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
