"""List runs with their figures and their states, as their folders have them."""

import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from arbiter.log.lock import is_locked
from arbiter.log.reader import LOG, has_log, log_path
from arbiter.log.run import Run
from arbiter.protocols.errors import ArbiterError, RunError
from arbiter.protocols.records import Record
from arbiter.runs.collection import read_collection
from arbiter.runs.documents import read_document
from arbiter.runs.finding import GRADED, FoundRun, Kind, find_runs
from arbiter.runs.remedies import SWEEP_REMEDY
from arbiter.runs.reports.report import read_run
from arbiter.runs.results import Summary
from arbiter.runs.stored_summary import NAME as STORED_SUMMARY
from arbiter.runs.stored_summary import read_summary

State = Literal["finished", "interrupted", "stopped early", "running", "unfinished", "damaged"]
"""``unfinished``: no process writes the run, and its log has no end: it was killed, or its log was cut.

``stopped early``: the first problems to end have all failed for one cause."""

_TAIL = 4096  # bytes: the end of a session has a shorter line


class ListedRun(Record, frozen=True):
    """A run as ``arbiter runs`` lists it.

    ``run`` is its folder, ``kind`` what that holds, and ``started`` when it began. ``models`` and ``data`` are the
    names in its configuration. ``run_types`` are several for a sweep, which has ``points``. Figures that are not known
    are None. ``error`` says what is damaged.
    """

    run: str
    kind: Kind
    started: datetime
    state: State
    run_types: tuple[str, ...] = ()
    threshold: float | None = None
    models: dict[str, str] = {}  # noqa: RUF012 - msgspec gives each its own
    data: str | None = None
    points: int | None = None
    problems: int | None = None
    accuracy: float | None = None
    acceptance_rate: float | None = None
    error: str | None = None


class _Point(msgspec.Struct):
    run_type: str


class _Sweep(msgspec.Struct):
    """What ``sweep.json`` says of a sweep."""

    points: list[_Point]
    interrupted: bool
    stopped: str | None = None


def list_runs(folders: Sequence[Path]) -> list[ListedRun]:
    """Return the runs in and below ``folders``, each once, the newest first.

    Raises ``RunError`` naming a folder that does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"there is no folder {str(folder)!r}: give folders that hold runs")
    found = {run.path.resolve(): run for folder in folders for run in find_runs(folder)}
    return [listed_run(run) for run in sorted(found.values(), key=lambda run: (-run.started, run.path))]


def listed_run(found: FoundRun, read_results: bool = True) -> ListedRun:
    """Return a run with its figures. Without a summary they are computed from its results, if ``read_results``."""
    path, about = found.path, _configuration(found.path)
    plain = ListedRun(
        run=str(path),
        kind=found.kind,
        started=datetime.fromtimestamp(round(found.started, 3), UTC),
        state="unfinished",
        run_types=_run_type(about),
        models=dict(_models(about)),
        data=_text(about.get("data"), "source"),
    )
    describe = {"sweep": _sweep, "reproduction": _reproduction, "collection": _collection, "calls": _calls}
    if not read_results and found.kind in GRADED and has_log(path) and not (path / STORED_SUMMARY).exists():
        describe[found.kind] = _calls
    try:
        return describe.get(found.kind, _run)(path, plain)
    except ArbiterError as error:
        return msgspec.structs.replace(plain, state="damaged", error=str(error))


def _run(path: Path, plain: ListedRun) -> ListedRun:
    """Return ``plain`` with the figures of the summary, or of the results so far."""
    running, summary = is_locked(path / f".{LOG}.lock"), None
    state: State = "running" if running else "unfinished"
    if not running:
        summary = read_summary(path, Summary)
    if summary is not None:
        stopped = "interrupted" if summary.stopped is None else "stopped early"
        is_cut = (path / LOG).exists() and not _has_end(path / LOG)
        state = "unfinished" if is_cut else stopped if summary.interrupted else "finished"
    elif (path / "results.jsonl").exists() or has_log(path):
        read = read_run(path)
        summary, state = read.summary, state if running or read.state == "unfinished" else read.state
    else:  # nothing has begun yet
        return msgspec.structs.replace(plain, state=state)
    return msgspec.structs.replace(
        plain,
        state=state,
        run_types=(summary.run_type,),
        threshold=summary.threshold,
        problems=summary.problems,
        accuracy=summary.accuracy,
        acceptance_rate=summary.acceptance_rate,
    )


def _collection(path: Path, plain: ListedRun) -> ListedRun:
    """Return ``plain`` with the figures of its run; a collection that was imported has none."""
    collection = read_collection(path)
    if not has_log(path):
        imported = collection is not None and collection.complete
        return msgspec.structs.replace(plain, state="finished" if imported else "unfinished")
    return _run(path, plain)


def _sweep(path: Path, plain: ListedRun) -> ListedRun:
    sweep = read_document(path / "sweep.json", _Sweep, SWEEP_REMEDY)
    if sweep is None:
        return plain
    state: State = "running" if is_locked(path / ".sweep.lock") else "interrupted" if sweep.interrupted else "finished"
    if sweep.stopped is not None and state == "interrupted":
        state = "stopped early"
    types = tuple(dict.fromkeys(point.run_type for point in sweep.points))
    return msgspec.structs.replace(plain, state=state, run_types=types, threshold=None, points=len(sweep.points))


def _reproduction(path: Path, plain: ListedRun) -> ListedRun:
    """Return ``plain`` with what its sweep says. It is finished when it has its figures."""
    found = _sweep(path / "sweep", plain) if (path / "sweep" / "sweep.json").is_file() else plain
    about = _configuration(path / "sweep")
    state: State = found.state if found.state == "running" else "unfinished"
    if (path / "reproduction.json").is_file():
        state = "finished"
    return msgspec.structs.replace(
        found, state=state, models=dict(_models(about)), data=_text(about.get("data"), "source")
    )


def _calls(path: Path, plain: ListedRun) -> ListedRun:
    """Return ``plain`` with its state. Its log may be long, so only its end is read."""
    log = log_path(path)
    state: State = "running" if is_locked(path / f".{LOG}.lock") else "unfinished"
    if log.name == LOG and state != "running":
        state = "finished" if _has_end(log) else state
    started = Run.open(path).started.identity
    data = None if plain.kind == "calls" else plain.data
    return msgspec.structs.replace(plain, state=state, run_types=(str(started.get("run_type", "")),), data=data)


def _has_end(log: Path) -> bool:
    """Return whether a log ends with the end of a session. Only its last line is read."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        return b'"run_ended"' in file.read().rstrip(b"\n").rpartition(b"\n")[2]


def _configuration(folder: Path) -> dict[str, Any]:
    """Return the keys in the configuration of ``folder``. Nothing is checked: a list needs only names."""
    try:
        return tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _run_type(about: dict[str, Any]) -> tuple[str, ...]:
    name = _text(about, "run_type")
    return () if name is None else (name,)


def _models(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of draft and target in a configuration, also those of several targets."""
    tables: Any = about.get("models")
    if not isinstance(tables, dict):
        return
    named = cast("dict[str, Any]", tables)
    targets = named.get("targets")
    each = cast("dict[str, Any]", targets) if isinstance(targets, dict) else {}
    for name, table in [
        ("draft", named.get("draft")),
        ("target", named.get("target")),
        *((f"targets.{name}", table) for name, table in each.items()),
    ]:
        if (model := _text(table, "model")) is not None:
            yield name, model


def _text(table: Any, key: str) -> str | None:  # noqa: ANN401 - whatever the file has
    value = cast("dict[str, Any]", table).get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) else None
