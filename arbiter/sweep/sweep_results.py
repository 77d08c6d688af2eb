"""The results of a sweep: ``sweep.json`` and ``sweep.csv``, with one row per point."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from arbiter.config.run_tables import RunType
from arbiter.log.checksums import as_document
from arbiter.protocols.records import Record
from arbiter.runs.documents import read_document
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.remedies import SWEEP_REMEDY
from arbiter.runs.reports.gap_figures import GapRecovery
from arbiter.runs.reports.tables import csv_of, flat
from arbiter.runs.results import Summary
from arbiter.sweep.log_answers import NOTHING_SPENT, AnswerCounts, Spent
from arbiter.sweep.points import SweepPoint

FILE = "sweep.json"


class SweepRow(Record, frozen=True):
    """A point: the name of its folder, its request counts, and its summary (None until there is one)."""

    point: str
    run_type: RunType
    threshold: float | None
    requests: AnswerCounts
    summary: Summary | None


class SweepResult(Record, frozen=True):
    """The content of ``sweep.json``. ``measured``: each point ran alone; otherwise the points shared their answers.

    ``needed`` sums the requests that each point needs by itself. ``made`` counts the requests that were sent to models.
    ``most`` is the point that needs the most requests. ``recovery`` is set if the points include the draft alone and
    the target alone, and the sweep is complete. ``stopped`` is the cause for which the first problems to end all
    failed, if that stopped the sweep early. Later versions may add keys. After the first release no key is
    renamed or removed.
    """

    measured: bool
    interrupted: bool
    points: tuple[SweepRow, ...]
    needed: Spent = NOTHING_SPENT
    made: Spent = NOTHING_SPENT
    most: str | None = None
    stopped: str | None = None
    recovery: GapRecovery | None = None

    @property
    def most_expensive(self) -> SweepRow | None:
        """The row of the point that needs the most requests; None if no request was answered."""
        return next((row for row in self.points if row.point == self.most), None)


class PlannedPoint(msgspec.Struct, frozen=True):
    """The run type and threshold that identify a point."""

    run_type: RunType
    threshold: float | None


class EarlierSweep(msgspec.Struct, frozen=True):
    """The part of ``sweep.json`` that is needed to continue a sweep."""

    measured: bool
    points: tuple[PlannedPoint, ...]


def found_in(
    points: Sequence[SweepPoint],
    counts: Mapping[str, AnswerCounts],
    summaries: Mapping[str, Summary],
    measured: bool,
    interrupted: bool,
) -> SweepResult:
    """Return the figures of all points. A point without a summary has not started."""
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
    replace_file(out / FILE, as_document(msgspec.json.encode(sweep)))
    replace_file(out / "sweep.csv", table.encode())


def earlier(out: Path) -> EarlierSweep | None:
    """Return the settings of an earlier session, or None. Raises ``RunError`` if the file cannot be read."""
    return read_document(out / FILE, EarlierSweep, SWEEP_REMEDY)
