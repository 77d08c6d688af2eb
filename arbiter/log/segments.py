"""The segments of a log: the files in which the workers of a run write what they do.

::

    events.jsonl                       the log of the run: its sessions, the grades, and what one process solves alone
    events/SESSION-WORKER-START.jsonl  the segment of a worker, a log of its own; after each start a new one

Only the process that made a segment ever writes it, so a worker that was thought dead can damage nothing.
"""

import re
from pathlib import Path
from typing import NamedTuple

from arbiter.log.index import LogIndex, index_of
from arbiter.log.reader import LogFile
from arbiter.protocols.errors import RunError, os_reason

MAIN = ""
"""The name of ``events.jsonl`` where the name of a segment is expected."""

LEDGER = "ledger"
"""The worker name of the ledger, whose segments hold what it handed out."""

_NAME = re.compile(r"([0-9]+)-([a-z0-9]+)-([0-9]+)\.jsonl")


class Segment(NamedTuple):
    """A segment: the session in which it was written, its worker, how often that had started before, and its file."""

    session: int
    worker: str
    start: int
    path: Path

    @property
    def name(self) -> str:
        return self.path.name


def segments_folder(log: Path) -> Path:
    """Return the folder of the segments that belong to the log ``events.jsonl``, compressed or not."""
    return log.with_name(log.name.partition(".")[0])


def segments_of(log: Path) -> list[Segment]:
    """Return the segments that belong to a log, in the order of their sessions, workers and starts."""
    found = (_segment(path) for path in segments_folder(log).glob("*.jsonl"))
    return sorted(segment for segment in found if segment is not None)


def segment_name(session: int, worker: str, start: int) -> str:
    """Return the name of the file of a segment."""
    return f"{session:04}-{worker}-{start}.jsonl"


def create_segment(log: Path, session: int, worker: str) -> Segment:
    """Make the file of a new segment, and return it. Raises ``RunError`` if it cannot be made."""
    folder, start = segments_folder(log), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / segment_name(session, worker, start)
            try:
                path.open("xb").close()
            except FileExistsError:
                start += 1
            else:
                return Segment(session, worker, start, path)
    except OSError as error:
        raise RunError(f"cannot write the segments of the log {log}: {os_reason(error)}") from error


def index_of_segment(path: Path) -> LogIndex:
    """Return where the lines of a log or of a segment are. Raises ``RunError`` naming the line that is damaged."""
    try:
        index = index_of(path)
    except OSError as error:
        raise RunError(f"cannot read {path}: {os_reason(error)}") from error
    if index is None:
        for _ in LogFile(path):  # raises at the damaged line
            pass
        raise RunError(f"{path} is damaged: restore it from a copy")
    return index


def segment_lines(log: Path) -> dict[str, int]:
    """Return how many complete lines each segment of a log has now, by the name of its file."""
    indexes = {segment.name: index_of_segment(segment.path) for segment in segments_of(log)}
    return {name: len(index.others) + sum(map(len, index.spans.values())) for name, index in indexes.items()}


def _segment(path: Path) -> Segment | None:
    found = _NAME.fullmatch(path.name)
    return found and Segment(int(found[1]), found[2], int(found[3]), path)
