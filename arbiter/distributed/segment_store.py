"""Where a worker writes its segment of the log, and where it reads what others wrote: a folder, or another process."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from arbiter.log.history import Key
from arbiter.log.segmented_log import Chain, SegmentedLog
from arbiter.log.segments import create_segment
from arbiter.log.writer import LineWriter, open_writer

Lost = Callable[[frozenset[Key]], None]
"""Receives the problems of a worker that are another's now: their lines were refused."""


class SegmentStore(Protocol):
    """The segments of a run, as one worker uses them."""

    def open_writer(self, worker: str, lost: Lost) -> AbstractAsyncContextManager[LineWriter]:
        """Open a new segment of ``worker``. When the block ends, all lines are written. Raises ``RunError``."""
        ...

    async def chains(self, names: Iterable[str]) -> dict[Key, Chain]:
        """Return what counts of the problems ``names``, as ``SegmentedLog.chains``."""
        ...


class SharedFolder:
    """Segments in the run folder, which the worker sees. ``sync`` is as in ``open_writer``.

    Lines of a problem that is another worker's are written, but no reader counts them.
    """

    def __init__(self, log: Path, session: int, sync: float) -> None:
        self._log, self._session, self._sync = log, session, sync

    @asynccontextmanager
    async def open_writer(self, worker: str, lost: Lost) -> AsyncGenerator[LineWriter]:
        segment = create_segment(self._log, self._session, worker)
        async with open_writer(segment.path, self._sync) as writer:
            yield writer

    async def chains(self, names: Iterable[str]) -> dict[Key, Chain]:
        return await anyio.to_thread.run_sync(SegmentedLog(self._log).chains, names)
