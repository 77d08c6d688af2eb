"""Check the files of a run, a collection or a sweep for damage: ``arbiter show FOLDER --verify``."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from arbiter.config.config import load_config
from arbiter.data import Problem
from arbiter.data.training_rows import StepValue, TrainingRow
from arbiter.log.checksums import has_checksum
from arbiter.log.identity import check_unchanged
from arbiter.log.reader import LOG, LogFile, has_log, log_path
from arbiter.log.run import Run
from arbiter.log.segments import segments_of
from arbiter.protocols.errors import ArbiterError, RunError
from arbiter.protocols.records import Record
from arbiter.runs.collection import read_collection
from arbiter.runs.documents import read_document
from arbiter.runs.folder import check_count, read_records, read_results
from arbiter.runs.remedies import SWEEP_REMEDY
from arbiter.runs.stored_summary import StoredSummary, read_summary


class CheckedFile(Record, frozen=True):
    """A file that was checked. ``name`` is relative to the checked folder.

    - ``lines`` is the number of its complete lines. Of these, ``unchecked`` have no checksum: older versions of Arbiter
      wrote none. A file that is not read by lines counts as one.
    - ``torn``: an incomplete last line was left out.
    - ``ended`` is False for a log without the end of its newest session.
    - ``error`` names the damage; None if there is none.
    """

    name: str
    lines: int = 0
    unchecked: int = 0
    torn: bool = False
    ended: bool = True
    error: str | None = None


def check_files(path: Path) -> Iterator[CheckedFile]:
    """Yield the files of a run, a collection or a sweep as they were checked.

    ``path`` is a folder, or a log that is checked alone. The files of a sweep are its own and those of its points.

    Raises ``RunError`` if there is no run.
    """
    if (path / "sweep.json").is_file():
        yield from _of_sweep(path)
        return
    if not _is_imported(path):
        log_path(path)
    yield from _of_folder(path)


def _of_sweep(sweep: Path) -> Iterator[CheckedFile]:
    yield _checked(sweep / "sweep.json", _sweep)
    if (sweep / "config.toml").is_file():
        yield _checked(sweep / "config.toml", _config)
    for point in sorted({file.parent for name in (f"{LOG}*", "results.jsonl") for file in sweep.glob(f"*/{name}")}):
        for file in _of_folder(point):
            yield msgspec.structs.replace(file, name=f"{point.name}/{file.name}")


def _of_folder(path: Path) -> Iterator[CheckedFile]:
    """Yield the log ``path``, or the log and the other files in the folder ``path``."""
    if not _is_imported(path):
        try:
            log = log_path(path)
        except RunError as error:
            yield CheckedFile(LOG, error=str(error))
        else:
            yield _checked(log, _log)
            for segment in segments_of(log):
                file = _checked(segment.path, _segment)
                yield msgspec.structs.replace(file, name=f"{segment.path.parent.name}/{file.name}")
    for name, check in _FILES.items():
        if (path / name).is_file():
            yield _checked(path / name, check)


def _is_imported(path: Path) -> bool:
    """Return whether ``path`` holds a collection without a run: imported rows, or the plan of one not begun yet."""
    return (path / "collection.json").is_file() and not has_log(path) and not (path / "results.jsonl").exists()


def _checked(path: Path, check: Callable[[Path], CheckedFile]) -> CheckedFile:
    try:
        return check(path)
    except ArbiterError as error:
        return CheckedFile(path.name, error=str(error))


def _log(path: Path) -> CheckedFile:
    log = LogFile(path)
    for _ in log:
        pass
    return CheckedFile(path.name, log.lines, log.unchecked, bool(log.torn), log.ended)


def _segment(path: Path) -> CheckedFile:
    """Check a segment. Only ``events.jsonl`` has the ends of sessions."""
    return msgspec.structs.replace(_log(path), ended=True)


def _results(path: Path) -> CheckedFile:
    results, torn = read_results(path)
    check_count(path.parent, len(results), _counted(path.parent))
    return CheckedFile(path.name, len(results), _unchecked(path), torn)


def _counted(folder: Path) -> int | None:
    """Return how many results the summary counts; None if it does not say, or is damaged and has its own error."""
    with suppress(RunError):
        summary = read_summary(folder, StoredSummary)
        return None if summary is None else summary.decoded
    return None


def _rows(path: Path) -> CheckedFile:
    return CheckedFile(path.name, sum(1 for _ in read_records(path, TrainingRow)), _unchecked(path))


def _values(path: Path) -> CheckedFile:
    return CheckedFile(path.name, sum(1 for _ in read_records(path, StepValue)), _unchecked(path))


def _problems(path: Path) -> CheckedFile:
    return CheckedFile(path.name, sum(1 for _ in read_records(path, Problem)), _unchecked(path))


def _unchecked(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(line.endswith(b"\n") and not has_checksum(line) for line in lines)


def _summary(path: Path) -> CheckedFile:
    read_summary(path.parent, StoredSummary)
    return _document(path)


def _collection(path: Path) -> CheckedFile:
    read_collection(path)
    return _document(path)


def _sweep(path: Path) -> CheckedFile:
    read_document(path, dict[str, Any], SWEEP_REMEDY)
    return _document(path)


def _document(path: Path) -> CheckedFile:
    """Return the check of a file that is one JSON object, which was read without an error."""
    return CheckedFile(path.name, 1, int("c" not in msgspec.json.decode(path.read_bytes())))


def _config(path: Path) -> CheckedFile:
    """Compare the keys that decide results with those in the log. The file may be edited, and has no checksum.

    Without a log, as in the folder of a sweep, any valid configuration is accepted.
    """
    config = load_config(str(path))
    if has_log(path.parent):
        check_unchanged(path, config, Run.open(path.parent).started.identity)
    return CheckedFile(path.name, 1)


_FILES: dict[str, Callable[[Path], CheckedFile]] = {
    "results.jsonl": _results,
    "rows.jsonl": _rows,
    "rollouts.jsonl": _values,
    "problems.jsonl": _problems,
    "collection.json": _collection,
    "summary.json": _summary,
    "config.toml": _config,
}
