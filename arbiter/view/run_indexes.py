"""The indexes of all runs that were looked at: made in a thread, extended while a run is written, and kept for later.

An index is built in a temporary folder, so two viewers never write the same file. When it is whole and no process
writes its run, a copy is stored next to the log (``.events.jsonl.rows``). The next viewer copies it back if it still
fits the log. Without permission to write there, the next viewer builds it again. It may be removed at any time.
"""

import contextlib
import hashlib
import os
import tempfile
import threading
import zlib
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from arbiter.log.lock import is_locked
from arbiter.log.reader import LOG
from arbiter.log.segments import segments_of
from arbiter.protocols.errors import RunError, os_reason
from arbiter.view.index_building import IndexBuilder
from arbiter.view.row_index import IndexState, RowIndex

KEPT = 8
"""The number of runs whose index is kept open. Each is a file in a temporary folder."""

PATIENCE = 0.5
"""The time in seconds for which a request waits for an index that is being built."""

_FORMAT = 1
_CRC = 4  # bytes of the checksum before a stored index
_TAIL = 4096  # bytes of the log before the end of what is indexed: if they changed, the log is another one


class Stamp(NamedTuple):
    """What distinguishes one state of a log from another."""

    size: int
    changed: int
    inode: int


class RunIndex:
    """The index of one log.

    ``builder`` reads the log into it; None if the index was stored earlier. ``seen`` is the state of the log up to
    which it is whole, None until then. ``is_new`` says that no request has waited for ``building`` yet.
    """

    def __init__(self, log: Path, rows: RowIndex) -> None:
        self.log = log
        self.rows = rows
        self.builder: IndexBuilder | None = None
        self.building: Future[None] | None = None
        self.is_new = True
        self.seen: Stamp | None = None

    def state(self) -> IndexState:
        """Return how far the index is."""
        builder, size = self.builder, _stamp(self.log).size
        complete = self.building is None or self.building.done()
        share = 1.0 if complete or builder is None else builder.share(size)
        return IndexState(complete, self.rows.count(), round(share, 4), None if builder is None else builder.error)


class RunIndexes:
    """Opens indexes by the path of their log. Its methods may be called from any thread. Close it at the end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="arbiter-view-")
        self._threads = ThreadPoolExecutor(1, "index")
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: OrderedDict[Path, RunIndex] = OrderedDict()
        self._made = 0

    def close(self) -> None:
        """End the thread that builds, and remove the temporary folder."""
        self._closing.set()
        self._threads.shutdown(cancel_futures=True)
        for one in self._open.values():
            one.rows.close()
        self._open.clear()
        self._folder.cleanup()

    def index(self, log: Path, patience: float = PATIENCE) -> RunIndex:
        """Return the index of a log, as far as it is. The first request waits for it, at most ``patience`` seconds.

        Raises ``RunError`` if the log is gone.
        """
        with self._lock:
            found = self._current(log)
            building, is_new = found.building, found.is_new
            found.is_new = is_new and not patience
        if building is not None and is_new:
            wait([building], patience)
        return found

    def _current(self, log: Path) -> RunIndex:
        """Return the index of a log, which is being built if it is not whole."""
        stamp, found = _stamp(log), self._open.get(log)
        if found is not None and found.building is not None and found.building.done():
            building, found.building = found.building, None
            if building.exception() is not None:
                del self._open[log]
            building.result()
        if found is None or (found.building is None and found.seen != stamp and not _can_continue(found, stamp)):
            found = self._opened(log, stamp)
        self._open[log] = found
        self._open.move_to_end(log)
        if found.building is None and found.seen != stamp:
            found.building, found.is_new = self._threads.submit(self._build, found), True
        self._forget()
        return found

    def _opened(self, log: Path, stamp: Stamp) -> RunIndex:
        self._made += 1
        path = Path(self._folder.name) / f"{self._made}.sqlite"
        if _restore(log, path):
            rows = RowIndex(path)
            if rows.about("stored") == _fingerprint(log, stamp.size):
                found = RunIndex(log, rows)
                found.seen = stamp
                return found
            rows.close()
            path.unlink()
        found = RunIndex(log, RowIndex(path))
        found.builder = IndexBuilder(log, found.rows)
        return found

    def _forget(self) -> None:
        for log in [*self._open][: max(0, len(self._open) - KEPT)]:
            building = self._open[log].building
            if building is None or building.done():
                self._open.pop(log).rows.path.unlink(missing_ok=True)  # a request may still read the open file

    def _build(self, index: RunIndex) -> None:
        builder = index.builder
        if builder is None:
            return
        seen = _stamp(index.log)
        while builder.advance() and not self._closing.is_set():
            seen = _stamp(index.log)
        if self._closing.is_set():
            return
        index.seen = seen
        if builder.error is None and not is_locked(index.log.with_name(f".{LOG}.lock")):
            index.rows.write({}, {"stored": _fingerprint(index.log, seen.size)})
            _store(index.log, index.rows.path)


def _stamp(log: Path) -> Stamp:
    try:
        found = log.stat()
    except OSError as error:
        raise RunError(f"cannot read {log}: {os_reason(error)}; arbiter runs lists the runs") from error
    segments = [segment.path.stat() for segment in segments_of(log)]
    size = found.st_size + sum(one.st_size for one in segments)
    return Stamp(size, max(one.st_mtime_ns for one in (found, *segments)), found.st_ino)


def _can_continue(index: RunIndex, stamp: Stamp) -> bool:
    """Return whether the log has only grown since it was indexed."""
    builder, seen = index.builder, index.seen
    if builder is None or builder.error is not None or index.log.suffix != ".jsonl":
        return False
    if (builder.changes is None) == bool(segments_of(index.log)):  # a run in one process goes on with workers
        return False
    return seen is None or (seen.inode == stamp.inode and stamp.size >= builder.position.offset)


def _fingerprint(log: Path, size: int) -> list[int | str]:
    """Return what distinguishes this log from others, also after it was copied: its size and a digest of its end.

    ``size`` is that of all its files. A log of several workers has a digest of the end of each.
    """
    digest, segments = hashlib.blake2b(digest_size=8), segments_of(log)
    ends = {log: size - sum(segment.path.stat().st_size for segment in segments)} if segments else {log: size}
    ends.update({segment.path: segment.path.stat().st_size for segment in segments})
    try:
        for path, end in ends.items():
            with path.open("rb") as file:
                file.seek(max(0, end - _TAIL))
                digest.update(file.read(min(end, _TAIL)))
    except OSError as error:
        raise RunError(f"cannot read {log}: {os_reason(error)}") from error
    return [_FORMAT, size, digest.hexdigest()]


def stored_path(log: Path) -> Path:
    """Return the path of the index that is stored next to a log."""
    return log.with_name(f".{log.name}.rows")


def _restore(log: Path, path: Path) -> bool:
    """Copy the stored index to ``path``. Return whether there is one that is not damaged."""
    with contextlib.suppress(OSError):
        stored = stored_path(log).read_bytes()
        if stored[:_CRC] == _crc_of(stored[_CRC:]):
            path.write_bytes(stored[_CRC:])
            return True
    return False


def _store(log: Path, path: Path) -> None:
    """Store the index next to the log. Without permission to do so, the next viewer builds it again."""
    target = stored_path(log)
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        number, name = tempfile.mkstemp(prefix=f"{target.name}.", dir=log.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(_crc_of(content) + content)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)


def _crc_of(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CRC, "big")
