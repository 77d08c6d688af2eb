"""Run a benchmark: solve many problems with one ring, and grade and store each solution when it ends."""

import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import anyio
import msgspec
from anyio.abc import TaskStatus

from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.slots import Occupancy
from arbiter.actors.supervision import services
from arbiter.backends.opening import answer_form, required_tables
from arbiter.config.config import Config
from arbiter.config.model_tables import RouterTable
from arbiter.data import Problem, load_problems
from arbiter.data.tasks import make_task
from arbiter.grading.found_graders import reads_row
from arbiter.log.writer import Show
from arbiter.protocols.errors import ArbiterError, ConfigError, RunError
from arbiter.protocols.model_traits import KeepsKeysAndValues, KVMemory, ReadsSteps
from arbiter.protocols.records import Solution, StepRecord
from arbiter.runs.answer_times import logged_times
from arbiter.runs.early_stop import EarlyStop
from arbiter.runs.folder import RunFolder, check_run, is_solved, open_run
from arbiter.runs.graders import Graders, open_graders, with_rows
from arbiter.runs.limit_notes import handles_of, limit_notes
from arbiter.runs.model_opening import open_models
from arbiter.runs.results import Result, Summary, summary_of
from arbiter.runs.run_plan import run_plan
from arbiter.runs.solvers import ProblemSolver, SolvingCost, solved_elsewhere
from arbiter.runs.stored_summary import read_summary

_NOT_COMPUTED = ("wall_seconds", "cpu_seconds", "kv_memory", "comparison", "steps_as_text")


class Watcher(Protocol):
    """Receives the progress of a run as it happens."""

    def loading(self, config: Config, tables: Mapping[str, RouterTable] | None = None) -> None:
        """The models are being loaded: those that ``config`` calls, or the ``tables`` of a sweep over run types."""
        ...

    def notice(self, text: str) -> None:
        """Show ``text``, a line for the user, for example about an earlier session of the run."""
        ...

    def started(self, solutions: int, earlier: Sequence[Result]) -> None:
        """The first problem is about to start. ``solutions`` counts all solutions, one per problem and sample.

        It includes the results of ``earlier`` sessions of the run.
        """
        ...

    def solving(self, occupancy: Callable[[], Mapping[str, Occupancy]]) -> None:
        """The ring is open. ``occupancy`` returns the slots of each model, also when another thread calls it."""
        ...

    def kept(self, problem: str, sample: int, step: StepRecord) -> None:
        """A step of a problem that has not ended is kept."""
        ...

    def solved(self, result: Result) -> None:
        """A problem, or one of its samples, has ended, and its result is stored."""
        ...


async def bench(
    config: Config,
    out: Path | None,
    watcher: Watcher,
    *,
    show: Show | None = None,
    retry_failed: bool = False,
    problems: Sequence[Problem] | None = None,
    fail_fast: bool = False,
    solver: ProblemSolver | None = None,
) -> tuple[Summary, Path]:
    """Solve and grade ``problems`` (default: the configured ones). Return the summary and the path of the run folder.

    If ``out`` holds the same run, unfinished, the run is resumed. With ``retry_failed``, failed problems are solved
    again. If nothing is left to solve, no model is opened. ``show`` receives each logged event, in another thread.
    SIGINT or SIGTERM ends the run early: all finished solutions are stored, and the summary has ``interrupted`` set.
    With ``fail_fast`` the run also ends early if the first problems to end have all failed for one cause
    (``arbiter.runs.early_stop``), which is then in ``stopped``. ``solver`` solves the problems in other processes,
    which open the models; None: the ring of this process does.

    Raises ``ConfigError``, ``DataError``, ``BackendError`` or ``RunError``, where possible before the first problem
    starts.
    """
    required_tables(config)
    if solver is not None:
        solver.check(config)
    if problems is None:
        problems = configured_problems(config)
    solved = None
    if out is not None:
        check_run(config, problems, out)
        if is_solved(config, problems, out, retry_failed):
            solved = _measured(out)
    if solved is None:
        watcher.loading(config)
    opening = open_models(config) if solved is None and solver is None else nullcontext(Models())
    early, measured = EarlyStop(fail_fast), solved or {}
    async with open_graders(config) as graders, opening as models:
        check_tools(config, problems, models)
        async with open_run(config, problems, out, show, retry_failed) as folder:
            for line in run_plan(config, len(problems), models) if solved is None else ():
                watcher.notice(line)
            if solved is not None:
                solver = None  # nothing is left, and no process is started
            summary = await run_problems(config, problems, models, folder, watcher, early, measured, graders, solver)
    return summary, folder.path


def _measured(folder: Path) -> dict[str, Any]:
    """Return the figures of the stored summary that a session without models cannot measure; empty without one."""
    with suppress(RunError):  # it is damaged: what the log has must do
        stored = read_summary(folder, Summary)
        if stored is not None:
            return {name: getattr(stored, name) for name in _NOT_COMPUTED}
    return {}


def configured_problems(config: Config) -> Sequence[Problem]:
    """Return the problems of the configuration. Raises ``DataError`` if they cannot be read."""
    data = config.data
    problems = load_problems(
        data.source,
        data.limit,
        fields=data.fields,
        subset=data.subset,
        split=data.split,
        prompt=data.prompt,
        seed=config.seed,
    )
    return with_rows(config, problems)


async def run_problems(
    config: Config,
    problems: Sequence[Problem],
    models: Models,
    folder: RunFolder,
    watcher: Watcher,
    early: EarlyStop | None = None,
    measured: Mapping[str, Any] = MappingProxyType({}),
    graders: Graders | None = None,
    solver: ProblemSolver | None = None,
) -> Summary:
    """Solve the ``problems`` that no earlier session solved, until ``early`` stops the run.

    ``graders`` grade them; None: those that need no configuration. ``solver`` is as in ``bench``.
    Write results and summary into ``folder``. The figures ``measured`` by an earlier session replace those of this one.
    """
    cpu_before, early = time.process_time(), early or EarlyStop()
    graders, results, failures = graders or Graders(), [*folder.results], list[ArbiterError]()
    known = {problem.id: problem for problem in problems}
    form = await answer_form(config)

    async def finish(solution: Solution) -> None:
        result = await graders.result(solution, known[solution.problem], form)
        try:
            await folder.add(result)
        except RunError as error:  # solving more is useless if results cannot be stored
            failures.append(error)
            solving.cancel()
            return
        results.append(result)
        watcher.solved(result)
        if early.add(solution):
            solving.cancel()

    solutions = len(problems) * config.sampling.samples
    notes = limit_notes(config, models, (problem.question for problem in problems))
    for line in (*grading_notices(problems, graders), *notices(folder, solutions), *notes):
        watcher.notice(line)
    watcher.started(solutions, folder.results)
    left, spent = _left(config, problems, folder), SolvingCost(0.0 if solver is None else None)
    solving = anyio.CancelScope()
    async with anyio.create_task_group() as grading, services() as signals:

        async def grade_later(solution: Solution) -> None:
            grading.start_soon(finish, solution)

        with solving:
            await signals.start(cancel_on_signal, solving)
            signals.start_soon(graders.warm, problems)  # now, so that no answer has to wait for it
            for solution in folder.ungraded:
                await grade_later(solution)
            if solver is None:
                await _solve_here(config, models, folder, left, grade_later, watcher)
            else:
                spent = await solved_elsewhere(solver, config, folder, left, grade_later, watcher, failures)
    if failures:
        raise failures[0]
    wall, cpu = round(folder.journal.seconds, 6), round(time.process_time() - cpu_before, 6)
    alone = None if folder.journal.earlier.sessions or spent.cpu_seconds is None else cpu + spent.cpu_seconds
    summary = summary_of(config, results, wall, solving.cancel_called, alone)
    of_models = {
        "kv_memory": {**spent.kv_memory, **kv_memory(models)},
        "steps_as_text": {**spent.steps_as_text, **steps_as_text(models)} if config.token_exact else {},
    }
    summary = msgspec.structs.replace(summary, **{**of_models, "stopped": early.cause, **measured})
    times = await logged_times(folder.path, folder.journal, config.serve.slo, summary.wall_seconds)
    summary = msgspec.structs.replace(summary, stream_times=times)
    await folder.finish(summary)
    return summary


def kv_memory(models: Models) -> dict[str, KVMemory]:
    """Return the memory of those models that keep keys and values, by the names of their tables after ``models.``."""
    ports = {name: handle.port for name, handle in handles_of(models).items()}
    memory = {name: port.kv_memory for name, port in ports.items() if isinstance(port, KeepsKeysAndValues)}
    return {name: used for name, used in memory.items() if used is not None}


def steps_as_text(models: Models) -> dict[str, str]:
    """Return why models read their own steps as text, by the names of their tables, for those that do."""
    ports = {name: handle.port for name, handle in handles_of(models).items()}
    reasons = {name: port.without_token_ids for name, port in ports.items() if isinstance(port, ReadsSteps)}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def check_tools(config: Config, problems: Sequence[Problem], models: Models) -> None:
    """Raise ``ConfigError`` that names a problem whose tools a model cannot be offered."""
    for problem in problems:
        try:
            models.require_tools(config.policy(), problem.transcript)
        except ConfigError as error:
            raise ConfigError(f"the problem {problem.id!r} cannot be solved: {error}") from error


def notices(folder: RunFolder, solutions: int) -> Iterator[str]:
    """Yield the lines that inform the user about earlier sessions of the run."""
    earlier = folder.journal.earlier
    if earlier.sessions:
        unfinished = f", {len(earlier.unfinished)} continue where they stopped" if earlier.unfinished else ""
        yield f"resuming the run: {len(folder.results)} of {solutions} are done{unfinished}"
    yield from torn_notice(folder)


def torn_notice(folder: RunFolder) -> Iterator[str]:
    """Yield a line if the end of the run's event log was incomplete."""
    if torn := folder.journal.earlier.torn:
        yield f"removed the incomplete last line of the event log ({torn} bytes)"


def grading_notices(problems: Sequence[Problem], graders: Graders) -> Iterator[str]:
    """Yield the lines about grading: that of the grader, and one if problems lack the answer that their grader needs.

    Graders that read rows may need none.
    """
    if graders.notice is not None:
        yield graders.notice
    lacking = sum(problem.answer is None and not reads_row(graders.of(problem).name) for problem in problems)
    if lacking:
        which = "no problem has" if lacking == len(problems) else f"{lacking} of {len(problems)} problems do not have"
        yield (
            f"{which} a recognised answer, so they will not be graded: name the field of the answer in the "
            'configuration ([data] fields = {answer = "…"}), or the grader of tasks with tests ([data] grader = "code")'
        )


def _left(config: Config, problems: Sequence[Problem], folder: RunFolder) -> Iterator[tuple[Problem, int]]:
    """Yield the problems and samples that are not done yet, the samples of a problem one after another.

    The samples share a prefix that servers can cache, and an interrupted run then has complete problems.
    """
    for problem in problems:
        for sample in range(config.sampling.samples):
            if not folder.is_done(problem.id, sample):
                yield problem, sample


async def _solve_here(
    config: Config,
    models: Models,
    folder: RunFolder,
    left: Iterable[tuple[Problem, int]],
    done: Callable[[Solution], Awaitable[None]],
    watcher: Watcher,
) -> None:
    tasks = (make_task(config, problem, sample) for problem, sample in left)
    async with open_ring(
        models,
        journal=folder.journal,
        lookahead=config.depth,
        verify=config.verify,
        salvage=config.salvage,
        block=config.block,
    ) as ring:
        watcher.solving(lambda: ring.occupancy)
        await solve_all(ring, tasks, config.limits.problems, done, watcher.kept)


async def cancel_on_signal(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    """Cancel ``scope`` at the first signal. A second signal has its usual effect."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return
