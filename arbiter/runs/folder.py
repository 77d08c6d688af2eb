"""The run folder: all files that a run writes, each written as the run proceeds.

::

    events.jsonl    the event log; the result files are derived from it (``docs/reference/log.md``)
    events/         only with several workers: the segments of the event log, one of each start of a worker
    config.toml     the resolved configuration: ``arbiter bench FOLDER/config.toml`` repeats the run
    problems.jsonl  only if the grader needs them: the problems with their choices and rows
    versions.json   versions of Arbiter, Python and the packages that can change results
    results.jsonl   one line per problem, or per sample (``Result``), in the order in which they ended
    rows.jsonl      generate runs only: one training row per step (``TrainingRow``)
    rollouts.jsonl  only of a collection with rollouts: what each step is worth for the answer (``StepValue``)
    summary.json    the figures of the run (``arbiter.runs.results.Summary``)
"""

import importlib.metadata
import os
import platform
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path

import msgspec

from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.data.training_rows import training_rows
from arbiter.grading import Grade
from arbiter.log.checksums import as_line
from arbiter.log.history import Key
from arbiter.log.identity import identity
from arbiter.log.reader import LOG
from arbiter.log.recorder import Recorder
from arbiter.log.redaction import judgement_without_text, without_text, without_token_ids
from arbiter.log.resume import EarlierSessions
from arbiter.log.run import SHARED
from arbiter.log.sessions import check_same, open_journal
from arbiter.log.writer import Show
from arbiter.protocols.errors import RunError, os_reason
from arbiter.protocols.events import Graded, RunEnded
from arbiter.protocols.ids import graded_id, run_ended_id
from arbiter.protocols.records import Record, Solution
from arbiter.runs import stored_config
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.finding import refuse_last
from arbiter.runs.record_files import check_count as check_count
from arbiter.runs.record_files import read_records as read_records
from arbiter.runs.record_files import read_results as read_results
from arbiter.runs.results import Result, Summary
from arbiter.runs.stored_config import check_replaceable
from arbiter.runs.stored_problems import write_problems
from arbiter.runs.stored_summary import write_summary

Timed = Callable[[Solution], Solution]
"""A function that returns a solution with its seconds replaced, for runs whose times are simulated."""

_PACKAGES = (
    *("arbiter-reasoning", "anyio", "msgspec", "math-verify", "jsonschema-rs"),
    *("torch", "transformers", "tokenizers", "llguidance"),
)


class RunFolder:
    """The folder of a run in progress. Made by ``open_run``.

    ``results`` has the results of earlier sessions, in their order. ``ungraded`` has their solutions without a grade.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        problems: Sequence[Problem],
        journal: Recorder,
        retry_failed: bool,
        timed: Timed,
    ) -> None:
        self.path = path
        self.journal = journal
        self._timed = timed
        self._config = config
        self._whole = config.log.record == "full"
        self._problems = {problem.id: problem for problem in problems}
        self._files: dict[str, FileIO] = {}
        self.results: list[Result] = []
        self.ungraded: list[Solution] = []
        self._done = _kept(journal.earlier, self._whole, retry_failed)
        for key, solution in self._done.items():
            grade = journal.earlier.grades.get(key)
            if grade is not None:
                self.results.append(self._stored(self._recorded(solution, grade)))
            else:
                self.ungraded.append(solution)

    def is_done(self, problem: str, sample: int) -> bool:
        """Return whether an earlier session solved this sample of the problem."""
        return (problem, sample) in self._done

    def open(self, files: ExitStack) -> None:
        """Write the results of earlier sessions. Raises ``RunError``."""
        with self._disk_errors_as_run_errors():
            (self.path / "summary.json").unlink(missing_ok=True)  # it is from an earlier session
            for name in ("results.jsonl", "rows.jsonl") if self._config.run_type == "generate" else ("results.jsonl",):
                self._files[name] = files.enter_context((self.path / name).open("wb", buffering=0))
            self._spare = files.enter_context(Path(os.devnull).open("rb", buffering=0))  # noqa: SIM115 - closed with ``files``
        for result in self.results:
            self._append(result)

    async def add(self, result: Result) -> None:
        """Store a graded solution. A generate run also stores the training rows. Raises ``RunError``."""
        await record_grade(self.journal, result)
        self._append(self._stored(result))

    async def finish(self, summary: Summary) -> None:
        """Write the summary, and log the end of the session. Raises ``RunError`` if the folder cannot be written."""
        self._spare.close()  # so that the summary can be written even if requests use all other descriptors
        write_summary(self.path, summary)
        await record_end(self.journal, summary.interrupted)

    def _recorded(self, solution: Solution, grade: Graded) -> Result:
        """Return the result of an earlier session."""
        reference = self._problems[solution.problem].answer
        return Result(solution, Grade.recorded(grade), reference, grade.grader, grade.grader_name)

    def _stored(self, result: Result) -> Result:
        """Return the result as this folder stores it: without texts if the log leaves them out."""
        solution, grade = self._timed(result.solution), result.grade
        if self._whole:
            return msgspec.structs.replace(result, solution=without_token_ids(solution))
        judgement = judgement_without_text(grade.judgement) if grade.judgement else msgspec.UNSET
        hidden = Grade(grade.right, found_by=grade.found_by, judgement=judgement)
        return msgspec.structs.replace(result, solution=without_text(solution), grade=hidden, reference=None)

    def _append(self, result: Result) -> None:
        self._write("results.jsonl", result)
        if "rows.jsonl" in self._files:
            problem = self._problems[result.solution.problem]
            for row in training_rows(result.solution):
                self._write("rows.jsonl", msgspec.structs.replace(row, source=problem.source, split=problem.split))

    def _write(self, name: str, record: Record) -> None:
        with self._disk_errors_as_run_errors():
            line = memoryview(as_line(msgspec.json.encode(record)))
            while line:
                line = line[self._files[name].write(line) :]

    @contextmanager
    def _disk_errors_as_run_errors(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"cannot write the run folder {self.path}: {os_reason(error)}") from error


@asynccontextmanager
async def open_run(
    config: Config,
    problems: Sequence[Problem],
    out: Path | None,
    show: Show | None = None,
    retry_failed: bool = False,
    shared: Timed | None = None,
) -> AsyncGenerator[RunFolder]:
    """Open the folder of a new run, or of a run to resume. ``show`` receives each written event, in another thread.

    With ``retry_failed``, problems that failed in earlier sessions are solved again from the beginning. ``shared`` is
    for a run that reuses answers of other runs: it sets the time that each solution would have taken.

    Raises ``RunError`` if the folder holds another run, is being written by another process, is damaged, or cannot be
    written. If writing fails inside the block, the block is cancelled and ``RunError`` is raised from it.
    """
    path = run_path(out, config.run_type)
    _refuse_without_log(path, config)
    what = identity(config, problems) | (SHARED if shared else {})
    log, prepare = config.log, partial(_about_problems, path, config, problems)
    opening = open_journal(path / LOG, what, versions(), log.record, log.sync, show, prepare=prepare)
    async with opening as journal:
        with ExitStack() as files:
            folder = RunFolder(path, config, problems, journal, retry_failed, shared or _as_measured)
            folder.open(files)
            yield folder


def about_run(path: Path, config: Config) -> None:
    """Write the configuration and the versions of a run into its folder. Raises ``RunError``.

    A file that holds the same configuration stays as it is, with its comments.
    """
    stored_config.write(path, config)
    replace_file(path / "versions.json", msgspec.json.format(msgspec.json.encode(versions())))


def _about_problems(path: Path, config: Config, problems: Sequence[Problem]) -> None:
    about_run(path, config)
    write_problems(path, config, problems)


async def record_grade(journal: Recorder, result: Result) -> None:
    """Log the grade of a result."""
    solution, grade = result.solution, result.grade
    reference = msgspec.to_builtins(result.reference)
    graded = Graded(
        grade.right,
        grade.answer,
        grade.reason,
        reference,
        grade.found_by,
        result.grader,
        result.grader_name,
        grade.judgement or None,
    )
    await journal.record(graded_id(solution.problem, solution.sample), graded, solution.problem, solution.sample)


async def record_end(journal: Recorder, interrupted: bool) -> None:
    """Log the regular end of this session. It is the last event of the session."""
    journal.write_carried()
    await journal.record(run_ended_id(journal.earlier.sessions), RunEnded(interrupted))


def check_run(config: Config, problems: Sequence[Problem], out: Path, shared: bool = False) -> None:
    """Raise ``RunError`` if ``out`` holds a different run. Call it before anything is loaded."""
    _refuse_without_log(out, config)
    check_same(out / LOG, identity(config, problems) | (SHARED if shared else {}))


def is_solved(config: Config, problems: Sequence[Problem], out: Path, retry_failed: bool) -> bool:
    """Return whether the run in ``out`` has nothing left to solve. Its whole log is read.

    Raises ``RunError`` if the log is damaged. Call it before anything is loaded.
    """
    done = _kept(EarlierSessions(out / LOG), config.log.record == "full", retry_failed)
    return all((problem.id, sample) in done for problem in problems for sample in range(config.sampling.samples))


def _kept(earlier: EarlierSessions, whole: bool, retry_failed: bool) -> dict[Key, Solution]:
    """Return the solutions of earlier sessions that are not solved again.

    Without texts in the log (not ``whole``) a solution that has no grade cannot be graded.
    """
    return {
        key: solution
        for key, solution in earlier.solutions.items()
        if (whole or key in earlier.grades) and not (retry_failed and solution.finish_reason == "failed")
    }


def _as_measured(solution: Solution) -> Solution:
    return solution


def _refuse_without_log(path: Path, config: Config) -> None:
    refuse_last(path)
    try:
        if path.exists() and not path.is_dir():
            raise RunError(f"cannot write the run folder {path}: it is a file; choose another folder with --out")
        has_log = (path / LOG).exists()
        without_log = not has_log and (path / "results.jsonl").exists()
    except OSError as error:  # not a valid name for a folder
        raise RunError(f"cannot write the run folder {path}: {os_reason(error)}") from error
    if without_log:
        raise RunError(f"{path} holds a run without its event log ({LOG}): choose another folder with --out")
    if not has_log:
        check_replaceable(path, config)


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that can change results.

    Packages that are not installed are left out.
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def run_path(out: Path | None, kind: str) -> Path:
    """Return the folder ``out`` for a run, or without it ``runs/TIME-KIND``, with a number appended if that exists.

    Raises ``RunError`` if ``out`` is the name of the newest run.
    """
    if out is not None:
        refuse_last(out)
        return out
    base = Path("runs") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path
