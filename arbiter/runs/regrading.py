"""Grade a run again: new grades and a new summary from the stored solutions, without calling a model."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec

from arbiter.backends.opening import answer_form
from arbiter.config.config import Config, load_config
from arbiter.data import Problem
from arbiter.grading import Grade
from arbiter.log.checksums import as_line
from arbiter.log.identity import check_unchanged, grader_name, recorded_grader
from arbiter.log.reader import LOG
from arbiter.log.resume import EarlierSessions
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.errors import RunError
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.folder import check_count, read_results, record_end, record_grade, versions
from arbiter.runs.graders import Graders, open_graders
from arbiter.runs.results import Result, Summary, summary_of
from arbiter.runs.stored_problems import problem_of, read_problems
from arbiter.runs.stored_summary import StoredSummary, read_summary, write_summary

Progress = Callable[[int, int], None]
"""Called with the number of graded results and the number of all results."""


class GradeChange(msgspec.Struct, frozen=True):
    """A result with another verdict than before. Both grades have their reasons."""

    problem: str
    sample: int
    before: Grade
    after: Grade


class Regraded(msgspec.Struct, frozen=True):
    """The outcome of grading a run again. ``torn``: an incomplete last line of the results was left out."""

    run: str
    summary: Summary
    changes: tuple[GradeChange, ...]
    torn: bool


async def regrade(folder: Path, progress: Progress = lambda _done, _of: None) -> Regraded:
    """Grade the run in ``folder`` again with its grader, and replace its grades and summary.

    The files are replaced after everything is graded: an interruption leaves the folder unchanged. Raises ``RunError``
    or ``ConfigError`` naming the folder, the file and the line.
    """
    config, path = _config_of(folder), folder / "results.jsonl"
    if config.log.record != "full":
        raise RunError(
            f"{folder} was recorded with log.record = {config.log.record!r}: it has no text to grade; only runs with "
            "log.record = 'full' can be graded again"
        )
    name = grader_name(config, ())
    if (folder / LOG).is_file():
        recorded = Run.open(folder).started.identity
        check_unchanged(folder / "config.toml", config, recorded)
        name = recorded_grader(recorded)
    before_grading = _state(path)
    results, torn = read_results(path)
    ending = _ending(folder, len(results))
    graded = await _all_graded(results, config, read_problems(folder, name), progress)
    summary = _summary(folder, config, graded, ending)
    if _state(path) != before_grading:
        raise RunError(f"{path} changed during grading: is the run still in progress? Grade it after it has ended")
    changed = [after for before, after in zip(results, graded, strict=True) if before != after]
    await _record(folder / LOG, changed, summary.interrupted)
    replace_file(path, b"".join(as_line(msgspec.json.encode(result)) for result in graded))
    write_summary(folder, summary)
    changes = (_change(before, after) for before, after in zip(results, graded, strict=True))
    return Regraded(str(folder), summary, tuple(change for change in changes if change is not None), torn)


async def _all_graded(
    results: list[Result], config: Config, stored: dict[str, Problem], progress: Progress
) -> list[Result]:
    graded, problems = dict[int, Result](), [problem_of(result, stored) for result in results]
    form = await answer_form(config)

    async def grade(graders: Graders, index: int, result: Result) -> None:
        solution = msgspec.structs.replace(
            result.solution, separator=config.separator
        )  # older results lack the separator
        again = await graders.result(solution, problems[index], form)
        graded[index] = msgspec.structs.replace(again, solution=result.solution)
        progress(len(graded), len(results))

    async with open_graders(config) as graders, anyio.create_task_group() as grading:
        for index, result in enumerate(results):
            grading.start_soon(grade, graders, index, result)
    return [graded[index] for index in range(len(results))]


def _config_of(folder: Path) -> Config:
    if not folder.is_dir():
        raise RunError(f"there is no run folder {str(folder)!r}; arbiter runs lists the runs")
    path = folder / "config.toml"
    if not path.is_file():
        raise RunError(
            f"{str(folder)!r} is not a run folder: it has no {path.name}; name a folder that `arbiter bench` wrote"
        )
    return load_config(str(path))


def _ending(folder: Path, results: int) -> StoredSummary | None:
    """Return what the old summary has; None if there is none. Raises ``RunError`` if it counted other ``results``."""
    old = read_summary(folder, StoredSummary)
    if old is not None:
        check_count(folder, results, old.decoded)
    return old


def _summary(folder: Path, config: Config, results: list[Result], old: StoredSummary | None) -> Summary:
    """Return the new summary, with the time, the interruption and the memory of the old one.

    A killed run has no summary: the new one then has no wall time and counts as interrupted.
    """
    if old is None:
        shared = (folder / LOG).exists() and Run.open(folder).is_shared
        killed = summary_of(config, results, wall_seconds=None, interrupted=True)
        return msgspec.structs.replace(killed, simulated=shared)
    return old.added_to(summary_of(config, results, wall_seconds=None))


def _change(before: Result, after: Result) -> GradeChange | None:
    if before.grade.right is after.grade.right:
        return None
    return GradeChange(before.solution.problem, before.solution.sample, before.grade, after.grade)


async def _record(log: Path, results: list[Result], interrupted: bool) -> None:
    """Log the new grades if the run has an event log: a resumed run takes its grades from it."""
    started = EarlierSessions(log).started if results else None
    if started is None:
        return
    async with open_journal(log, started.identity, versions(), started.record) as journal:
        for result in results:
            await record_grade(journal, result)
        await record_end(journal, interrupted)


def _state(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    return None
