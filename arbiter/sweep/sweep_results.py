"""What a sweep found: ``sweep.json``, a row a point, and the same as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from arbiter.config.run_tables import RunType
from arbiter.protocols.errors import RunError
from arbiter.protocols.records import Record
from arbiter.runs.folder import replace_file
from arbiter.runs.reports.tables import csv_of, flat
from arbiter.runs.results import Summary
from arbiter.sweep.log_answers import NOTHING_SPENT, AnswerCounts, Spent
from arbiter.sweep.points import SweepPoint

FILE = "sweep.json"


class SweepRow(Record, frozen=True):
    """A point: its folder's name, what it needed and made, and its figures, which are None before there are any."""

    point: str
    run_type: RunType
    threshold: float | None
    requests: AnswerCounts
    summary: Summary | None


class SweepResult(Record, frozen=True):
    """``sweep.json``. ``measured`` says that each point was a run of its own, else they shared their answers.

    ``needed`` are the requests of all points, each for itself, ``made`` those that models were asked; ``most`` is the
    point that needs most. Keys are added over time; after the first release none is renamed or
    removed.
    """

    measured: bool
    interrupted: bool
    points: tuple[SweepRow, ...]
    needed: Spent = NOTHING_SPENT
    made: Spent = NOTHING_SPENT
    most: str | None = None

    @property
    def most_expensive(self) -> SweepRow | None:
        return next((row for row in self.points if row.point == self.most), None)


class PlannedPoint(msgspec.Struct, frozen=True):
    """Of a point, what says which it is."""

    run_type: RunType
    threshold: float | None


class EarlierSweep(msgspec.Struct, frozen=True):
    """What of ``sweep.json`` a sweep that goes on needs."""

    measured: bool
    points: tuple[PlannedPoint, ...]


def found_in(
    points: Sequence[SweepPoint],
    counts: Mapping[str, AnswerCounts],
    summaries: Mapping[str, Summary],
    measured: bool,
    interrupted: bool,
) -> SweepResult:
    """The figures of all points; those without any have none yet."""
    rows = tuple(
        SweepRow(
            point=point.name,
            run_type=point.config.run_type,
            threshold=point.config.threshold,
            requests=counts.get(point.name, AnswerCounts()),
            summary=summaries.get(point.name),
        )
        for point in points
    )
    most = max(rows, key=lambda row: row.requests.needed.requests)
    return SweepResult(
        measured=measured,
        interrupted=interrupted,
        points=rows,
        needed=sum((row.requests.needed for row in rows), NOTHING_SPENT),
        made=sum((row.requests.made for row in rows), NOTHING_SPENT),
        most=most.point if most.requests.needed.requests else None,
    )


def write(sweep: SweepResult, out: Path) -> None:
    """Write ``sweep.json`` and ``sweep.csv``. Raises ``RunError`` if the folder cannot be written."""
    table = csv_of(
        [
            {"point": row.point, **flat(row.requests), **(flat(row.summary) if row.summary else {})}
            for row in sweep.points
        ]
    )
    put(out / FILE, msgspec.json.format(msgspec.json.encode(sweep)) + b"\n")
    put(out / "sweep.csv", table.encode())


def put(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of a file. Raises ``RunError``."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def earlier(out: Path) -> EarlierSweep | None:
    """What an earlier session of the sweep was to do. Raises ``RunError`` if the file cannot be read."""
    path = out / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=EarlierSweep)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: {error}; give another folder with --out") from error
