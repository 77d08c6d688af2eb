"""Lines appended to a file by a thread, in the order in which they were handed over."""

import math
import os
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec

from arbiter.actors.supervision import services
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Event

ROOM = 4096
"""Events that may wait for the disk; who has more to write waits for room."""

GATHER = 0.005
"""Seconds in which the thread gathers events."""

Show = Callable[[Event], None]


class LogWriter:
    """Takes events on the event loop and never blocks it; made by ``open_writer``.

    The thread gathers events for ``GATHER`` seconds and writes them together, since waking it for each would cost more
    than all else. So a killed process loses what was handed over in that last moment. ``fsync`` follows every ``sync``
    seconds: what a power cut can take.
    """

    def __init__(self, path: Path, sync: float, show: Show | None, room: int) -> None:
        self._path = path
        self._sync = sync
        self._show = show
        self._room = room
        self._file = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder()
        self._pending: deque[Event] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.failure: RunError | None = None
        self._emptier: anyio.Event | None = None

    async def room(self) -> None:
        """Wait until fewer than ``room`` events wait. Never returns once a write has failed: the run is stopping."""
        while self._is_full:
            self._emptier = self._emptier or anyio.Event()
            if self._is_full:  # else the thread has made room before it could see that somebody waits
                await self._emptier.wait()

    @property
    def _is_full(self) -> bool:
        return len(self._pending) >= self._room or self.failure is not None

    def put(self, event: Event) -> None:
        """Hand over an event."""
        self._pending.append(event)
        if len(self._pending) == 1:  # else the thread knows already that there is something
            with self._wake:
                self._wake.notify()

    def close(self) -> None:
        """Have the thread write what is left, and end."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    async def run(self) -> None:
        """Serve until closed. Raises ``RunError`` as soon as the disk refuses."""
        try:
            with anyio.CancelScope(shield=True):  # what was handed over is written, even before the thread is there
                await anyio.to_thread.run_sync(self._work, limiter=anyio.CapacityLimiter(1))
        except OSError as error:
            told = f"cannot write the log {self._path}: {error.strerror}; the run was stopped, and can be resumed"
            self.failure = RunError(told)
            raise self.failure from error
        except UnicodeEncodeError as error:
            self.failure = RunError(f"cannot write the log {self._path}: a text in it is not valid Unicode: {error}")
            raise self.failure from error

    def _work(self) -> None:
        """In the thread: write whatever is there, sync when it is time, sleep until there is more."""
        unsynced = math.inf  # since when something is written and not synced
        with self._file as file:
            while True:
                batch = self._next_batch(unsynced + self._sync)
                if batch:
                    self._write(batch)
                    unsynced = min(unsynced, time.monotonic())
                elif self._closing:
                    os.fsync(file.fileno())
                    return
                if time.monotonic() >= unsynced + self._sync:
                    os.fsync(file.fileno())
                    unsynced = math.inf

    def _next_batch(self, due: float) -> list[Event]:
        """All that waits, as soon as there is any; none when it is time to sync, or to end."""
        with self._wake:
            while not self._pending and not self._closing:
                left = due - time.monotonic()
                if left <= 0 or not self._wake.wait(None if left == math.inf else left):
                    return []
            if not self._closing:
                self._wake.wait(GATHER)
        batch = [self._pending.popleft() for _ in range(len(self._pending))]
        if self._emptier is not None:
            anyio.from_thread.run_sync(self._tell_of_room)
        return batch

    def _tell_of_room(self) -> None:
        if self._emptier is not None:
            self._emptier.set()
            self._emptier = None

    def _write(self, batch: list[Event]) -> None:
        lines = memoryview(self._encoder.encode_lines(batch))
        while lines:
            written = self._file.write(lines)
            lines = lines[written:]
        if self._show is not None:
            for event in batch:
                self._show(event)


@asynccontextmanager
async def open_writer(path: Path, sync: float, show: Show | None = None, room: int = ROOM) -> AsyncGenerator[LogWriter]:
    """A writer at work; when the block ends, all that was handed over is written and synced.

    Raises ``RunError`` if the file cannot be opened, and out of the block, which is cancelled, if a write fails.
    """
    try:
        writer = LogWriter(path, sync, show, room)
    except OSError as error:
        raise RunError(f"cannot write the log {path}: {error.strerror}") from error
    try:
        async with services() as tasks:
            try:
                tasks.start_soon(writer.run)  # not to be waited for: cancelled then, it would wait to be closed
                yield writer
            finally:
                writer.close()
    except BaseExceptionGroup:
        if writer.failure is None:
            raise
        raise writer.failure from writer.failure.__cause__
