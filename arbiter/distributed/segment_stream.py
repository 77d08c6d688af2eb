"""Send a worker's segment of the log to the process that writes it: the worker does not see the run folder.

An answer is used only after its line is written there.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import msgspec

from arbiter.distributed.segment_keeper import Appended
from arbiter.distributed.segment_store import Lost
from arbiter.log.history import Key
from arbiter.log.lines import Happened, Line, compact
from arbiter.log.segmented_log import Chain
from arbiter.log.writer import ROOM, LineWriter, running
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import ProblemClaimed

GATHER = 0.005
"""The time in seconds for which lines are gathered before they are sent. While a batch is on its way, more gather."""

MOST = 2000
"""The most lines of a batch."""


class KeeperPort(Protocol):
    """The process that writes segments, as a worker sees it: see ``SegmentKeeper``. A call may arrive several times."""

    async def create_segment(self, worker: str) -> str: ...
    async def append(self, worker: str, name: str, start: int, batch: bytes) -> Appended: ...
    async def end_segment(self, worker: str) -> None: ...
    async def chains(self, names: Iterable[str]) -> dict[Key, Chain]: ...


class StreamedSegments:
    """A ``SegmentStore`` behind ``keeper``."""

    def __init__(self, keeper: KeeperPort) -> None:
        self._keeper = keeper

    @asynccontextmanager
    async def open_writer(self, worker: str, lost: Lost) -> AsyncGenerator[LineWriter]:
        writer = StreamWriter(self._keeper, worker, await self._keeper.create_segment(worker), lost)
        async with running(writer):
            yield writer

    async def chains(self, names: Iterable[str]) -> dict[Key, Chain]:
        return await self._keeper.chains(names)


class StreamWriter:
    """A ``LineWriter`` that sends its lines in batches, one at a time. ``failure`` is the error that ended it."""

    confirms = True

    def __init__(self, keeper: KeeperPort, worker: str, segment: str, lost: Lost, room: int = ROOM) -> None:
        self._keeper, self._worker, self._segment, self._lost = keeper, worker, segment, lost
        self._room = room
        self._pending: list[Line] = []
        self._encoder = msgspec.json.Encoder()
        self._lines = 0  # of the segment
        self._put = self._settled = 0  # lines that were put, and those of them that are written or refused
        self._changed = anyio.Event()
        self._closing = False
        self.failure: RunError | None = None

    @property
    def is_full(self) -> bool:
        return len(self._pending) >= self._room or self.failure is not None

    def put(self, happened: Happened) -> None:
        self._pending.append(compact(happened))
        self._put += 1
        if len(self._pending) == 1:
            self._notify()

    async def room(self) -> None:
        while self.is_full:
            await self._changed.wait()

    async def written(self) -> None:
        goal = self._put
        while self._settled < goal:
            await self._changed.wait()

    def close(self) -> None:
        """Let ``run`` send the remaining lines and end."""
        self._closing = True
        self._notify()

    async def run(self) -> None:
        """Send lines until closed. Raises ``RunError`` if they cannot be written."""
        with anyio.CancelScope(shield=True):  # what is queued is sent, also by a worker that is cancelled
            try:
                while self._pending or not self._closing:
                    while not self._pending and not self._closing:
                        await self._changed.wait()
                    if not self._closing:
                        await anyio.sleep(GATHER)
                    batch, self._pending = self._pending[:MOST], self._pending[MOST:]
                    await self._send(batch)
                await self._keeper.end_segment(self._worker)
            except RunError as error:
                self.failure = error
                raise

    async def _send(self, batch: list[Line]) -> None:
        while batch:
            numbered = [
                line if line.seq == number else msgspec.structs.replace(line, seq=number)  # after a line was refused
                for number, line in enumerate(batch, self._lines)
            ]
            lines = self._encoder.encode_lines(numbered)
            answer = await self._keeper.append(self._worker, self._segment, self._lines, lines)
            written, self._lines = answer.lines - self._lines, answer.lines
            lost = frozenset(answer.lost)
            left = [line for line in batch[written:] if _key_of(line) not in lost]
            self._settled += len(batch) - len(left)
            batch = left
            if lost:
                self._lost(lost)
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _key_of(line: Line) -> Key | None:
    if line.problem is not None:
        return line.problem, line.sample
    return (line.payload.claimed, line.payload.number) if isinstance(line.payload, ProblemClaimed) else None
