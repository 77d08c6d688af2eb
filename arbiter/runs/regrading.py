"""Grading a run's folder again: new grades and a new summary from the stored solutions, without any model."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec

from arbiter.config.config import Config, load_config
from arbiter.grading import Grade, Grader
from arbiter.log.reader import LOG
from arbiter.log.resume import EarlierSessions
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.errors import RunError
from arbiter.runs.folder import read_results, record_end, record_grade, replace_file, versions
from arbiter.runs.results import Result, Summary, summary_of

Progress = Callable[[int, int], None]
"""Called with how many results are graded, and of how many."""


class GradeChange(msgspec.Struct, frozen=True):
    """A result whose grade is another one than before."""

    problem: str
    sample: int
    before: Grade
    after: Grade


class Regraded(msgspec.Struct, frozen=True):
    """What grading again found. ``torn`` says that the last line was half written, and has been left out."""

    run: str
    summary: Summary
    changes: tuple[GradeChange, ...]
    torn: bool


class _Ending(msgspec.Struct, frozen=True):
    """What ``summary.json`` has that cannot be computed from the results; other keys are ignored."""

    wall_seconds: float | None
    interrupted: bool = False
    simulated: bool = False


async def regrade(folder: Path, grader: Grader, progress: Progress = lambda _done, _of: None) -> Regraded:
    """Grade the run in ``folder`` again, and put the new grades and summary in the place of the old ones.

    The files are replaced when all is graded, so that an interruption leaves the folder as it was. Raises
    ``RunError`` or ``ConfigError`` naming the folder, the file and the line.
    """
    config, path = _config_of(folder), folder / "results.jsonl"
    if config.log.record != "full":
        raise RunError(f"{folder} was recorded with log.record = {config.log.record!r}: there is no text to grade")
    as_found = _state(path)
    results, torn = read_results(path)
    graded = await _all_graded(results, config.separator, grader, progress)
    summary = _summary(folder, config, graded)
    if _state(path) != as_found:
        raise RunError(f"{path} has changed meanwhile: is the run still going on? Grade it when it has ended")
    changed = [after for before, after in zip(results, graded, strict=True) if before.grade != after.grade]
    await _record(folder / LOG, changed, summary.interrupted)
    _put(path, b"".join(msgspec.json.encode(result) + b"\n" for result in graded))
    _put(folder / "summary.json", msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    changes = (_change(before, after) for before, after in zip(results, graded, strict=True))
    return Regraded(str(folder), summary, tuple(change for change in changes if change is not None), torn)


async def _all_graded(results: list[Result], separator: str, grader: Grader, progress: Progress) -> list[Result]:
    grades: dict[int, Grade] = {}

    async def grade(place: int, result: Result) -> None:
        written = msgspec.structs.replace(result.solution, separator=separator)  # older results do not tell it
        grades[place] = await grader.grade_solution(written, result.reference)
        progress(len(grades), len(results))

    async with anyio.create_task_group() as grading:
        for place, result in enumerate(results):
            grading.start_soon(grade, place, result)
    return [msgspec.structs.replace(result, grade=grades[place]) for place, result in enumerate(results)]


def _config_of(folder: Path) -> Config:
    if not folder.is_dir():
        raise RunError(f"there is no run folder {str(folder)!r}; arbiter bench tells at its end where a run is")
    path = folder / "config.toml"
    if not path.is_file():
        raise RunError(f"{str(folder)!r} holds no run: there is no {path.name} in it")
    return load_config(str(path))


def _summary(folder: Path, config: Config, results: list[Result]) -> Summary:
    """The new summary; time and interruption are the old one's. A run that was killed has none of its own."""
    path = folder / "summary.json"
    if not path.exists():
        shared = (folder / LOG).exists() and Run.open(folder).is_shared
        killed = summary_of(config, results, wall_seconds=None, interrupted=True)
        return msgspec.structs.replace(killed, simulated=shared)
    try:
        old = msgspec.json.decode(_read(path), type=_Ending)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: {error}; without this file the run is graded as an interrupted one") from error
    graded = summary_of(config, results, old.wall_seconds, old.interrupted)
    return msgspec.structs.replace(graded, simulated=old.simulated)


def _change(before: Result, after: Result) -> GradeChange | None:
    if before.grade == after.grade:
        return None
    return GradeChange(before.solution.problem, before.solution.sample, before.grade, after.grade)


async def _record(log: Path, results: list[Result], interrupted: bool) -> None:
    """Write new grades into the run's log, if it has one: a run that is continued takes its grades from there."""
    started = EarlierSessions(log).started if results else None
    if started is None:
        return
    async with open_journal(log, started.identity, versions(), started.record) as journal:
        for result in results:
            await record_grade(journal, result)
        await record_end(journal, interrupted)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error


def _state(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    return None


def _put(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error
