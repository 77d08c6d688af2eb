"""Find the lines of one problem without reading the whole log.

The index of a log says where the lines of each problem are. It is a file next to the log, which is made when a problem
is looked up, and extended when the log has grown. It may be removed at any time.
"""

import contextlib
import hashlib
import os
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO

import msgspec

from arbiter.log.checksums import MEMBER, Checksums
from arbiter.protocols.records import Record

LEAST = 1 << 20
"""Bytes of a log from which on its index is written to a file. A smaller log is indexed each time, in milliseconds."""

_FORMAT = 3
_CRC = 4  # bytes of the checksum before the index
_TAIL = 4096  # bytes before the end of what is indexed: if they changed, the log is another one

Span = tuple[int, int]
"""Where a line begins in the log, and its length, both in bytes."""


class LogIndex(Record, frozen=True):
    """Where the lines of each problem are, in a log of which ``size`` bytes are indexed.

    ``changed`` is the time of the log's last change in nanoseconds, and ``tail`` a digest of its last bytes. ``spans``
    has the lines of each problem, of all samples, in their order. ``others`` has the lines that belong to no problem.
    """

    format: int
    size: int
    changed: int
    tail: str
    spans: dict[str, list[Span]]
    others: list[Span]


class _Place(msgspec.Struct):
    """What the index needs of a line. Other fields are skipped."""

    problem: str | None = None


_PLACE = msgspec.json.Decoder(_Place)


def index_path(log: Path) -> Path:
    """Return the path of the index of a log."""
    return log.with_name(f".{log.name}.index")


def index_of(log: Path) -> LogIndex | None:
    """Return the index of an uncompressed log up to its last complete line. It is made or extended if it is stale.

    None if a line is damaged: reading the whole log then finds out which. Raises ``OSError`` if the log cannot be
    read.
    """
    with log.open("rb") as file:
        found = os.fstat(file.fileno())
        known = _stored(log)
        if known is not None and (known.size, known.changed) == (found.st_size, found.st_mtime_ns):
            return known
        if known is None or known.size > found.st_size or known.tail != _tail_digest(file, known.size):
            known = LogIndex(_FORMAT, 0, 0, "", {}, [])
        try:
            size = _extend(file, known)
        except ValueError:  # ``msgspec.DecodeError`` is a ``ValueError``, as is ``UnicodeDecodeError``
            return None
        index = LogIndex(_FORMAT, size, found.st_mtime_ns, _tail_digest(file, size), known.spans, known.others)
    if size >= LEAST:
        _store(log, index)
    return index


def _extend(file: BinaryIO, index: LogIndex) -> int:
    """Add the lines after those of ``index`` to it. Return where the last complete line ends.

    Raises ``ValueError`` if a line is damaged.
    """
    start, spans = index.size, index.spans
    before = min(start, MEMBER)
    file.seek(start - before)
    checksums = Checksums.after(file.read(before))
    for line in file:
        if not line.endswith(b"\n"):
            if checksums.lacks_its_line_feed(line):
                raise ValueError("the last line has no line feed")
            break
        checksums.verified(line)
        problem = _PLACE.decode(line).problem
        lines = index.others if problem is None else spans.setdefault(problem, [])
        lines.append((start, len(line)))
        start += len(line)
    return start


def _tail_digest(file: BinaryIO, size: int) -> str:
    file.seek(max(0, size - _TAIL))
    return hashlib.blake2b(file.read(min(size, _TAIL)), digest_size=8).hexdigest()


def _crc_of(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CRC, "big")


def _stored(log: Path) -> LogIndex | None:
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        stored = index_path(log).read_bytes()
        if stored[:_CRC] == _crc_of(stored[_CRC:]):
            index = msgspec.msgpack.decode(stored[_CRC:], type=LogIndex)
            return index if index.format == _FORMAT else None
    return None


def _store(log: Path, index: LogIndex) -> None:
    """Write the index next to the log. Without permission to do so, the next look-up makes it again."""
    path = index_path(log)
    with contextlib.suppress(OSError):
        number, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=log.parent)
        try:
            with os.fdopen(number, "wb") as file:
                content = msgspec.msgpack.encode(index)
                file.write(_crc_of(content) + content)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
