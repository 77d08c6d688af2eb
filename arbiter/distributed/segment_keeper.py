"""Write the segments of workers that do not see the run folder. The process of the ledger does it, next to the driver.

A worker sends its lines in batches. They are written before the worker gets an answer.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from arbiter.log.checksums import MEMBER, Checksums
from arbiter.log.history import Key
from arbiter.log.segments import Segment, create_segment, index_of_segment, segments_of
from arbiter.protocols.errors import RunError, os_reason
from arbiter.protocols.records import Record


class Appended(Record, frozen=True):
    """How many ``lines`` a segment has now, and which problems of the batch are ``lost``: another worker has them.

    If any is, nothing of the batch was added. The worker sends the batch again without them.
    """

    lines: int
    lost: tuple[Key, ...] = ()


class _Claim(msgspec.Struct):
    claimed: str | None = None
    number: object = 0  # other payloads have other numbers


class _Owned(msgspec.Struct):
    """What a line says about whose problem it is. Other fields are skipped."""

    payload: _Claim
    problem: str | None = None
    sample: int = 0

    @property
    def key(self) -> Key | None:
        if self.problem is not None:
            return self.problem, self.sample
        number = self.payload.number
        return None if self.payload.claimed is None or not isinstance(number, int) else (self.payload.claimed, number)


_LINES = msgspec.json.Decoder(_Owned)


class _OpenSegment:
    """A segment that is being written. One that an earlier process began is continued after its last whole line."""

    def __init__(self, segment: Segment) -> None:
        index = index_of_segment(segment.path)
        self.segment = segment
        self.lines = len(index.others) + sum(map(len, index.spans.values()))
        with segment.path.open("r+b", buffering=0) as file:
            file.truncate(index.size)
            file.seek(max(0, index.size - MEMBER))
            self._checksums = Checksums.after(file.read(MEMBER))
        self.unsynced: float | None = None

    def append(self, lines: list[bytes], now: float) -> None:
        rest = memoryview(self._checksums.added(b"".join(lines)))
        with self.segment.path.open("r+b", buffering=0) as file:  # a file that was moved is not made again
            file.seek(0, os.SEEK_END)
            while rest:
                rest = rest[file.write(rest) :]
        self.lines += len(lines)
        self.unsynced = now if self.unsynced is None else self.unsynced

    def sync(self) -> None:
        with self.segment.path.open("r+b", buffering=0) as file:
            os.fsync(file.fileno())
        self.unsynced = None


class SegmentKeeper:
    """Writes segments of one session of the run whose log is ``log``. Only the newest one of a worker is open.

    ``has`` says whether a worker has a problem, or finished it. ``sync`` is the time in seconds between two calls of
    ``fsync`` for a file. All methods raise ``RunError`` if the file cannot be written.
    """

    def __init__(self, log: Path, session: int, sync: float, has: Callable[[str, Key], bool]) -> None:
        self._log, self._session, self._sync, self._has = log, session, sync, has
        self._open: dict[str, _OpenSegment] = {}

    def create(self, worker: str) -> str:
        """Begin a segment of ``worker``, and return its name. An older one accepts no more lines."""
        self._open.pop(worker, None)
        return create_segment(self._log, self._session, worker).name

    def append(self, worker: str, name: str, start: int, batch: bytes) -> Appended:
        """Add the lines of ``batch``, without checksums, to the segment ``name``. The first of them is line ``start``.

        A batch that arrives again is not added again. Raises ``RunError`` if the worker has a newer segment.
        """
        lines = batch.splitlines(keepends=True)
        try:
            segment = self._segment(worker, name)
            there = segment.lines - start
            if not 0 <= there < len(lines):
                return self._known(segment, there)
            keys = {owned.key for owned in _LINES.decode_lines(batch)}
            lost = tuple(sorted(key for key in keys if key is not None and not self._has(worker, key)))
            if not lost:
                segment.append(lines[there:], time.monotonic())
            return Appended(segment.lines, lost)
        except OSError as error:
            self._open.pop(worker, None)
            raise RunError(
                f"cannot write the log of the worker {worker} into {self._log.parent}: {os_reason(error)}; the run was "
                "stopped, and can be resumed"
            ) from error

    def sync(self) -> None:
        """Call ``fsync`` for each file whose lines have waited for it long enough."""
        self._sync_all(self._open.values(), time.monotonic() - self._sync)

    def end(self, worker: str) -> None:
        """Close the segment of ``worker``: nothing more will come."""
        segment = self._open.pop(worker, None)
        self._sync_all([] if segment is None else [segment], math.inf)

    def _segment(self, worker: str, name: str) -> _OpenSegment:
        found = self._open.get(worker)
        if found is None:
            own = [one for one in segments_of(self._log) if (one.session, one.worker) == (self._session, worker)]
            if own:
                found = self._open[worker] = _OpenSegment(own[-1])
        if found is None or found.segment.name != name:
            raise RunError(f"the segment {name} is no longer the newest one of the worker {worker}: it was replaced")
        return found

    def _known(self, segment: _OpenSegment, there: int) -> Appended:
        if there < 0:
            raise RunError(f"{segment.segment.path} has lost its last {-there} lines: was it changed during the run?")
        return Appended(segment.lines)

    def _sync_all(self, segments: Iterable[_OpenSegment], before: float) -> None:
        """Call ``fsync`` for those that have lines from ``before`` or earlier."""
        try:
            for segment in segments:
                if segment.unsynced is not None and segment.unsynced <= before:
                    segment.sync()
        except OSError as error:
            raise RunError(f"cannot write the log {self._log}: {os_reason(error)}") from error
