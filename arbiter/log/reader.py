"""A log as it lies on the disk: plain or compressed, whole or torn, at rest or still growing."""

import bz2
import gzip
import lzma
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from arbiter.log import version1
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import SCHEMA, Event

LOG = "events.jsonl"
_PACKED: dict[str, Callable[[Path], object]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_DECODER = msgspec.json.Decoder(Event)


class _Version(msgspec.Struct):
    """All that is read of a line which cannot be read as an event."""

    v: int


_VERSION = msgspec.json.Decoder(_Version)


def log_path(run: Path) -> Path:
    """The log of a run's folder, compressed or not, or ``run`` itself if it is a file. Raises ``RunError``."""
    if run.is_file():
        return run
    if not run.is_dir():
        raise RunError(f"there is no run {str(run)!r}; arbiter bench tells at its end where a run is")
    names = [LOG, *(LOG + ending for ending in _PACKED)]
    found = next((run / name for name in names if (run / name).is_file()), None)
    if found is None:
        raise RunError(f"{str(run)!r} holds no run: there is no {LOG} in it")
    return found


class LogFile:
    """The events of a log, read as a stream.

    ``torn`` is how many bytes of a last line were only half written; they are left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self.whole = 0

    def __iter__(self) -> Iterator[Event]:
        """Raises ``RunError`` naming the line that is damaged or missing, or the version that cannot be read."""
        self.torn = self.whole = 0
        with self._opened() as file:
            yield from self._events(file)

    def follow(self, pause: float = 0.2) -> Iterator[Event]:
        """The events so far and all that are still to come, until the newest session ends in good order."""
        with self._opened() as file:
            number, ended = 0, False
            while True:
                place = file.tell()
                line = file.readline()
                if line.endswith(b"\n"):
                    event = self._decoded(line, number)
                    yield event
                    number, ended = number + 1, event.kind == "run_ended"
                elif ended and not line:
                    return
                else:
                    file.seek(place)  # half a line may still be cut off, and another one written in its place
                    time.sleep(pause)

    def _events(self, file: BinaryIO) -> Iterator[Event]:
        run = None
        for number, line in enumerate(self._lines(file)):
            if not line.endswith(b"\n"):
                self.torn = len(line)
                return
            event = self._decoded(line, number)
            if event.seq != number:
                raise self._damaged(number, f"event {number} is missing, and {event.seq} stands in its place")
            if event.run != (run := run or event.run):
                raise self._damaged(number, f"it belongs to the run {event.run}, and the lines before to {run}")
            self.whole += len(line)
            yield event

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        try:
            yield from file
        except (EOFError, OSError, lzma.LZMAError) as error:
            raise RunError(f"cannot read {self.path}: {error}") from error

    def _opened(self) -> BinaryIO:
        try:
            packed = _PACKED.get(self.path.suffix)
            return self.path.open("rb") if packed is None else cast("BinaryIO", packed(self.path))
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {error.strerror}") from error

    def _decoded(self, line: bytes, number: int) -> Event:
        try:
            event = _DECODER.decode(line)
            if event.v == SCHEMA:
                return event
            failure: Exception | None = None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            failure = error
        try:
            return self._older(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._damaged(number, str(failure or error)) from error

    def _older(self, line: bytes) -> Event:
        """The event of a line that is not of the current version. Raises ``RunError`` if no version here reads it."""
        version = _VERSION.decode(line).v
        if version == 1:
            return version1.read_event(line)
        if version == SCHEMA:
            return _DECODER.decode(line)
        raise RunError(
            f"{self.path} is a log of schema version {version}, and this Arbiter reads versions 1 and {SCHEMA}: "
            "use the version of Arbiter that wrote it (versions.json in the run's folder tells which)"
        )

    def _damaged(self, number: int, why: str) -> RunError:
        return RunError(f"{self.path}, line {number + 1}: the log is damaged here: {why}")
