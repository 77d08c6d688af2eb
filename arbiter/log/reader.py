"""Read a log from disk: plain or compressed, complete or cut short, finished or still being written."""

import bz2
import gzip
import lzma
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec

from arbiter.log import version1
from arbiter.log.checksums import MEMBER, Checksums
from arbiter.log.index import LogIndex, Span, index_of
from arbiter.log.lines import Line, expand
from arbiter.log.time_order import in_time_order
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import SCHEMA, Event

LOG = "events.jsonl"
_PACKED: dict[str, Callable[[Path], object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_UNPACK = {".gz": "gzip -cd", ".bz2": "bzip2 -cd", ".xz": "xz -cd"}
_DECODER = msgspec.json.Decoder(Line)


class _Version(msgspec.Struct):
    """The schema version of a line that cannot be read as an event."""

    v: int


class _Number(msgspec.Struct):
    """The number of a line whose checksum is wrong."""

    seq: int


class Position(NamedTuple):
    """Where a reader of a log is: its ``offset`` in bytes, and what it knows of the lines before.

    These are their number ``lines``, their ``run``, and the checksum of the last one.
    """

    offset: int = 0
    lines: int = 0
    run: str = ""
    crc: int | None = None


_VERSION = msgspec.json.Decoder(_Version)
_NUMBER = msgspec.json.Decoder(_Number)


def log_path(run: Path) -> Path:
    """Return the log in a run's folder, compressed or not, or ``run`` itself if it is a file.

    Raises ``RunError`` if neither exists.
    """
    if run.is_file():
        return run
    if not run.is_dir():
        raise RunError(f"there is no run {str(run)!r}: give a run's folder or its log; arbiter runs lists the runs")
    names = [LOG, *(LOG + ending for ending in _PACKED)]
    found = next((run / name for name in names if (run / name).is_file()), None)
    if found is None:
        raise RunError(f"{str(run)!r} holds no run: there is no {LOG} in it; give the folder of a run")
    return found


def has_log(folder: Path) -> bool:
    """Return whether there is a log in ``folder``, compressed or not, under its own name or a longer one."""
    return any(folder.glob(f"{LOG}*"))


class LogFile:
    """The events of a log, read as a stream. The checksum of each line is verified.

    After iteration, ``torn`` is the size in bytes of an incomplete last line, which is left out, and ``whole`` the size
    of the lines before it. Their number is ``lines``, and ``unchecked`` is how many of them have no checksum. ``crc``
    is the checksum of the last of them. ``ended`` says whether the last of them is the end of a session.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin()

    def __iter__(self) -> Iterator[Event]:
        """Yield the events in order.

        Raises ``RunError`` naming the line that is damaged or missing, or the schema version that cannot be read.
        """
        self._begin()
        with self._opened() as file:
            yield from self._events(file)

    def _begin(self) -> None:
        self.torn = self.whole = self.lines = self.unchecked = 0
        self.crc: int | None = None
        self.ended = False

    def events_of(self, *problems: str | None) -> Iterator[Event]:
        """Yield the events of some problems, of all their samples, in order. None is for those of no problem.

        An index finds them (``arbiter.log.index``). Raises as iteration does. Damage in lines of other problems goes
        unnoticed if it is younger than the index.
        """
        wanted = frozenset(problems)
        try:
            index = None if self.path.suffix in _PACKED else index_of(self.path)
            found = None if index is None else self._read(index, wanted)
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}") from error
        if found is None:  # a compressed log, or a damaged one: reading it all finds the line
            found = (event for event in self if event.problem in wanted)
        yield from found

    def _read(self, index: LogIndex, wanted: frozenset[str | None]) -> list[Event] | None:
        """Return the events of the wanted problems; None if their lines are not where ``index`` says."""
        spans = sorted(
            span for name in wanted for span in (index.others if name is None else index.spans.get(name, ()))
        )
        first = next(iter(self), None)
        try:
            found = [event for _, event in self.events_at(spans, "" if first is None else first.run)]
        except (RunError, ValueError):
            return None
        return found if all(event.problem in wanted for event in found) else None

    def events_at(self, spans: Iterable[Span], run: str) -> Iterator[tuple[int, Event]]:
        """Yield the events of the lines at ``spans`` of a plain log of ``run``, each with the offset of its line.

        Raises ``RunError`` or ``ValueError`` if a line is damaged, and ``OSError`` if the log cannot be read.
        """
        with self.path.open("rb") as file:
            for start, length in spans:
                before = min(start, MEMBER)
                file.seek(start - before)
                checksums = Checksums.after(file.read(before))
                for event in self._decoded(file.read(length), 0, run, checksums):
                    yield start, event

    def read_on(self, position: Position, most: int) -> tuple[list[Event], Position]:
        """Return the events of up to ``most`` complete lines after ``position``, and the position after them.

        There are none at the end of the log, and none while its last line is incomplete. Raises as iteration does.
        """
        found: list[Event] = []
        offset, number, run, checksums = position.offset, position.lines, position.run, Checksums(position.crc)
        with self._opened() as file:
            file.seek(offset)
            for line in islice(self._lines(file, number), most):
                if not line.endswith(b"\n"):
                    break
                events = self._checked(line, number, run, checksums)
                offset, number, run = offset + len(line), number + 1, events[-1].run
                found += events
        return found, Position(offset, number, run, checksums.crc)

    def timeline(self) -> Iterator[Event]:
        """Yield all events in the order of their times."""
        return in_time_order(self)

    def follow(self, pause: float = 0.2) -> Iterator[Event]:
        """Yield the events so far and wait for new ones, until the newest session ends regularly.

        ``pause`` is the time in seconds between two reads.
        """
        with self._opened() as file:
            number, ended, run, checksums = 0, False, "", Checksums()
            while True:
                position = file.tell()
                line = file.readline()
                if line.endswith(b"\n"):
                    for event in self._decoded(line, number, run, checksums):
                        yield event
                        run, ended = event.run, event.kind == "run_ended"
                    number += 1
                elif ended and not line:
                    return
                else:
                    file.seek(position)  # an incomplete line may still be removed, and another one written there
                    time.sleep(pause)

    def _events(self, file: BinaryIO) -> Iterator[Event]:
        run, checksums = "", Checksums()
        for number, line in enumerate(self._lines(file)):
            if not line.endswith(b"\n"):
                if checksums.lacks_its_line_feed(line):
                    raise self._damaged(number, f"it ends with {line[-1:]!r} in place of a line feed")
                self.torn = len(line)
                return
            found = self._checked(line, number, run, checksums)
            run = found[-1].run
            self.whole += len(line)
            self.lines, self.ended, self.crc = number + 1, found[-1].kind == "run_ended", checksums.crc
            self.unchecked += checksums.crc is None
            yield from found

    def _checked(self, line: bytes, number: int, run: str, checksums: Checksums) -> list[Event]:
        """Return the events of a line that follows ``number`` lines of ``run``. Raises ``RunError`` if it does not."""
        found = self._decoded(line, number, run, checksums)
        last = found[-1]
        if last.seq != number:
            raise self._damaged(number, _gap(number, last.seq))
        if run and last.run != run:
            raise self._damaged(number, f"it belongs to the run {last.run}, the lines before it to {run}")
        return found

    def _lines(self, file: BinaryIO, number: int = 0) -> Iterator[bytes]:
        try:
            for line in file:
                yield line
                number += 1
        except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise RunError(f"cannot read {self.path} after line {number}: {error}. {self._advice(number)}") from error

    def _opened(self) -> BinaryIO:
        try:
            packed = _PACKED.get(self.path.suffix)
            return self.path.open("rb") if packed is None else cast("BinaryIO", packed(self.path))
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}") from error

    def _decoded(self, line: bytes, number: int, run: str, checksums: Checksums) -> list[Event]:
        """Return the events of a line, one or more. ``run`` and ``checksums`` are those of the lines before it."""
        failure: Exception | None = None
        try:
            text = checksums.verified(line)
        except ValueError as error:
            seq = _seq_of(line)
            raise self._damaged(number, str(error) if seq in (None, number) else _gap(number, seq)) from error
        try:
            decoded = _DECODER.decode(text)
            if decoded.v == SCHEMA:
                return list(expand(decoded, run))
        except (ValueError, UnicodeDecodeError) as error:  # ``msgspec.DecodeError`` is a ``ValueError``
            failure = error
        try:
            return self._older(text, run)
        except (ValueError, UnicodeDecodeError) as error:
            raise self._damaged(number, str(failure or error)) from error

    def _older(self, line: bytes, run: str) -> list[Event]:
        """Return the events of a line of an earlier version. Raises ``RunError`` if its version cannot be read."""
        version = _VERSION.decode(line).v
        if version == 1:
            return [version1.read_event(line)]
        if version == SCHEMA:
            return list(expand(_DECODER.decode(version1.with_violations(line)), run))
        raise RunError(
            f"{self.path} is a log of schema version {version}, but this Arbiter reads only versions 1 and {SCHEMA}: "
            "use the version of Arbiter that wrote it (see versions.json in the run's folder)"
        )

    def _damaged(self, number: int, why: str) -> RunError:
        return RunError(f"{self.path}, line {number + 1}: the log is damaged here: {why}. {self._advice(number)}")

    def _advice(self, good: int) -> str:
        """Return what to do with a log of which the first ``good`` lines can be read."""
        if not good:
            return "Restore it from a copy"
        unpack = _UNPACK.get(self.path.suffix)
        lines = (
            f"head -n {good}"
            if unpack is None
            else f"{unpack} {self.path} | head -n {good} > {self.path.with_suffix('')}"
        )
        return (
            f"Restore it from a copy. Without a copy, keep what comes before it ({lines}) and resume the run, which "
            "solves again what is missing"
        )


def _seq_of(line: bytes) -> int | None:
    """Return the number that a damaged line has; None if it cannot be read."""
    with suppress(ValueError):
        return _NUMBER.decode(line).seq
    return None


def _gap(number: int, seq: int | None) -> str:
    return f"the line with seq {number} is missing, or this one is damaged: it has seq {seq}"
