"""Append lines to the log in a thread, in the order in which they were put."""

import math
import os
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec

from arbiter.actors.supervision import services
from arbiter.log.checksums import Checksums
from arbiter.log.lines import Happened, compact, expand
from arbiter.protocols.errors import RunError, os_reason
from arbiter.protocols.events import Event

ROOM = 4096
"""The number of lines that may wait for the disk. With as many waiting, ``LogWriter.room`` waits."""

GATHER = 0.005
"""The time in seconds for which the thread gathers lines before it writes them."""

PLACE = 0.25
"""The least time in seconds between two checks that the log is still in its place."""

Show = Callable[[Event], None]


class LineWriter(Protocol):
    """Where the lines of a log go: see ``LogWriter``. ``confirms``: an answer is used only after ``written``."""

    @property
    def confirms(self) -> bool: ...
    @property
    def is_full(self) -> bool: ...
    def put(self, happened: Happened) -> None: ...
    async def room(self) -> None: ...
    async def written(self) -> None: ...


class RunningWriter(Protocol):
    """A writer that works in a task of its own. ``failure`` is the error that ended it."""

    failure: RunError | None

    async def run(self) -> None: ...
    def close(self) -> None: ...


class LogWriter:
    """Take lines on the event loop without blocking it, and write them in a thread. ``open_writer`` makes it.

    The thread gathers lines for ``GATHER`` seconds and writes them together: waking it for each line would cost more
    than everything else. A killed process loses the lines of that time. ``fsync`` is called every ``sync`` seconds; a
    power failure can lose the lines of that time.
    """

    confirms = False

    def __init__(self, path: Path, sync: float, show: Show | None, room: int, crc: int | None) -> None:
        self._path = path
        self._checksums = Checksums(crc)
        self._sync = sync
        self._show = show
        self._room = room
        self._file = path.open("ab", buffering=0)
        self._checked = -math.inf
        self._encoder = msgspec.json.Encoder()
        self._pending: deque[Happened] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.failure: RunError | None = None
        self._room_made: anyio.Event | None = None
        self._lines_put = self._lines_written = 0
        self._progress: anyio.Event | None = None

    async def room(self) -> None:
        """Wait until fewer than ``room`` lines wait. Never returns after a failed write: the run is being stopped."""
        while self.is_full:
            self._room_made = self._room_made or anyio.Event()
            if self.is_full:  # else the thread made room before it could see the event
                await self._room_made.wait()

    async def written(self) -> None:
        """Wait until all lines that were put so far are in the file. Never returns after a failed write."""
        goal = self._lines_put
        while self._lines_written < goal:
            self._progress = self._progress or anyio.Event()
            if self._lines_written < goal:  # else the thread wrote them before it could see the event
                await self._progress.wait()

    @property
    def is_full(self) -> bool:
        """Whether ``room`` would wait."""
        return len(self._pending) >= self._room or self.failure is not None

    def put(self, happened: Happened) -> None:
        """Queue a line for writing. The thread makes it, since making many together takes half the time."""
        self._pending.append(happened)
        self._lines_put += 1
        if len(self._pending) == 1:  # else the thread has been notified already
            with self._wake:
                self._wake.notify()

    def close(self) -> None:
        """Let the thread write the remaining lines and end."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    async def run(self) -> None:
        """Write until closed. Raises ``RunError`` as soon as a write fails."""
        try:
            with anyio.CancelScope(shield=True):  # queued lines are written even if cancelled before the thread starts
                await anyio.to_thread.run_sync(self._work, limiter=anyio.CapacityLimiter(1))
        except OSError as error:
            message = f"cannot write the log {self._path}: {os_reason(error)}; the run was stopped, and can be resumed"
            self.failure = RunError(message)
            raise self.failure from error
        except RunError as error:  # its file is in another place
            self.failure = error
            raise
        except UnicodeEncodeError as error:
            self.failure = RunError(f"cannot write the log {self._path}: a text in it is not valid Unicode: {error}")
            raise self.failure from error

    def _work(self) -> None:
        """Run in the thread: write the pending lines, sync when due, and wait for more."""
        unsynced = math.inf  # the time of the first write since the last sync
        with self._file as file:
            while True:
                batch = self._next_batch(unsynced + self._sync)
                if batch:
                    self._write(batch)
                    self._report_written(len(batch))
                    self._check_place(file.fileno())
                    unsynced = min(unsynced, time.monotonic())
                elif self._closing:
                    os.fsync(file.fileno())
                    return
                if time.monotonic() >= unsynced + self._sync:
                    os.fsync(file.fileno())
                    unsynced = math.inf

    def _next_batch(self, due: float) -> list[Happened]:
        """Wait for pending lines and return them all; return none when it is time to sync or to end."""
        with self._wake:
            while not self._pending and not self._closing:
                left = due - time.monotonic()
                if left <= 0 or not self._wake.wait(None if left == math.inf else left):
                    return []
            if not self._closing:
                self._wake.wait(GATHER)
        batch = [self._pending.popleft() for _ in range(len(self._pending))]
        if self._room_made is not None:
            anyio.from_thread.run_sync(self._signal_room)
        return batch

    def _report_written(self, lines: int) -> None:
        self._lines_written += lines
        if self._progress is not None:
            anyio.from_thread.run_sync(self._signal_progress)

    def _signal_progress(self) -> None:
        if self._progress is not None:
            self._progress.set()
            self._progress = None

    def _signal_room(self) -> None:
        if self._room_made is not None:
            self._room_made.set()
            self._room_made = None

    def _check_place(self, number: int) -> None:
        """Raise ``RunError`` if the path does not name the open file ``number``."""
        now = time.monotonic()
        if now < self._checked + PLACE:
            return
        self._checked, written = now, os.fstat(number)
        try:
            named = self._path.stat()
        except FileNotFoundError:
            named = None
        if named is None or not os.path.samestat(named, written):
            raise RunError(
                f"the log {self._path} was deleted or moved while it was written; the run was stopped. If its folder "
                "was moved, the run can be resumed there"
            )

    def _write(self, batch: list[Happened]) -> None:
        lines = list(map(compact, batch))
        unwritten = memoryview(self._checksums.added(self._encoder.encode_lines(lines)))
        while unwritten:
            written = self._file.write(unwritten)
            unwritten = unwritten[written:]
        if self._show is not None:
            for line in lines:
                for event in expand(line):
                    self._show(event)


@asynccontextmanager
async def open_writer(
    path: Path, sync: float, show: Show | None = None, room: int = ROOM, crc: int | None = None
) -> AsyncGenerator[LogWriter]:
    """Open a running writer. When the block ends, all queued lines are written and synced.

    ``crc`` is the checksum of the lines that the log has already (``Checksums.crc``).

    Raises ``RunError`` if the file cannot be opened. A failed write cancels the block and raises ``RunError`` from it.
    """
    try:
        writer = LogWriter(path, sync, show, room, crc)
    except OSError as error:
        raise RunError(f"cannot write the log {path}: {os_reason(error)}") from error
    async with running(writer):
        yield writer


@asynccontextmanager
async def running(writer: RunningWriter) -> AsyncGenerator[None]:
    """Let ``writer`` write during the block, and close it at the end. Its failure cancels the block, and is raised."""
    try:
        async with services() as tasks:
            try:
                tasks.start_soon(writer.run)  # not awaited: if cancelled while waiting, it would wait to be closed
                yield
            finally:
                writer.close()
    except BaseExceptionGroup:
        if writer.failure is None:
            raise
        raise writer.failure from writer.failure.__cause__
