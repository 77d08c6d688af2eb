"""The main job: many problems through one ring, graded and stored as they end."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskStatus

from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.backends.opening import open_models, required_tables
from arbiter.config.config import Config
from arbiter.data import Problem, load_problems
from arbiter.data.tasks import make_task
from arbiter.grading.grader import Grader, needs_mathematics
from arbiter.log.writer import Show
from arbiter.protocols.errors import RunError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Solution
from arbiter.runs.folder import RunFolder, check_run, open_run
from arbiter.runs.results import Result, Summary, summary_of


class Watcher(Protocol):
    """Told what happens, while it happens."""

    def loading(self, config: Config) -> None:
        """Models are being loaded."""
        ...

    def notice(self, text: str) -> None:
        """A line for the person who watches: an earlier session of the run was found."""
        ...

    def started(self, solutions: int, earlier: Sequence[Result]) -> None:
        """The first problem is about to be let in; so many solutions are to come, one a problem and sample.

        Those of ``earlier`` sessions of the run are there already.
        """
        ...

    def solved(self, result: Result) -> None:
        """A problem, or one of its samples, has ended and is stored."""
        ...


async def bench(
    config: Config,
    out: Path | None,
    watcher: Watcher,
    show: Show | None = None,
    retry_failed: bool = False,
    problems: Sequence[Problem] | None = None,
) -> tuple[Summary, Path]:
    """Solve and grade the configured problems, or those given; the summary, and the run's folder.

    If ``out`` holds this very run, unfinished, it is continued, with ``retry_failed`` the problems that failed as well.
    ``show`` gets each event that is logged, in another thread. SIGINT or SIGTERM ends the run early: what is done is
    stored, and the summary says ``interrupted``.
    Raises ``ConfigError``, ``DataError``, ``BackendError`` or ``RunError``, before any problem is started
    where that is possible.
    """
    required_tables(config)
    data = config.data
    if problems is None:
        problems = load_problems(data.source, data.limit, fields=data.fields, subset=data.subset, split=data.split)
    if out is not None:
        check_run(config, problems, out)
    watcher.loading(config)
    async with open_models(config) as models, open_run(config, problems, out, show, retry_failed) as folder:
        summary = await run_problems(config, problems, models, folder, watcher)
    return summary, folder.path


async def run_problems(
    config: Config, problems: Sequence[Problem], models: Models, folder: RunFolder, watcher: Watcher
) -> Summary:
    """Solve those of ``problems`` that no earlier session has, and write results and summary into ``folder``."""
    grader, results, failures = Grader(), [*folder.results], list[RunError]()
    references = {problem.id: problem.answer for problem in problems}

    async def finish(solution: Solution) -> None:
        grade = await grader.grade_solution(solution, references[solution.problem])
        try:
            result = await folder.add(solution, grade)
        except RunError as error:  # what cannot be stored need not be solved
            failures.append(error)
            solving.cancel()
            return
        results.append(result)
        watcher.solved(result)

    solutions = len(problems) * config.sampling.samples
    for line in notices(folder, solutions):
        watcher.notice(line)
    watcher.started(solutions, folder.results)
    tasks = _tasks_left(config, problems, folder)
    solving = anyio.CancelScope()
    async with anyio.create_task_group() as grading, services() as signals:

        async def grade_later(solution: Solution) -> None:
            grading.start_soon(finish, solution)

        with solving:
            await signals.start(cancel_on_signal, solving)
            if any(needs_mathematics(reference) for reference in references.values()):
                signals.start_soon(grader.warm)  # while the models write, not when they have answered
            for solution in folder.ungraded:
                await grade_later(solution)
            async with open_ring(
                models, journal=folder.journal, lookahead=config.depth, verify=config.verify, salvage=config.salvage
            ) as ring:
                await solve_all(ring, tasks, config.limits.problems, grade_later)
    if failures:
        raise failures[0]
    summary = summary_of(config, results, round(folder.journal.seconds, 6), solving.cancel_called)
    await folder.finish(summary)
    return summary


def notices(folder: RunFolder, solutions: int) -> Iterator[str]:
    """What has to be said of the earlier sessions of a run."""
    earlier = folder.journal.earlier
    if earlier.sessions:
        under_way = f", {len(earlier.unfinished)} go on from where they were" if earlier.unfinished else ""
        yield f"the run is continued: {len(folder.results)} of {solutions} are there already{under_way}"
    if earlier.torn:
        yield f"the last line of its log was half written ({earlier.torn} bytes) and has been cut off"


def _tasks_left(config: Config, problems: Sequence[Problem], folder: RunFolder) -> Iterator[Task]:
    """One problem's samples stand together: they share a prefix, and a run that is cut short has whole problems."""
    for problem in problems:
        for sample in range(config.sampling.samples):
            if not folder.is_done(problem.id, sample):
                yield make_task(config, problem, sample)


async def cancel_on_signal(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    """Cancel at the first signal; a second one has its usual effect."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return
