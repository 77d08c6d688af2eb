"""The main job: many problems through one ring, graded and stored as they end."""

import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskStatus

from actors.supervision import services
from arbiter.backends.opening import open_models, required_tables
from arbiter.config import Config
from arbiter.data import Problem, load_problems
from arbiter.grading import Grade, Grader
from arbiter.results import Result, Summary, summarise
from arbiter.ring import Models, open_ring, solve_all
from arbiter.runs import RunFolder
from protocols.errors import RunError
from protocols.messages import Task
from protocols.records import Solution, Transcript


class Watcher(Protocol):
    """Told what happens, while it happens."""

    def loading(self, config: Config) -> None:
        """Models are being loaded."""
        ...

    def started(self, problems: int) -> None:
        """The first problem is about to be let in."""
        ...

    def solved(self, result: Result) -> None:
        """A problem has ended and is stored."""
        ...


def make_task(config: Config, problem: Problem) -> Task:
    """A problem as the ring takes it."""
    return Task(
        id=problem.id,
        transcript=Transcript(problem.question),
        policy=config.policy(),
        limits=config.problem_limits(),
        sampling=config.problem_sampling(),
        separator=config.separator,
        seed=config.seed,
        audit=config.audit,
    )


async def bench(config: Config, out: Path | None, watcher: Watcher) -> tuple[Summary, Path]:
    """Solve and grade the configured problems; the summary, and the run's folder.

    SIGINT or SIGTERM ends it early: what is done is stored, and the summary says ``interrupted``.
    Raises ``ConfigError``, ``DataError``, ``BackendError`` or ``RunError``, before any problem is started
    where that is possible.
    """
    required_tables(config)
    problems = load_problems(config.data.source, config.data.limit)
    async with AsyncExitStack() as stack:
        watcher.loading(config)
        models = await stack.enter_async_context(open_models(config))
        folder = stack.enter_context(RunFolder(config, out))
        summary = await run_problems(config, problems, models, folder, watcher)
    return summary, folder.path


async def run_problems(
    config: Config, problems: list[Problem], models: Models, folder: RunFolder, watcher: Watcher
) -> Summary:
    """Solve ``problems`` with ``models``, and write results and summary into ``folder``."""
    grader, results, failures = Grader(), list[Result](), list[RunError]()
    references = {problem.id: problem.answer for problem in problems}

    async def finish(solution: Solution) -> None:
        reference = references[solution.problem]
        if solution.finish == "failed":
            grade = Grade(right=None, reason=solution.error)
        else:
            grade = await grader.grade(solution.text(config.separator), reference)
        result = Result(solution=solution, grade=grade, reference=reference)
        try:
            folder.add(result)
        except RunError as error:  # what cannot be stored need not be solved
            failures.append(error)
            solving.cancel()
            return
        results.append(result)
        watcher.solved(result)

    watcher.started(len(problems))
    started = time.monotonic()
    tasks = (make_task(config, problem) for problem in problems)
    solving = anyio.CancelScope()
    async with anyio.create_task_group() as grading, services() as signals:

        async def grade_later(solution: Solution) -> None:
            grading.start_soon(finish, solution)

        with solving:
            await signals.start(_cancel_on_signal, solving)
            async with open_ring(models) as ring:
                await solve_all(ring, tasks, config.limits.problems, grade_later)
    if failures:
        raise failures[0]
    seconds = time.monotonic() - started
    summary = summarise(results, config.run_type, config.threshold, seconds, solving.cancel_called)
    folder.finish(summary)
    return summary


async def _cancel_on_signal(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    """Cancel at the first signal; a second one has its usual effect."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return
