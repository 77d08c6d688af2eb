"""The actors of a run on Ray: the ledger and the workers. They exchange JSON, and no keys.

Ray starts a process for each of them, and starts it again when it dies. Needs the extra ``ray``.
"""

import os
import platform
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec

from arbiter.actors.slots import Occupancy
from arbiter.config.config import Config
from arbiter.distributed.ledger_service import LedgerPlan, LedgerService
from arbiter.distributed.ray_library import Handle, versions
from arbiter.distributed.segment_keeper import Appended
from arbiter.distributed.segment_store import SharedFolder
from arbiter.distributed.segment_stream import StreamedSegments
from arbiter.distributed.segment_worker import Claimed, Finished, Renewed, SegmentWorker, SessionPlace
from arbiter.distributed.shared_limits import LoadReport
from arbiter.log.history import Key
from arbiter.log.reader import LogFile
from arbiter.log.segmented_log import Chain
from arbiter.log.segments import LEDGER, segment_name, segments_folder
from arbiter.protocols.errors import ArbiterError
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import Record
from arbiter.runs.bench import kv_memory, steps_as_text
from arbiter.runs.model_opening import open_models

_WAIT = 1.0  # seconds that a call for solutions waits for one
_encode = msgspec.json.encode


class Hello(Record, frozen=True):
    """Where a worker is: its machine and process, the versions there, and whether it sees the log of the run.

    One that does not sends its segment to the ledger.
    """

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

    async def create_segment(self, worker: str) -> str:
        return await self._service.create_segment(worker)

    async def append(self, worker: str, name: str, start: int, batch: bytes) -> bytes:
        return _encode(await self._service.append(worker, name, start, batch))

    async def end_segment(self, worker: str) -> None:
        await self._service.end_segment(worker)

    async def chains(self, names: Sequence[str]) -> bytes:
        return _encode(list((await self._service.chains(names)).items()))


class _RemoteLedger:
    """The ledger of another process. Ray repeats a call until the ledger has answered it."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def claim(self, worker: str, places: int, holding: Sequence[int]) -> Claimed:
        answer = await _answer(self._handle.claim.remote(worker, places, list(holding)))
        return msgspec.json.decode(answer, type=Claimed)

    async def renew(self, worker: str, tokens: Sequence[int], loads: Mapping[str, LoadReport]) -> Renewed:
        answer = await _answer(self._handle.renew.remote(worker, list(tokens), _encode(loads)))
        return msgspec.json.decode(answer, type=Renewed)

    async def create_segment(self, worker: str) -> str:
        return await _answer(self._handle.create_segment.remote(worker))

    async def append(self, worker: str, name: str, start: int, batch: bytes) -> Appended:
        return msgspec.json.decode(await _answer(self._handle.append.remote(worker, name, start, batch)), type=Appended)

    async def end_segment(self, worker: str) -> None:
        await _answer(self._handle.end_segment.remote(worker))

    async def chains(self, names: Iterable[str]) -> dict[Key, Chain]:
        answer = await _answer(self._handle.chains.remote(list(names)))
        return dict(msgspec.json.decode(answer, type=list[tuple[Key, Chain]]))


async def _answer(call: Awaitable[Any]) -> Any:  # noqa: ANN401 - Ray has no types here
    """Wait for a call. An error of ours is raised as the ledger raised it: Ray's own adds a traceback to its text."""
    try:
        return await call
    except ArbiterError as error:
        raise getattr(error, "cause", error) from None


class RayWorker:
    """The process of a worker. ``config`` is the run's, and ``ledger`` a handle. Keys come from its own environment."""

    def __init__(self, name: str, config: bytes, ledger: Handle, places: int) -> None:
        self._name = name
        self._config = msgspec.json.decode(config, type=Config)
        self._ledger = _RemoteLedger(ledger)
        self._places = places
        self._worker: SegmentWorker | None = None
        self._sees_log = False

    async def hello(self, log: str, run: str, session: int) -> bytes:
        """Return ``Hello``, about the ``log`` of ``run``, which the ledger of ``session`` writes as well."""
        await self._ledger.renew(self._name, (), {})  # when it answers, its segment is there
        self._sees_log = _is_log_of(Path(log), run, session)
        return _encode(Hello(platform.node(), os.getpid(), versions(), self._sees_log))

    async def run(self, place: bytes) -> bytes:
        """Open the models and work until the run is over. Return ``WorkerReport``."""
        where, before = msgspec.json.decode(place, type=SessionPlace), time.process_time()
        shared = SharedFolder(Path(where.log), where.session, self._config.log.sync)
        segments = shared if self._sees_log else StreamedSegments(self._ledger)
        worker = SegmentWorker(self._name, self._config, where, self._ledger, segments, self._places)
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


def _is_log_of(log: Path, run: str, session: int) -> bool:
    """Return whether ``log`` is that of ``run``, and not a copy that was made before ``session``."""
    if not (segments_folder(log) / segment_name(session, LEDGER, 0)).exists():
        return False
    try:
        return next(iter(LogFile(log))).run == run
    except (ArbiterError, StopIteration):
        return False
