"""Solve the problems of a run with workers on Ray: start them, take their solutions, and replace those that die."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec

from arbiter.actors.slots import Occupancy
from arbiter.config.config import Config
from arbiter.config.model_tables import ServedTable
from arbiter.distributed import ray_library
from arbiter.distributed.ledger_service import LedgerPlan
from arbiter.distributed.published_servers import hosts_of, with_hosts
from arbiter.distributed.ray_actors import Delivered, Hello, RayLedger, RayWorker, WorkerReport
from arbiter.distributed.ray_library import (
    PAUSE,
    Handle,
    answered,
    check_versions,
    end_actors,
    error_of,
    first_line,
    until_gone,
)
from arbiter.distributed.segment_worker import Finished, SessionPlace
from arbiter.distributed.shared_limits import ServerLimit, divided
from arbiter.protocols.errors import ArbiterError, ConfigError, RunError
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import Solution
from arbiter.runs.solvers import OpenSession, SolvingCost, SolvingWatcher

_TRIES = 5  # times that a worker may die without a solution in between
_ENDING = 20.0  # seconds that workers have to end
_CALLS = 1000  # calls of an actor that may run at the same time: most of them wait

Done = Callable[[Solution], Awaitable[None]]
_encode = msgspec.json.encode


class RayPlace(NamedTuple):
    """The workers of a run on Ray: see ``arbiter.config.ray_table.RayTable``."""

    address: str
    workers: int
    num_cpus: float = 1.0
    lease: float = 30.0


class RaySolver:
    """A ``ProblemSolver`` whose workers are actors on Ray."""

    def __init__(self, place: RayPlace) -> None:
        self._place = place

    def check(self, config: Config) -> None:
        workers = self._place.workers
        if config.budget is not None:
            raise ConfigError(
                f"budget = {config.budget:g} moves one threshold over all steps of a run, in their order, and workers "
                "have no common order: leave out --workers, or set a threshold (arbiter tune finds one for a budget)"
            )
        if config.limits.problems < workers:
            raise ConfigError(
                f"limits.problems is {config.limits.problems}, and {workers} workers need one problem each at least: "
                "raise it (--concurrency), or use fewer --workers"
            )
        for name, limit in server_limits(config).items():
            if limit.most < workers:
                raise ConfigError(
                    f"models.{name}.in_flight is {limit.most}, and {workers} workers share it, one request each at "
                    "least: raise it, or use fewer --workers"
                )
        ray_library.ray_module()

    async def solve(self, session: OpenSession, done: Done, watcher: SolvingWatcher) -> SolvingCost:
        place = self._place
        cpus = place.workers * place.num_cpus
        ray = await anyio.to_thread.run_sync(ray_library.connect, place.address, cpus, abandon_on_cancel=True)
        try:
            hosts = await hosts_of(ray, session.config, watcher.notice)
            # the cluster's processes have another working directory than this one
            session = replace(session, config=with_hosts(session.config, hosts), log=session.log.absolute())
            async with _started(ray, place, session) as crew:
                watcher.solving(lambda: crew.occupancy)
                return await crew.solve(done, watcher)
        except ray.exceptions.RayError as error:
            text = f"the Ray cluster failed: {first_line(error)}. The run can be resumed, also without Ray"
            raise RunError(text) from error


class _Crew:
    """The actors of a session."""

    def __init__(
        self, ray: Handle, session: OpenSession, ledger: Handle, workers: Mapping[str, Handle], kept: object
    ) -> None:
        self._ray = ray
        self._session = session
        self._ledger = ledger
        self._kept = kept
        self.workers = workers
        self._left = {(problem.id, sample) for problem, sample in session.left}
        self._reports: dict[str, WorkerReport] = {}
        self._slots: dict[str, dict[str, Occupancy]] = {}
        self._has_died = self._is_gone = False
        self._all_solved, self._all_ended = anyio.Event(), anyio.Event()

    @property
    def occupancy(self) -> dict[str, Occupancy]:
        """The slots of each model, of all workers together."""
        found: dict[str, Occupancy] = {}
        for slots in list(self._slots.values()):
            for name, one in slots.items():
                sum_ = found.get(name, Occupancy(0, 0, 0))
                found[name] = Occupancy(sum_.taken + one.taken, sum_.waiting + one.waiting, sum_.limit + one.limit)
        return found

    async def solve(self, done: Done, watcher: SolvingWatcher) -> SolvingCost:
        """Take solutions until nothing is left. Then give the workers time to end."""
        try:
            async with anyio.create_task_group() as tasks:
                for name in self.workers:
                    tasks.start_soon(self._keep, name, watcher)
                    tasks.start_soon(self._deliver, name, done)
                tasks.start_soon(self._watch)
                await self._all_solved.wait()
                with anyio.move_on_after(_ENDING):
                    await self._all_ended.wait()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            ours = [one for one in group.exceptions if isinstance(one, (ArbiterError, self._ray.exceptions.RayError))]
            if not ours:
                raise
            raise ours[0] from ours[0].__cause__
        return self._spent()

    async def stop(self) -> None:
        """Let the workers write what they have, and end all actors. Without a cluster, nothing is left of them."""
        if self._is_gone:
            return
        with anyio.CancelScope(shield=True):
            if len(self._reports) < len(self.workers):
                with anyio.move_on_after(_ENDING):
                    await self._stop_workers()
            await end_actors(self._ray, (*self.workers.values(), self._ledger))

    async def _watch(self) -> None:
        await until_gone(self._ray)
        self._is_gone = True
        raise RunError("the Ray cluster failed: it no longer answers. The run can be resumed, also without Ray")

    async def _stop_workers(self) -> None:
        running = [worker for name, worker in self.workers.items() if name not in self._reports]
        async with anyio.create_task_group() as tasks:
            for worker in running:
                tasks.start_soon(self._stop_worker, worker)

    async def _stop_worker(self, worker: Handle) -> None:
        try:
            await worker.stop.remote()
        except self._ray.exceptions.RayError:
            return

    async def _keep(self, name: str, watcher: SolvingWatcher) -> None:
        """Run a worker until it ends by itself; again after each death."""
        deaths, left = 0, len(self._left)
        while True:
            try:
                report = await self._run(name, watcher)
            except self._ray.exceptions.RayActorError as error:
                deaths = deaths + 1 if left == len(self._left) else 1
                left, self._has_died = len(self._left), True
                if deaths > _TRIES:
                    raise RunError(f"the worker {name} died {deaths} times in a row: {first_line(error)}") from error
                self._slots.pop(name, None)
                released = await self._ledger.release.remote(name)
                watcher.notice(f"the worker {name} died, and is started again; {released} problems go to others")
                await anyio.sleep(PAUSE)
            else:
                if report.error is not None:
                    raise error_of(f"worker {name}", *report.error)
                self._reports[name] = report
                if len(self._reports) == len(self.workers):
                    self._all_ended.set()
                return

    async def _run(self, name: str, watcher: SolvingWatcher) -> WorkerReport:
        worker, session = self.workers[name], self._session
        await self._ledger.finish.remote([])  # when it answers, its segment is there, by which workers know the folder
        hello = await self._hello(name, watcher)
        check_hello(name, hello, ray_library.versions())
        how = "" if hello.sees_log else ". It does not see the run folder, and sends its log to the ledger"
        watcher.notice(f"the worker {name} is on {hello.node} (process {hello.process}){how}")
        place = SessionPlace(str(session.log), session.run, session.session, session.seconds())
        return msgspec.json.decode(await worker.run.remote(_encode(place)), type=WorkerReport)

    async def _hello(self, name: str, watcher: SolvingWatcher) -> Hello:
        session = self._session
        text = f"the worker {name} does not start: are there CPUs for it in the cluster (ray status)?"
        call = partial(self.workers[name].hello.remote, str(session.log), session.run, session.session)
        return msgspec.json.decode(await answered(self._ray, call, lambda: watcher.notice(text)), type=Hello)

    async def _deliver(self, name: str, done: Done) -> None:
        """Take the solutions of a worker. Each counts once, and only if the worker still has its problem."""
        while self._left:
            try:
                delivered = await self._taken(self.workers[name])
            except self._ray.exceptions.RayActorError:  # ``_keep`` waits for its return
                await anyio.sleep(PAUSE)
                continue
            self._slots[name] = delivered.occupancy
            for finished in await self._counted(delivered.finished):
                self._left.remove((finished.solution.problem, finished.solution.sample))
                await done(finished.solution)
            if not self._left:
                self._all_solved.set()

    async def _counted(self, delivered: Sequence[Finished]) -> list[Finished]:
        if not delivered:
            return []
        counts: list[bool] = await self._ledger.finish.remote([finished.token for finished in delivered])
        # a ledger that died may not know that a problem was done
        return [
            finished
            for finished, counted in zip(delivered, counts, strict=True)
            if counted and (finished.solution.problem, finished.solution.sample) in self._left
        ]

    async def _taken(self, worker: Handle) -> Delivered:
        return msgspec.json.decode(await worker.taken.remote(), type=Delivered)

    def _spent(self) -> SolvingCost:
        complete = len(self._reports) == len(self.workers) and not self._has_died
        memory: dict[str, KVMemory] = {}
        reasons: dict[str, str] = {}
        for report in self._reports.values():
            reasons |= report.steps_as_text
            for name, used in report.kv_memory.items():
                before = memory.get(name, KVMemory(0, 0))
                memory[name] = KVMemory(before.peak + used.peak, before.limit + used.limit)
        cpu = sum(report.cpu_seconds for report in self._reports.values()) if complete else None
        return SolvingCost(cpu, memory, reasons)


@asynccontextmanager
async def _started(ray: Handle, place: RayPlace, session: OpenSession) -> AsyncGenerator[_Crew]:
    """Start the actors of a session. They are ended when the block ends."""
    names = tuple(f"w{number}" for number in range(place.workers))
    where = SessionPlace(str(session.log), session.run, session.session, session.seconds())
    plan = LedgerPlan(
        where,
        tuple(session.left),
        tuple(session.begun),
        names,
        server_limits(session.config),
        place.lease,
        session.config.log.sync,
    )
    kept = ray.put(_encode(plan))  # as long as this process has the reference, a ledger that died gets it again
    again = {"max_restarts": -1, "max_concurrency": _CALLS}
    ledger = (
        ray.remote(RayLedger)
        .options(
            name=f"ledger-{session.run}-{session.session}",
            num_cpus=0,
            max_task_retries=-1,
            scheduling_strategy=ray_library.on_this_node(),  # it writes into the run folder
            **again,
        )
        .remote(kept)
    )
    worker = ray.remote(RayWorker).options(num_cpus=place.num_cpus, scheduling_strategy="SPREAD", **again)
    shares = divided(session.config.limits.problems, [session.config.limits.problems] * len(names))
    config = _encode(session.config)
    crew = _Crew(
        ray,
        session,
        ledger,
        {name: worker.remote(name, config, ledger, share) for name, share in zip(names, shares, strict=True)},
        kept,
    )
    try:
        yield crew
    finally:
        await crew.stop()


def server_limits(config: Config) -> dict[str, ServerLimit]:
    """Return the limits of the servers that a run calls, by the models' keys after ``models.``.

    Models in process are left out: each worker has its own.
    """
    return {
        name: ServerLimit(table.in_flight, config.adaptive)
        for name, table in config.called_tables().items()
        if isinstance(table, ServedTable)
    }


def check_hello(name: str, hello: Hello, here: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` if a worker has other versions than ``here``."""
    check_versions(f"the worker {name}", hello.node, hello.versions, here)
