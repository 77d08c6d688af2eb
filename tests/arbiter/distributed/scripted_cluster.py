"""Workers of a run in one event loop, which can be killed, or cut off from the ledger while they go on."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.data import Problem
from arbiter.distributed.ledger_service import LedgerPlan, LedgerService
from arbiter.distributed.segment_keeper import Appended
from arbiter.distributed.segment_store import SharedFolder
from arbiter.distributed.segment_stream import StreamedSegments
from arbiter.distributed.segment_worker import Claimed, Renewed, SegmentWorker, SessionPlace
from arbiter.distributed.shared_limits import LoadReport, ServerLimit
from arbiter.log.history import Key
from arbiter.log.reader import LogFile
from arbiter.log.run import Run
from arbiter.log.segmented_log import Chain
from arbiter.log.segments import LEDGER, segments_of
from arbiter.protocols.events import CallCancelled, Outcome
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Solution, Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run, read_records
from arbiter.runs.results import Result, Summary
from arbiter.runs.solvers import OpenSession, SolvingCost, SolvingWatcher
from benchmarks.silent_watcher import SilentWatcher

Asked = Callable[[str], None]
TABLES = {name: {"model": "scripted", "prompt": "{question}"} for name in ("draft", "target", "prm")}
AWAY = 0.3  # seconds
PROBLEMS = [Problem(str(number), f"question {number}", "7") for number in range(8)]


def a_config(**keys: object) -> Config:
    limits = {"problems": 6, "max_steps": 6}
    return parse({"models": TABLES, "run_type": "rsd", "limits": limits, "log": {"sync": 3600}, **keys}, "test")


def share(*parts: object) -> float:
    return hashlib.blake2b(repr(parts).encode(), digest_size=1).digest()[0] / 256


def models(asked: Asked) -> Models:
    """Models whose answers depend only on the request. ``asked`` gets the id of each request."""

    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        return 0.01 * share("seconds", request.call)

    def write(request: GenerationRequest) -> Generation:
        asked(request.call)
        last = request.step >= 2 + 4 * share(request.problem)
        text = "\\boxed{7}" if last else f"{request.author} {share(request.transcript)}"
        sure = max(share("sure", request.author, text), 0.01) if request.confidence else None
        return Generation(text, "end" if last else "separator", Usage(9, 3), confidence=sure)

    def rate(request: ScoreRequest) -> float:
        asked(request.call)
        return share(request.candidate, request.step)

    return Models(
        draft=ModelHandle(ScriptedGenerator(write, seconds, writes_blocks=True), 4),
        target=ModelHandle(ScriptedGenerator(write, seconds), 4),
        scorers={"prm": ModelHandle(ScriptedScorer(rate, seconds), 4)},
    )


def answered(log: Path) -> set[str]:
    """The requests whose outcome is in one file of a log."""
    return {
        event.cause or ""
        for event in LogFile(log)
        if isinstance(event.payload, Outcome) and not isinstance(event.payload, CallCancelled)
    }


class _Line:
    """The connection of a worker to the ledger. While it is ``cut``, it does not answer, and its worker goes on."""

    def __init__(self, ledger: Callable[[], LedgerService]) -> None:
        self._ledger = ledger
        self.cut = False
        self._mended = anyio.Event()

    def mend(self) -> None:
        self.cut = False
        self._mended.set()

    async def claim(self, worker: str, places: int, holding: Sequence[int]) -> Claimed:
        await self._wait()
        return await self._ledger().claim(worker, places, holding)

    async def renew(self, worker: str, tokens: Sequence[int], loads: Mapping[str, LoadReport]) -> Renewed:
        await self._wait()
        return await self._ledger().renew(worker, tokens, loads)

    async def create_segment(self, worker: str) -> str:
        await self._wait()
        return await self._ledger().create_segment(worker)

    async def append(self, worker: str, name: str, start: int, batch: bytes) -> Appended:
        await self._wait()
        return await self._ledger().append(worker, name, start, batch)

    async def end_segment(self, worker: str) -> None:
        await self._wait()
        await self._ledger().end_segment(worker)

    async def chains(self, names: Iterable[str]) -> dict[Key, Chain]:
        await self._wait()
        return await self._ledger().chains(names)

    async def _wait(self) -> None:
        if self.cut:
            await self._mended.wait()


async def _mend_later(line: _Line) -> None:
    await anyio.sleep(AWAY)
    line.mend()


class ScriptedCluster:
    """A ``ProblemSolver``. ``accidents`` say what happens at which request of the session: a kind, and a worker.

    - ``kill``: the worker loses what is not on the disk, and another process starts in its place.
    - ``stand``: the worker is thought dead, goes on without the ledger, and returns after ``AWAY`` seconds.
    - ``ledger``: the ledger starts again.
    """

    def __init__(
        self,
        accidents: Mapping[int, tuple[str, int]],
        workers: int = 3,
        limit: int | None = None,
        watch: Asked = lambda _: None,
        streams: bool = False,
    ) -> None:
        self.watch = watch
        self._streams = streams
        self._accidents = dict(accidents)
        self._workers = workers
        self._limit = limit
        self.asked: list[str] = []
        self.paid: set[str] = set()
        """What was on the disk when its worker was killed. It must not be asked again."""
        self.paid_again: list[str] = []
        self._lines: dict[str, _Line] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._orders: list[tuple[str, int]] = []
        self._ordered = anyio.Event()

    def check(self, config: Config) -> None: ...

    async def solve(
        self, session: OpenSession, done: Callable[[Solution], Awaitable[None]], watcher: SolvingWatcher
    ) -> SolvingCost:
        names = tuple(f"w{number}" for number in range(self._workers))
        place = SessionPlace(str(session.log), session.run, session.session, session.seconds(), pause=0.01)
        limits = {} if self._limit is None else {"draft": ServerLimit(self._limit, adaptive=True)}
        # short, because a ledger that starts again leaves problems at a worker that stands still
        plan = LedgerPlan(place, tuple(session.left), tuple(session.begun), names, limits, lease=2.0)
        self._plan, self._ledger = plan, LedgerService(plan)
        self._left = {(problem.id, sample) for problem, sample in session.left}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._act, tasks)
            for name in names:
                tasks.start_soon(self._keep, name, session, done, tasks.cancel_scope)
        return SolvingCost(None)

    async def _keep(
        self,
        name: str,
        session: OpenSession,
        done: Callable[[Solution], Awaitable[None]],
        over: anyio.CancelScope,
    ) -> None:
        """Run a worker, again and again, until the session has nothing left."""
        while True:
            line = self._lines[name] = _Line(lambda: self._ledger)
            shared = SharedFolder(session.log, session.session, session.config.log.sync)
            segments = StreamedSegments(line) if self._streams else shared
            worker = SegmentWorker(name, session.config, self._plan.place, line, segments, places=2)
            with anyio.CancelScope() as scope:
                self._scopes[name] = scope
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(worker.run, models(self._ask))
                    await self._deliver(worker, line, done)
                    tasks.cancel_scope.cancel()
            if not self._left:
                over.cancel()
                return
            await self._ledger.release(name)

    async def _deliver(self, worker: SegmentWorker, line: _Line, done: Callable[[Solution], Awaitable[None]]) -> None:
        while self._left:
            if line.cut:
                await anyio.sleep(0.01)
                continue
            for finished in await worker.taken(0.01):
                (counted,) = await self._ledger.finish([finished.token])
                key = finished.solution.problem, finished.solution.sample
                if counted and key in self._left:
                    self._left.remove(key)
                    await done(finished.solution)

    def _ask(self, call: str) -> None:
        self.asked.append(call)
        self.watch(call)
        if call in self.paid:
            self.paid_again.append(call)
        accident = self._accidents.pop(len(self.asked), None)
        if accident is not None:
            self._orders.append(accident)
            self._ordered.set()

    async def _act(self, tasks: TaskGroup) -> None:
        while True:
            await self._ordered.wait()
            self._ordered = anyio.Event()
            while self._orders:
                kind, number = self._orders.pop()
                await self._accident(kind, f"w{number % self._workers}", tasks)

    async def _accident(self, kind: str, name: str, tasks: TaskGroup) -> None:
        match kind:
            case "kill":
                self._kill(name)
            case "stand":
                line = self._lines[name]
                line.cut = True
                await self._ledger.release(name)
                tasks.start_soon(_mend_later, line)
            case _:
                self._ledger = LedgerService(self._plan)

    def _kill(self, name: str) -> None:
        """Cancel a worker, and count as paid what its newest segment has now: a killed process writes no more."""
        mine = [segment for segment in segments_of(self._plan_log) if segment.worker == name]
        if mine and not self._lines[name].cut:
            with suppress(OSError):
                self.paid |= answered(mine[-1].path)
        self._scopes[name].cancel()

    @property
    def _plan_log(self) -> Path:
        return Path(self._plan.place.log)


async def solved(
    folder: Path, config: Config, cluster: ScriptedCluster | None, asked: Asked = lambda _: None
) -> Summary:
    """Start or resume the run in ``folder``, with ``cluster`` or in one ring."""
    async with open_run(config, PROBLEMS, folder) as run:
        return await run_problems(config, PROBLEMS, models(asked), run, SilentWatcher(), solver=cluster)


def transcripts(solutions: Iterable[Solution]) -> dict[str, object]:
    """What solutions say, without times, by problem. Each problem is there once."""
    found = [
        (
            one.problem,
            (one.finish_reason, one.error, [(step.verdict, step.kept.author, step.kept.text) for step in one.steps]),
        )
        for one in solutions
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def stored(folder: Path) -> dict[str, object]:
    """The transcripts in the results of a run."""
    return transcripts(result.solution for result in read_records(folder / "results.jsonl", Result))


def logged(folder: Path) -> dict[str, object]:
    """The transcripts in the log of a run."""
    solutions = [problem.solution() for problem in Run.open(folder).problems()]
    return transcripts(solution for solution in solutions if solution is not None)


def worker_segments(folder: Path) -> list[Path]:
    return [segment.path for segment in segments_of(folder / "events.jsonl") if segment.worker != LEDGER]
