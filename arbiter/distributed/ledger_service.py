"""The ledger as its process runs it: the table, its segment of the log, the problems, and the limits of the servers."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from arbiter.data import Problem
from arbiter.distributed.ledger import Ledger
from arbiter.distributed.ledger_log import LedgerLog
from arbiter.distributed.segment_keeper import Appended, SegmentKeeper
from arbiter.distributed.segment_worker import Claimed, ClaimedSample, Renewed, SessionPlace
from arbiter.distributed.shared_limits import LoadReport, ServerLimit, SharedLimits
from arbiter.log.history import Key
from arbiter.log.segmented_log import Chain, SegmentedLog
from arbiter.log.sessions import SYNC
from arbiter.protocols.records import Record


class LedgerPlan(Record, frozen=True):
    """What a ledger begins with.

    ``left`` are the samples to solve, ``begun`` the indexes of those that earlier sessions began. ``limits`` are those
    of the servers, and ``lease`` is in seconds. ``sync`` is as in ``SegmentKeeper``.
    """

    place: SessionPlace
    left: tuple[tuple[Problem, int], ...]
    begun: tuple[int, ...]
    workers: tuple[str, ...]
    limits: dict[str, ServerLimit] = msgspec.field(default_factory=dict[str, ServerLimit])
    lease: float = 30.0
    sync: float = SYNC


class LedgerService:
    """Hands out what is left of a session (``LedgerPort``). ``clock`` returns seconds that only grow.

    It also writes the segments of the workers that do not see the run folder (``KeeperPort``). A service that starts
    again in the same session reads what the one before it granted. Raises ``RunError`` if the log cannot be read or
    written.
    """

    def __init__(self, plan: LedgerPlan, clock: Callable[[], float] = time.monotonic) -> None:
        place = plan.place
        self._plan = plan
        self._clock = clock
        self._keys = [(problem.id, sample) for problem, sample in plan.left]
        self._log = LedgerLog(Path(place.log), place.run, place.session, place.seconds)
        self._numbers = {key: number for number, key in enumerate(self._keys)}
        self._keeper = SegmentKeeper(Path(place.log), place.session, plan.sync, self._has)
        self._ledger = Ledger(len(plan.left), plan.lease, plan.begun, self._log.epoch)
        self._limits = SharedLimits(plan.limits, plan.workers)
        self._changed = anyio.Event()
        if self._log.epoch:
            self._restore()

    async def claim(self, worker: str, places: int, holding: Sequence[int]) -> Claimed:
        """Get up to ``places`` problems. Wait up to ``pause`` seconds if there is none now."""
        grants = self._ledger.claim(worker, places, holding, self._clock())
        if not grants and not self._ledger.is_over:
            with anyio.move_on_after(self._plan.place.pause):
                await self._changed.wait()
            grants = self._ledger.claim(worker, places, holding, self._clock())
        self._log.grant(worker, grants, [self._keys[grant.task] for grant in grants])
        work = (ClaimedSample(grant.token, *self._plan.left[grant.task], grant.begun) for grant in grants)
        return Claimed(tuple(work), self._ledger.is_over)

    async def renew(self, worker: str, tokens: Sequence[int], loads: Mapping[str, LoadReport]) -> Renewed:
        """Keep the problems of ``tokens``, and report the ``loads`` of the servers."""
        stale = self._ledger.renew(tokens, self._clock())
        self._notify_of_work()
        self._keeper.sync()
        shares, moved = self._limits.report(worker, loads)
        for limit in moved:
            self._log.moved(limit)
        return Renewed(tuple(stale), shares)

    async def finish(self, tokens: Sequence[int]) -> list[bool]:
        """Record what is done. Return for each token whether it counts: a stale one does not."""
        counted = [self._ledger.finish(token) for token in tokens]
        if self._ledger.is_over:
            self._notify()
        return counted

    async def release(self, worker: str) -> int:
        """Take all problems back from a worker that has died. Return their number."""
        self._limits.forget(worker)
        released = self._ledger.release(worker)
        self._notify_of_work()
        return released

    async def create_segment(self, worker: str) -> str:
        """Begin a segment of ``worker``. Return its name."""
        return self._keeper.create(worker)

    async def append(self, worker: str, name: str, start: int, batch: bytes) -> Appended:
        """Write the lines of ``batch``, unless another worker has one of their problems now."""
        return self._keeper.append(worker, name, start, batch)

    async def end_segment(self, worker: str) -> None:
        """Close the segment of ``worker``."""
        self._keeper.end(worker)

    async def chains(self, names: Iterable[str]) -> dict[Key, Chain]:
        """Return what the log has of the problems ``names``."""
        return await anyio.to_thread.run_sync(SegmentedLog(Path(self._plan.place.log)).chains, names)

    def _has(self, worker: str, key: Key) -> bool:
        number = self._numbers.get(key)
        return number is not None and self._ledger.owner(number) == worker

    def _restore(self) -> None:
        numbers = self._numbers
        granted = [(numbers[key], token, worker) for key, token, worker in self._log.granted_before() if key in numbers]
        done = [numbers[key] for key in self._log.graded() if key in numbers]
        self._ledger.restore(granted, done, self._clock())

    def _notify_of_work(self) -> None:
        if self._ledger.has_work:
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
