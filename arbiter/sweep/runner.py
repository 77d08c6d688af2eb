"""Solves the problems of all points of a sweep: together over one store of answers, or each point alone."""

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio
import msgspec

from arbiter.actors.ring import Ring, open_ring
from arbiter.actors.ring_setup import Models
from arbiter.actors.slots import Occupancy
from arbiter.actors.supervision import services
from arbiter.backends.opening import AnswerForm, answer_form
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.data.tasks import make_task
from arbiter.log.run import Run
from arbiter.log.writer import Show
from arbiter.protocols.errors import RunError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation
from arbiter.protocols.records import Solution
from arbiter.runs.bench import Watcher, cancel_on_signal, grading_notices, run_problems, torn_notice
from arbiter.runs.early_stop import EarlyStop
from arbiter.runs.folder import RunFolder, open_run, record_end
from arbiter.runs.graders import Graders
from arbiter.runs.limit_notes import limit_notes
from arbiter.sweep.answer_cache import AnswerStore, annotated_models
from arbiter.sweep.log_answers import answers_of
from arbiter.sweep.points import SweepPoint
from arbiter.sweep.simulated_times import timed_alone


class SweepJob(msgspec.Struct, frozen=True):
    """The points, the problems, the folder, who is notified, and what grades."""

    points: Sequence[SweepPoint]
    problems: Sequence[Problem]
    out: Path
    watcher: Watcher
    show: Show | None = None
    retry_failed: bool = False
    early: EarlyStop = msgspec.field(default_factory=EarlyStop)
    graders: Graders = msgspec.field(default_factory=Graders)

    @property
    def config(self) -> Config:
        """The configuration of the first point. All points share everything except run type and threshold."""
        return self.points[0].config


async def run_alone(job: SweepJob, models: Models) -> bool:
    """Run the points one after the other. Return whether the sweep ended early. Raises as ``bench``."""
    for point in job.points:
        job.watcher.notice(point.name)
        where = job.out / point.name
        async with open_run(point.config, job.problems, where, job.show, job.retry_failed) as folder:
            summary = await run_problems(
                point.config, job.problems, models, folder, job.watcher, job.early, graders=job.graders
            )
        if summary.interrupted:
            return True
    return False


async def run_together(job: SweepJob, models: Models) -> bool:
    """Run all points concurrently, each problem in all of them at about the same time.

    Return whether the sweep ended early. ``limits.problems`` limits the number of problems in all rings
    together. Answers in the points' event logs are reused. No summary is written, because the times are not known yet.
    Raises ``RunError`` as ``bench``.
    """
    async with AsyncExitStack() as stack:
        folders = [await _opened(stack, job, point) for point in job.points]
        store = AnswerStore(models, annotated_models(job.config), await stack.enter_async_context(services()))
        for folder in folders:
            _refill(store, folder)
        together = _Together(job, folders)
        for line in limit_notes(job.config, models, (problem.question for problem in job.problems)):
            job.watcher.notice(line)
        await together.run(store)
        for folder in folders:
            await record_end(folder.journal, together.interrupted)
    return together.interrupted


async def _opened(stack: AsyncExitStack, job: SweepJob, point: SweepPoint) -> RunFolder:
    timed = partial(timed_alone, config=point.config)
    opening = open_run(point.config, job.problems, job.out / point.name, job.show, job.retry_failed, timed)
    return await stack.enter_async_context(opening)


def _refill(store: AnswerStore, folder: RunFolder) -> None:
    if folder.journal.earlier.sessions:
        for problem in Run.open(folder.path).problems():
            for request, answer in ((one.request, one.answer) for one in answers_of(problem)):
                is_rewritten = isinstance(answer, Generation) and answer.tries > 1
                if not (is_rewritten and request.author == "draft"):  # a policy would have rejected its first try
                    store.keep(request, answer)


def _occupancy(rings: Sequence[Ring]) -> dict[str, Occupancy]:
    """Return the slots of each model, added over all rings."""
    found: dict[str, Occupancy] = {}
    for ring in rings:
        for name, one in ring.occupancy.items():
            known = found.get(name, Occupancy(0, 0, one.limit))
            found[name] = Occupancy(known.taken + one.taken, known.waiting + one.waiting, one.limit)
    return found


class _Together:
    """The rings of all points. Problems enter all of them in the same order."""

    def __init__(self, job: SweepJob, folders: Sequence[RunFolder]) -> None:
        self._job = job
        self._folders = folders
        self._form = AnswerForm(in_thought=False, prompt="")
        self._problems = {problem.id: problem for problem in job.problems}
        self._failures: list[RunError] = []
        self._solving = anyio.CancelScope()

    @property
    def interrupted(self) -> bool:
        return self._solving.cancel_called

    async def run(self, store: AnswerStore) -> None:
        self._notify_start()
        self._form = await answer_form(self._job.config)
        async with anyio.create_task_group() as grading, services() as signals:
            with self._solving:
                await signals.start(cancel_on_signal, self._solving)
                signals.start_soon(self._job.graders.warm, self._job.problems)
                for index, folder in enumerate(self._folders):
                    for solution in folder.ungraded:
                        grading.start_soon(self._finish, index, solution)
                async with AsyncExitStack() as stack:
                    rings = [await self._ring(stack, store, index) for index in range(len(self._folders))]
                    self._job.watcher.solving(lambda: _occupancy(rings))
                    kept, pending = self._job.watcher.kept, self._pending()

                    async def work() -> None:
                        for index, task in pending:
                            watch = partial(kept, task.id, task.sample)
                            solution = await rings[index].solve(task, watch)
                            grading.start_soon(self._finish, index, solution)

                    async with anyio.create_task_group() as workers:
                        for _ in range(self._job.config.limits.problems):
                            workers.start_soon(work)
        if self._failures:
            raise self._failures[0]

    def _notify_start(self) -> None:
        job, earlier = self._job, [result for folder in self._folders for result in folder.results]
        each = len(job.problems) * job.config.sampling.samples
        for line in grading_notices(job.problems, self._job.graders):
            job.watcher.notice(line)
        whole = each * len(job.points)
        if any(folder.journal.earlier.sessions for folder in self._folders):
            job.watcher.notice(f"resuming the sweep: {len(earlier)} of {whole} are done")
        for point, folder in zip(job.points, self._folders, strict=True):
            for line in torn_notice(folder):
                job.watcher.notice(f"{point.name}: {line}")
        job.watcher.started(whole, earlier)

    async def _ring(self, stack: AsyncExitStack, store: AnswerStore, index: int) -> Ring:
        verify, journal = self._job.points[index].config.verify, self._folders[index].journal
        return await stack.enter_async_context(open_ring(store.handles(), journal=journal, verify=verify))

    def _pending(self) -> Iterator[tuple[int, Task]]:
        """Yield unsolved tasks with the index of their point, by problem, so that equal requests come together."""
        for problem in self._job.problems:
            for sample in range(self._job.config.sampling.samples):
                for index, point in enumerate(self._job.points):
                    if not self._folders[index].is_done(problem.id, sample):
                        yield index, make_task(point.config, problem, sample)

    async def _finish(self, index: int, solution: Solution) -> None:
        result = await self._job.graders.result(solution, self._problems[solution.problem], self._form)
        try:
            await self._folders[index].add(result)
        except RunError as error:  # results that cannot be stored are useless: stop solving
            self._failures.append(error)
            self._solving.cancel()
            return
        self._job.watcher.solved(result)
        if self._job.early.add(solution):
            self._solving.cancel()
