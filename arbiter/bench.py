"""The main job: many problems through one ring, graded and stored as they end."""

import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import anyio
from anyio.abc import TaskStatus

from actors.seeds import sample_seed
from actors.supervision import services
from arbiter.backends.opening import open_models, required_tables
from arbiter.config import Config
from arbiter.data import Problem, load_problems
from arbiter.grading.grader import Grader, needs_mathematics
from arbiter.results import Result, Summary, summary_of
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

    def started(self, solutions: int) -> None:
        """The first problem is about to be let in; so many solutions are to come, one a problem and sample."""
        ...

    def solved(self, result: Result) -> None:
        """A problem, or one of its samples, has ended and is stored."""
        ...


def make_task(config: Config, problem: Problem, sample: int = 0) -> Task:
    """A problem as the ring takes it, for the decoding of the number ``sample``."""
    return Task(
        id=problem.id,
        transcript=Transcript(problem.question),
        policy=config.policy(),
        limits=config.problem_limits(),
        sampling=config.problem_sampling(),
        separator=config.separator,
        seed=sample_seed(config.seed, sample),
        audit=config.audit,
        sample=sample,
    )


async def bench(config: Config, out: Path | None, watcher: Watcher) -> tuple[Summary, Path]:
    """Solve and grade the configured problems; the summary, and the run's folder.

    SIGINT or SIGTERM ends it early: what is done is stored, and the summary says ``interrupted``.
    Raises ``ConfigError``, ``DataError``, ``BackendError`` or ``RunError``, before any problem is started
    where that is possible.
    """
    required_tables(config)
    data = config.data
    problems = load_problems(data.source, data.limit, fields=data.fields, subset=data.subset, split=data.split)
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
        grade = await grader.grade_solution(solution, config.separator, reference)
        result = Result(solution=solution, grade=grade, reference=reference)
        try:
            folder.add(result)
        except RunError as error:  # what cannot be stored need not be solved
            failures.append(error)
            solving.cancel()
            return
        results.append(result)
        watcher.solved(result)

    samples = config.sampling.samples
    watcher.started(len(problems) * samples)
    started = time.monotonic()
    # one problem's samples stand together: they share a prefix, and a run that is cut short has whole problems
    tasks = (make_task(config, problem, sample) for problem in problems for sample in range(samples))
    solving = anyio.CancelScope()
    async with anyio.create_task_group() as grading, services() as signals:

        async def grade_later(solution: Solution) -> None:
            grading.start_soon(finish, solution)

        with solving:
            await signals.start(_cancel_on_signal, solving)
            if any(needs_mathematics(reference) for reference in references.values()):
                signals.start_soon(grader.warm)  # while the models write, not when they have answered
            async with open_ring(models) as ring:
                await solve_all(ring, tasks, config.limits.problems, grade_later)
    if failures:
        raise failures[0]
    seconds = time.monotonic() - started
    summary = summary_of(config, results, seconds, solving.cancel_called)
    folder.finish(summary)
    return summary


async def _cancel_on_signal(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    """Cancel at the first signal; a second one has its usual effect."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return
