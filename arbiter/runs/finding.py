"""Find runs: those below a folder, and the one that a name on the command line means.

It reads file names, and of a log only the first event, so that every command can use it.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from arbiter.log.reader import LOG, has_log
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.records import Author

Kind = Literal["run", "baseline", "calls", "collection", "sweep", "reproduction"]
"""What a folder holds. A ``baseline`` belongs to the run next to it (``--compare``). ``calls`` is the log of an
endpoint, or of a program that uses the library."""

RUNS = Path("runs")
"""The folder below which commands make their folders."""

LAST = "@last"
"""The name of the newest run."""

LOGGED: tuple[Kind, ...] = ("run", "baseline", "calls", "collection")
"""The kinds of folders that have a log of their own."""

GRADED: tuple[Kind, ...] = ("run", "baseline", "collection")
"""The kinds of folders that have results of their own."""

log = logging.getLogger("arbiter.runs.finding")

_ROLES = get_args(Author)
_SHOWN = 8  # candidates that an error names


class FoundRun(NamedTuple):
    """A folder, what it holds, and when that began (Unix time in seconds)."""

    path: Path
    kind: Kind
    started: float


def find_runs(folder: Path) -> list[FoundRun]:
    """Return the runs in ``folder`` and in the folders below it, the newest first.

    What a sweep or a reproduction consists of is only returned if ``folder`` is the sweep or the reproduction itself.
    Folders that cannot be read, and those whose name begins with a dot, are left out.
    """
    kind = _kind(folder)
    return _sorted([folder] if kind is not None and kind not in ("sweep", "reproduction") else _below(folder))


def resolve(name: Path, kinds: Iterable[Kind]) -> Path:
    """Return the folder that ``name`` means: a path, ``@last``, or the beginning of a folder's name.

    ``@last`` is the newest run below ``runs`` of one of the ``kinds``, except baselines. The beginning of a name must
    fit one run of the ``kinds`` only. It is looked up below ``runs``, or in the folder before it (``other/2026``). A
    run and its baselines count as the run. A path that exists is returned as it is, and so is a name that fits no run:
    the command says what it needs.

    ``@last`` passes over a folder whose log is missing or does not begin, with a warning.

    Raises ``RunError`` with the candidates if several fit, and if ``@last`` finds no run.
    """
    accepted = tuple(kinds)
    if str(name) == LAST:
        return _last(accepted)
    if name.exists() or not name.name:
        return name
    paths = _below(RUNS) if len(name.parts) == 1 else _folders(name.parent)
    fitting = [
        run for run in _sorted(path for path in paths if path.name.startswith(name.name)) if run.kind in accepted
    ]
    fitting = [run for run in fitting if run.path.name == name.name] or _without_baselines(fitting)
    if len(fitting) > 1:
        shown = ", ".join(str(run.path) for run in fitting[:_SHOWN])
        more = f" and {len(fitting) - _SHOWN} more" if len(fitting) > _SHOWN else ""
        raise RunError(f"{str(name)!r} is the beginning of several names: {shown}{more}; give more of the name")
    return fitting[0].path if fitting else name


def refuse_last(out: Path) -> None:
    """Raise ``RunError`` if the folder ``out`` of a new run has the name that means the newest run."""
    if str(out) == LAST:
        raise RunError(
            f"{LAST} means the newest run, so no folder can have that name: give another one with --out, or continue "
            f"the newest run with --resume {LAST}"
        )


def _last(kinds: tuple[Kind, ...]) -> Path:
    for run in find_runs(RUNS):
        if run.kind in kinds and run.kind != "baseline":
            if _has_begun(run):
                return run.path
            log.warning("%s: %s is passed over, because its log is missing or its beginning is damaged", LAST, run.path)
    raise RunError(f"{LAST}: there is no {kinds[0]} below {RUNS}/; give the path of one, or make one first")


def _has_begun(run: FoundRun) -> bool:
    """Return whether a log begins in the folder, or there is none and none is needed: results can be without one."""
    if has_log(run.path):
        return _beginning(run.path)[0] is not None
    return run.kind != "run" or (run.path / "results.jsonl").exists()


def _without_baselines(runs: list[FoundRun]) -> list[FoundRun]:
    paths = {run.path for run in runs}
    return [run for run in runs if run.kind != "baseline" or _compared(run.path) not in paths]


def _below(folder: Path) -> Iterator[Path]:
    """Yield the folders below ``folder`` that hold something, and nothing of what is in them."""
    for path in _folders(folder):
        if _kind(path) is None:
            yield from _below(path)
        else:
            yield path


def _folders(folder: Path) -> list[Path]:
    """Return the folders in ``folder``, without links: they would be listed twice."""
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "."]
    except OSError:
        return []


def _sorted(paths: Iterable[Path]) -> list[FoundRun]:
    """Return what the folders hold that hold something, the newest first."""
    found = [_found(path, kind) for path in paths if (kind := _kind(path)) is not None]
    return sorted(found, key=lambda run: (-run.started, run.path))


def _kind(folder: Path) -> Kind | None:
    """Return what the names of the files in ``folder`` say about it; None if it holds no run itself."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return None
    if "sweep.json" in names:
        return "sweep"
    if "reproduction.json" in names or ("sweep" in names and (folder / "sweep" / "sweep.json").is_file()):
        return "reproduction"
    if "collection.json" in names:
        return "collection"
    is_run = "results.jsonl" in names or any(name.startswith(LOG) for name in names)
    return "run" if is_run or {"config.toml", "versions.json"} <= names else None


def _found(path: Path, kind: Kind) -> FoundRun:
    """Return what ``path`` holds, whose files say that it is a ``kind``, and when that began."""
    identity, started = _beginning(path)
    if kind == "run" and identity is not None:
        if not identity.get("data.problems"):
            kind = "calls"
        elif _is_baseline(path, identity):
            kind = "baseline"
    return FoundRun(path, kind, started)


def _beginning(path: Path) -> tuple[dict[str, object] | None, float]:
    """Return the identity in the log of ``path`` (None without a readable log), and the time of its beginning.

    Without a log, the time is that of the oldest file.
    """
    try:
        run = Run.open(path)
        return run.started.identity, next(run.events()).wall
    except RunError:
        times = [file.stat().st_mtime for file in path.iterdir() if file.is_file()]
        return None, min(times, default=0.0)


def _is_baseline(path: Path, identity: dict[str, object]) -> bool:
    """Return whether the run in ``path`` is a baseline of the run whose folder has the name without the last part."""
    compared = _compared(path)
    if compared is None or _kind(compared) != "run" or not path.name.endswith(f"-{identity.get('run_type')}"):
        return False
    other, _ = _beginning(compared)
    return other is None or _data(other) == _data(identity)


def _compared(path: Path) -> Path | None:
    """Return the folder of the run that ``path`` is a baseline of, by its name; None if it is not that of one."""
    name, _, role = path.name.rpartition("-")
    return path.with_name(name) if name and role in _ROLES else None


def _data(identity: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in identity.items() if key.startswith("data.")}
