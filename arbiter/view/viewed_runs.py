"""All runs of a folder with their figures, as the list of the page shows them."""

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from arbiter.log.lock import is_locked
from arbiter.log.reader import LOG, has_log, log_path
from arbiter.log.run import Run
from arbiter.protocols.errors import ArbiterError, RequestError
from arbiter.protocols.records import Record
from arbiter.runs.finding import FoundRun, Kind, find_runs
from arbiter.runs.intervals import Interval
from arbiter.runs.listing import ListedRun, listed_run
from arbiter.runs.results import Summary, written_tokens
from arbiter.runs.stored_summary import read_summary
from arbiter.view.index_figures import COUNTED, Counted, figures, share_of
from arbiter.view.run_indexes import RunIndexes

_WHOLE: tuple[Kind, ...] = ("sweep", "reproduction")
_INDEXED = 6
"""The number of runs without a summary whose index is made for their figures: the newest ones."""

_SIGNS = ("summary.json", "results.jsonl", LOG, "config.toml", "versions.json", "collection.json", "sweep.json")


class ViewedRun(Record, frozen=True, kw_only=True):
    """A run as the list shows it (``docs/reference/view-api.md``). What is not known is None."""

    run: str
    name: str
    folder: str
    parent: str | None
    kind: Kind
    state: str
    live: bool
    error: str | None
    run_type: str | None
    run_types: tuple[str, ...]
    threshold: float | None
    models: dict[str, str]
    data: str | None
    started: float
    seconds: float | None = None
    simulated: bool = False
    problems: int | None = None
    ended: int | None = None
    graded: int | None = None
    failed: int | None = None
    samples: int | None = None
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    acceptance: float | None = None
    steps: int | None = None
    escalations: int | None = None
    draft_tokens: int | None = None
    target_tokens: int | None = None
    target_share: float | None = None
    target_calls: int | None = None
    cost: float | None = None
    latency_mean: float | None = None
    latency_p95: float | None = None
    grader: str | None = None
    version: str | None = None
    points: int | None = None
    viewable: bool = True


class PlacedRun(NamedTuple):
    """A run that was found: its opaque id, and that of the sweep that it is a point of."""

    id: str
    found: FoundRun
    parent: str | None


class RunList:
    """The runs in and below ``folder``. Its methods may be called from any thread."""

    def __init__(self, folder: Path, indexes: RunIndexes) -> None:
        self.folder = folder
        self._indexes = indexes
        self._lock = threading.Lock()
        self._known: dict[str, tuple[object, ViewedRun]] = {}
        self._last: dict[str, PlacedRun] = {}

    def runs(self) -> list[ViewedRun]:
        """Return all runs, the newest first, each followed by its points."""
        with self._lock:
            placed = self._placed()
            self._last = {one.id: one for one in placed}
            runs, indexed = list[ViewedRun](), 0
            for one in placed:
                run = self._viewed(one)
                if run.viewable and run.problems is None and indexed < _INDEXED:
                    run, indexed = self._with_index(one, run), indexed + 1
                runs.append(run)
            self._known = {run.run: self._known[run.run] for run in runs}
        return runs

    def run(self, name: str) -> tuple[PlacedRun, ViewedRun]:
        """Return the run with an opaque id. Raises ``RequestError`` if there is none."""
        with self._lock:
            placed = self._last.get(name)
            if placed is None or not placed.found.path.is_dir():
                self._last = {one.id: one for one in self._placed()}
                placed = self._last.get(name)
            if placed is None:
                raise RequestError(
                    "there is no such run any more: its folder was moved or removed; go back to the list of runs",
                    status=404,
                    code="no_run",
                )
            run = self._viewed(placed)
            return placed, self._with_index(placed, run) if run.viewable and run.problems is None else run

    def log(self, placed: PlacedRun) -> Path:
        """Return the log of a run. Raises ``RequestError`` if it has none."""
        if placed.found.kind not in _WHOLE and has_log(placed.found.path):
            with suppress(ArbiterError):
                return log_path(placed.found.path)
        path = shown(placed.found.path)
        raise RequestError(
            f"{path} has no {LOG}, so its problems cannot be shown; arbiter report {path} shows its figures",
            status=409,
            code="not_available",
        )

    def _placed(self) -> list[PlacedRun]:
        """Return the runs that are there now. Points are looked for in the folder of their sweep."""

        def expanded(found: FoundRun, parent: str | None) -> list[PlacedRun]:
            name = _id_of(found.path)
            points = find_runs(found.path) if found.kind in _WHOLE else []
            inner = [each for point in points if point.path != found.path for each in expanded(point, name)]
            return [PlacedRun(name, found, parent), *inner]

        return [each for found in find_runs(self.folder) for each in expanded(found, None)]

    def _viewed(self, placed: PlacedRun) -> ViewedRun:
        """Return what the list shows of a run, read again only if one of its files has changed."""
        path = placed.found.path
        signs = tuple(_sign(path / name) for name in _SIGNS)
        live = is_locked(path / f".{LOG}.lock") or is_locked(path / ".sweep.lock")
        known = self._known.get(placed.id)
        if known is None or known[0] != (signs, live, placed.parent):
            known = self._known[placed.id] = (signs, live, placed.parent), _read(placed, live)
        return known[1]

    def _with_index(self, placed: PlacedRun, run: ViewedRun) -> ViewedRun:
        """Return ``run`` with the figures of its index, as far as it is already."""
        try:
            index = self._indexes.index(self.log(placed), 0.0)
            rows = [Counted(*row) for row in index.rows.columns(*COUNTED)]
            load = index.rows.about("load")
        except ArbiterError as error:
            return run if run.error is not None else msgspec.structs.replace(run, error=str(error))
        ended = [row for row in rows if row.grade != "unfinished"]
        found = figures(ended) if ended else {"ended": 0}
        error = index.state().error
        return msgspec.structs.replace(
            run,
            **{**found, "problems": len({row.id for row in rows})},
            samples=1 + max((row.sample for row in rows), default=0),
            seconds=load and load["seconds"],
            error=run.error or error,
            state="damaged" if error else run.state,
        )


def shown(path: Path) -> str:
    """Return a path as text, also if its name is not UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def _id_of(path: Path) -> str:
    return hashlib.blake2b(os.fsencode(path.resolve()), digest_size=8).hexdigest()


def _sign(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _read(placed: PlacedRun, live: bool) -> ViewedRun:
    found, path = placed.found, placed.found.path
    listed = listed_run(found, read_results=False)
    error = listed.error
    summary: Summary | None = None
    if found.kind not in _WHOLE and not live:
        try:
            summary = read_summary(path, Summary)
            if error is None and has_log(path):
                Run.open(path)  # a log of another version, or with a damaged beginning
        except ArbiterError as failure:
            error = str(failure)
    return ViewedRun(
        run=placed.id,
        name=shown(Path(path.resolve().name)),
        folder=shown(path),
        parent=placed.parent,
        kind=found.kind,
        state="damaged" if error else listed.state,
        live=live,
        error=error,
        run_type=listed.run_types[0] if len(listed.run_types) == 1 else None,
        run_types=listed.run_types,
        threshold=listed.threshold if summary is not None else _threshold(path, listed),
        models=listed.models,
        data=listed.data,
        started=listed.started.timestamp(),
        version=_version(path),
        points=listed.points,
        viewable=found.kind not in _WHOLE and has_log(path),
        **({} if summary is None else _figures(summary)),
    )


def _figures(summary: Summary) -> dict[str, Any]:
    draft, target = written_tokens(summary, "draft"), written_tokens(summary, "target")
    return {
        "seconds": summary.wall_seconds,
        "simulated": summary.simulated,
        "problems": summary.problems,
        "ended": summary.decoded,
        "graded": summary.graded,
        "failed": summary.failed,
        "samples": summary.samples,
        "accuracy": summary.accuracy,
        "accuracy_interval": summary.accuracy_interval,
        "acceptance": summary.acceptance_rate,
        "steps": summary.steps,
        "escalations": summary.escalations,
        "draft_tokens": draft,
        "target_tokens": target,
        "target_share": share_of(draft, target),
        "target_calls": summary.target_calls,
        "cost": summary.cost and summary.cost.total,
        "latency_mean": summary.latency.mean,
        "latency_p95": summary.latency.p95,
        "grader": summary.grader or None,
    }


def _threshold(path: Path, listed: ListedRun) -> float | None:
    """Return the threshold in the identity of a run without a summary."""
    with suppress(ArbiterError):
        if len(listed.run_types) == 1 and has_log(path):
            return Run.open(path).started.identity.get(f"thresholds.{listed.run_types[0]}")
    return None


def _version(path: Path) -> str | None:
    with suppress(OSError, ValueError):
        versions = msgspec.json.decode((path / "versions.json").read_bytes(), type=dict[str, str])
        return versions.get("arbiter-reasoning")
    return None
