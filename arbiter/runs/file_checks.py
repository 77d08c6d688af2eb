"""Check the files of a run for damage: ``arbiter show RUN --verify``."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from arbiter.config.config import load_config
from arbiter.data.training_rows import TrainingRow
from arbiter.log.checksums import has_checksum, of_document
from arbiter.log.identity import check_unchanged
from arbiter.log.reader import LogFile, log_path
from arbiter.log.run import Run
from arbiter.protocols.errors import ArbiterError, RunError
from arbiter.protocols.records import Record
from arbiter.runs.folder import check_count, read_records, read_results


class CheckedFile(Record, frozen=True):
    """A file of a run that was checked.

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
    """Yield the files of a run as they were checked: those of the run folder ``path``, or the log ``path`` alone.

    Raises ``RunError`` if there is no run.
    """
    yield _checked(log_path(path), _log)
    if path.is_dir():
        for name, check in _FILES.items():
            if (path / name).is_file():
                yield _checked(path / name, check)


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


def _results(path: Path) -> CheckedFile:
    results, torn = read_results(path)
    check_count(path.parent, len(results), _counted(path.with_name("summary.json")))
    return CheckedFile(path.name, len(results), _unchecked(path), torn)


def _counted(summary: Path) -> int | None:
    """Return how many results the summary counts; None if there is none, or it is damaged and has its own error."""
    with suppress(RunError):
        return _read_summary(summary).decoded or None
    return None


def _rows(path: Path) -> CheckedFile:
    return CheckedFile(path.name, sum(1 for _ in read_records(path, TrainingRow)), _unchecked(path))


def _unchecked(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(line.endswith(b"\n") and not has_checksum(line) for line in lines)


def _summary(path: Path) -> CheckedFile:
    _read_summary(path)
    return CheckedFile(path.name, 1, int("c" not in msgspec.json.decode(path.read_bytes())))


class _Counted(msgspec.Struct):
    """What a summary of any version has: other versions have other keys. The number is None if it has none."""

    decoded: int | None = None


def _read_summary(path: Path) -> _Counted:
    try:
        return msgspec.json.decode(of_document(path.read_bytes()), type=_Counted)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a wrong checksum, or no summary
        raise RunError(f"{path}: {error}; arbiter bench --resume {path.parent} writes it again") from error


def _config(path: Path) -> CheckedFile:
    """Compare the keys that decide results with those in the log. The file may be edited, and has no checksum."""
    check_unchanged(path, load_config(str(path)), Run.open(path.parent).started.identity)
    return CheckedFile(path.name, 1)


_FILES: dict[str, Callable[[Path], CheckedFile]] = {
    "results.jsonl": _results,
    "rows.jsonl": _rows,
    "summary.json": _summary,
    "config.toml": _config,
}
