"""The actors of a run on Ray: the ledger and the workers. They exchange JSON, and no keys.

Ray starts a process for each of them, and starts it again when it dies. Needs the extra ``ray``.
"""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import msgspec

from arbiter.actors.slots import Occupancy
from arbiter.config.config import Config
from arbiter.distributed.ledger_service import LedgerPlan, LedgerService
from arbiter.distributed.ray_library import Handle, versions
from arbiter.distributed.segment_worker import Claimed, Finished, Renewed, SegmentWorker, SessionPlace
from arbiter.distributed.shared_limits import LoadReport
from arbiter.log.run import Run
from arbiter.protocols.errors import ArbiterError
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import Record
from arbiter.runs.bench import kv_memory, steps_as_text
from arbiter.runs.model_opening import open_models

_WAIT = 1.0  # seconds that a call for solutions waits for one
_encode = msgspec.json.encode


class Hello(Record, frozen=True):
    """Where a worker is: its machine and process, the versions there, and whether it sees the log of the run."""

    node: str
    process: int
    versions: dict[str, str]
    sees_log: bool


class Delivered(Record, frozen=True):
    """The solutions of a worker since the last call, and the slots of its models."""

    finished: tuple[Finished, ...]
    occupancy: dict[str, Occupancy]


class WorkerReport(Record, frozen=True):
    """How a worker ended: what it took, and the ``error`` that ended it, if one did, with the name of its class."""

    cpu_seconds: float = 0.0
    kv_memory: dict[str, KVMemory] = msgspec.field(default_factory=dict[str, KVMemory])
    steps_as_text: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    error: tuple[str, str] | None = None


class RayLedger:
    """The process of the ledger. Its arguments and results are those of ``LedgerService``, as JSON."""

    def __init__(self, plan: bytes) -> None:
        self._service = LedgerService(msgspec.json.decode(plan, type=LedgerPlan))

    async def claim(self, worker: str, places: int, holding: Sequence[int]) -> bytes:
        return _encode(await self._service.claim(worker, places, holding))

    async def renew(self, worker: str, tokens: Sequence[int], loads: bytes) -> bytes:
        decoded = msgspec.json.decode(loads, type=dict[str, LoadReport])
        return _encode(await self._service.renew(worker, tokens, decoded))

    async def finish(self, tokens: Sequence[int]) -> list[bool]:
        return await self._service.finish(tokens)

    async def release(self, worker: str) -> int:
        return await self._service.release(worker)


class _RemoteLedger:
    """The ledger of another process. Ray repeats a call until the ledger has answered it."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def claim(self, worker: str, places: int, holding: Sequence[int]) -> Claimed:
        return msgspec.json.decode(await self._handle.claim.remote(worker, places, list(holding)), type=Claimed)

    async def renew(self, worker: str, tokens: Sequence[int], loads: Mapping[str, LoadReport]) -> Renewed:
        answer = await self._handle.renew.remote(worker, list(tokens), _encode(loads))
        return msgspec.json.decode(answer, type=Renewed)


class RayWorker:
    """The process of a worker. ``config`` is the run's, and ``ledger`` a handle. Keys come from its own environment."""

    def __init__(self, name: str, config: bytes, ledger: Handle, places: int) -> None:
        self._name = name
        self._config = msgspec.json.decode(config, type=Config)
        self._ledger = _RemoteLedger(ledger)
        self._places = places
        self._worker: SegmentWorker | None = None

    async def hello(self, log: str, run: str) -> bytes:
        """Return ``Hello``, about the ``log`` of ``run``."""
        return _encode(Hello(platform.node(), os.getpid(), versions(), _is_log_of(log, run)))

    async def run(self, place: bytes) -> bytes:
        """Open the models and work until the run is over. Return ``WorkerReport``."""
        where, before = msgspec.json.decode(place, type=SessionPlace), time.process_time()
        worker = SegmentWorker(self._name, self._config, where, self._ledger, self._places)
        try:
            async with open_models(self._config) as models:
                self._worker = worker
                await worker.run(models)
                memory, reasons = kv_memory(models), steps_as_text(models)
        except ArbiterError as error:
            return _encode(WorkerReport(error=(type(error).__name__, str(error))))
        return _encode(WorkerReport(time.process_time() - before, memory, reasons))

    async def taken(self) -> bytes:
        """Return ``Delivered``: what ``SegmentWorker.taken`` returns. Before ``run`` has begun there is nothing."""
        if self._worker is None:
            await anyio.sleep(_WAIT)
            return _encode(Delivered((), {}))
        finished = await self._worker.taken(_WAIT)
        return _encode(Delivered(tuple(finished), self._worker.occupancy))

    async def stop(self) -> None:
        """End ``run`` early."""
        if self._worker is not None:
            await self._worker.stop()


def _is_log_of(log: str, run: str) -> bool:
    try:
        return next(Run.open(Path(log)).events()).run == run
    except (ArbiterError, StopIteration):
        return False
