"""A worker of a run: it claims problems from the ledger, solves them in its ring, and writes its segment of the log."""

import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from arbiter.actors.ring import Ring, open_ring
from arbiter.actors.ring_setup import Models
from arbiter.actors.slots import Occupancy
from arbiter.actors.supervision import services
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.data.tasks import make_task
from arbiter.distributed.segment_store import SegmentStore
from arbiter.distributed.shared_limits import LimitShare, LoadReport, Share
from arbiter.log.history import Key, ProblemHistory
from arbiter.log.recorder import Recorder
from arbiter.log.segmented_log import Chain
from arbiter.log.sessions import open_segment
from arbiter.protocols.events import Event, ProblemClaimed, ProblemEnded, StartProblemEvent
from arbiter.protocols.ids import claim_id
from arbiter.protocols.records import Record, Solution


class ClaimedSample(Record, frozen=True):
    """One sample of a problem that a worker has, and its token. ``begun`` is as in ``Grant``."""

    token: int
    problem: Problem
    sample: int = 0
    begun: bool = False


class Claimed(Record, frozen=True):
    """What a worker got. If ``over``, the run has nothing left to solve."""

    work: tuple[ClaimedSample, ...] = ()
    over: bool = False


class Renewed(Record, frozen=True):
    """The tokens of a worker that are ``stale``, and its ``shares`` of the servers' limits."""

    stale: tuple[int, ...] = ()
    shares: dict[str, Share] = msgspec.field(default_factory=dict[str, Share])


class LedgerPort(Protocol):
    """The ledger as a worker sees it. Each method may take long, and is called again until it succeeds."""

    async def claim(self, worker: str, places: int, holding: Sequence[int]) -> Claimed:
        """Get up to ``places`` problems. Wait for a while if there is none now."""
        ...

    async def renew(self, worker: str, tokens: Sequence[int], loads: Mapping[str, LoadReport]) -> Renewed:
        """Keep the problems of ``tokens``, and report the ``loads`` of the servers."""
        ...


class SessionPlace(Record, frozen=True):
    """Where a worker writes: the ``log`` of the run, its id, and the number of its session.

    ``seconds`` is what the run's clock shows. ``pause`` is the time in seconds between two renewals.
    """

    log: str
    run: str
    session: int
    seconds: float
    pause: float = 1.0


class Finished(Record, frozen=True):
    """A solution, whose end is in the segment, and the token under which the worker had the problem."""

    token: int
    solution: Solution


class _Held(NamedTuple):
    """A problem that a worker has, and how to stop it."""

    key: Key
    scope: anyio.CancelScope


class SegmentWorker:
    """Solves what the ledger hands out, at most ``places`` problems at once. ``name`` is unique in the run.

    ``taken`` returns the solutions. A worker keeps the token of each until it is asked again, so that no other
    worker gets its problem before the solution has arrived.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        place: SessionPlace,
        ledger: LedgerPort,
        segments: SegmentStore,
        places: int,
    ) -> None:
        self.name = name
        self._config = config
        self._place = place
        self._ledger = ledger
        self._segments = segments
        self._places = places
        self._begun_at = time.monotonic()
        self._held: dict[int, _Held] = {}
        self._active: dict[Key, anyio.Event] = {}
        self._finished: list[Finished] = []
        self._delivered: list[int] = []
        self._changed = anyio.Event()
        self._shares: dict[str, LimitShare] = {}
        self._ring: Ring | None = None
        self._whole = config.log.record == "full"
        self._stop = anyio.CancelScope()
        self.is_ended = False

    async def run(self, models: Models) -> None:
        """Work until the ledger says that the run is over, or ``stop`` is called. Raises ``RunError``, ``ConfigError``.

        The segment is complete when this returns.
        """
        seconds = self._place.seconds + time.monotonic() - self._begun_at
        opening = self._segments.open_writer(self.name, self._lose)
        try:
            async with open_segment(opening, self._place.run, seconds, self._config.log.record) as journal:
                with self._stop:
                    async with self._open_ring(models, journal) as ring, services() as tasks:
                        self._ring = ring
                        tasks.start_soon(self._renew_always)
                        async with anyio.create_task_group() as solving:
                            await self._claim_always(ring, journal, solving)
                            solving.cancel_scope.cancel()
        finally:
            self._ring, self.is_ended = None, True
            self._notify()

    async def stop(self) -> None:
        """End ``run`` early, and wait until the segment is complete. Problems in the ring are left as they are."""
        self._stop.cancel()
        while not self.is_ended:
            await self._changed.wait()

    async def taken(self, wait: float) -> list[Finished]:
        """Return the solutions since the last call. Without any, wait up to ``wait`` seconds for one.

        The solutions that the last call returned have arrived: their tokens are given up.
        """
        for token in self._delivered:
            self._held.pop(token, None)
        self._delivered.clear()
        with anyio.move_on_after(wait):
            while not self._finished and not self.is_ended:
                await self._changed.wait()
        found, self._finished = self._finished, []
        self._delivered = [finished.token for finished in found]
        return found

    @property
    def occupancy(self) -> dict[str, Occupancy]:
        """The slots of each model, by its key after ``models.``; none while the ring is closed."""
        return {} if self._ring is None else self._ring.occupancy

    @asynccontextmanager
    async def _open_ring(self, models: Models, journal: Recorder) -> AsyncGenerator[Ring]:
        shares = (await self._ledger.renew(self.name, (), {})).shares
        self._shares = {name: LimitShare(share) for name, share in shares.items()}
        config, models = self._config, with_shares(models, self._shares)
        opening = open_ring(
            models,
            journal=journal,
            lookahead=config.depth,
            verify=config.verify,
            salvage=config.salvage,
            block=config.block,
        )
        async with opening as ring:
            yield ring

    async def _claim_always(self, ring: Ring, journal: Recorder, solving: TaskGroup) -> None:
        while True:
            while (free := self._places - len(self._active)) <= 0:
                await self._changed.wait()
            claimed = await self._ledger.claim(self.name, free, tuple(self._held))
            if claimed.over:
                return
            chains = await self._chains(claimed.work)
            for work in claimed.work:
                key, scope = (work.problem.id, work.sample), anyio.CancelScope()
                self._held[work.token] = _Held(key, scope)
                while key in self._active:  # what this worker had before it lost the problem is still being cancelled
                    await self._active[key].wait()
                self._active[key] = anyio.Event()
                solving.start_soon(self._solve, ring, journal, work, chains.get(key), scope)

    async def _chains(self, claimed: Sequence[ClaimedSample]) -> dict[Key, Chain]:
        """Return what the log has of those problems that others have begun."""
        begun = {work.problem.id for work in claimed if work.begun}
        if not begun:
            return {}
        return await self._segments.chains(begun)

    async def _solve(
        self, ring: Ring, journal: Recorder, work: ClaimedSample, chain: Chain | None, scope: anyio.CancelScope
    ) -> None:
        key = work.problem.id, work.sample
        try:
            with scope:
                chain = self._continued(chain)
                journal.forget(*key)
                claim = ProblemClaimed(*key, work.token, self.name, () if chain is None else chain.parts)
                await journal.record(claim_id(work.token), claim)
                solution = await self._solution(ring, journal, work, chain)
                self._finished.append(Finished(work.token, solution))
        finally:
            self._active.pop(key).set()
            self._notify()

    async def _solution(self, ring: Ring, journal: Recorder, work: ClaimedSample, chain: Chain | None) -> Solution:
        history = None if chain is None else history_of(chain.events)
        solved = None if history is None else history.solution()
        if solved is not None:  # the worker that had it died before it could deliver it
            return solved
        if chain is not None and history is not None:
            journal.remember(history, chain.events[-1].mono - history.start.mono)
        solution = await ring.solve(make_task(self._config, work.problem, work.sample))
        await journal.written()
        return solution

    def _continued(self, chain: Chain | None) -> Chain | None:
        """Return the chain to continue; None to begin the problem again.

        What ended in an earlier session is solved again: else it would not be in the ledger. Without texts in the log,
        a problem can only begin again.
        """
        if chain is None or not self._whole:
            return None
        ended = any(isinstance(event.payload, ProblemEnded) for event in chain.events)
        return None if ended and chain.session < self._place.session else chain

    async def _renew_always(self) -> None:
        while True:
            await anyio.sleep(self._place.pause)
            renewed = await self._ledger.renew(self.name, tuple(self._held), self._loads())
            self._give_up(renewed.stale)
            for name, share in renewed.shares.items():
                self._shares[name].update(share)

    def _lose(self, lost: frozenset[Key]) -> None:
        self._give_up([token for token, held in self._held.items() if held.key in lost])

    def _give_up(self, stale: Iterable[int]) -> None:
        """Stop the problems of the tokens ``stale``: they are another worker's now."""
        tokens = set(stale)
        for held in [self._held.pop(token) for token in tokens if token in self._held]:
            held.scope.cancel()
        self._finished = [finished for finished in self._finished if finished.token not in tokens]

    def _loads(self) -> dict[str, LoadReport]:
        slots = self.occupancy
        return {
            name: share.report(slots[name].taken, slots[name].waiting)
            for name, share in self._shares.items()
            if name in slots
        }

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def history_of(events: Iterable[Event]) -> ProblemHistory | None:
    """Return the history of a sample from its newest start on; None without a start."""
    history: ProblemHistory | None = None
    for event in events:
        if isinstance(event.payload, StartProblemEvent):
            history = ProblemHistory(event)
        elif history is not None:
            history.add(event)
    return history


def with_shares(models: Models, shares: Mapping[str, LimitShare]) -> Models:
    """Return ``models`` whose limits are the ``shares``, by the models' keys after ``models.``."""
    replace = msgspec.structs.replace
    draft, target = models.draft, models.target
    return Models(
        draft and replace(draft, control=shares.get("draft")),
        target and replace(target, control=shares.get("target")),
        {name: replace(handle, control=shares.get(name)) for name, handle in models.scorers.items()},
        {name: replace(handle, control=shares.get(f"targets.{name}")) for name, handle in models.targets.items()},
    )
