"""The numbers of running and waiting requests of a server, as its engine reports them."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec

from arbiter.backends.served.refusals import decoded
from arbiter.backends.served.served_models import open_transport
from arbiter.backends.served.transport import Transport
from arbiter.config.model_tables import HostedTable, ServedTable
from arbiter.protocols.errors import BackendError

_SECONDS = 5.0
_VLLM = re.compile(rb"^vllm:num_requests_(running|waiting)(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)


class ServerLoad(msgspec.Struct, frozen=True):
    """The number of requests that run at a server, and the number that wait in its queue."""

    running: int
    waiting: int


class _Load(msgspec.Struct, frozen=True):
    num_waiting_reqs: int
    num_running_reqs: int = 0


class _Loads(msgspec.Struct, frozen=True):
    loads: list[_Load]


_LOADS = msgspec.json.Decoder(_Loads)


def _read_sglang(answer: bytes) -> ServerLoad:
    loads: list[_Load] = decoded(answer, _LOADS).loads
    return ServerLoad(sum(load.num_running_reqs for load in loads), sum(load.num_waiting_reqs for load in loads))


def _read_vllm(answer: bytes) -> ServerLoad | None:
    found = {b"running": 0, b"waiting": 0}
    counts = _VLLM.findall(answer)
    for name, count in counts:
        found[name] += int(float(count))
    return ServerLoad(found[b"running"], found[b"waiting"]) if counts else None


_SOURCES: tuple[tuple[str, Callable[[bytes], ServerLoad | None]], ...] = (
    ("/v1/loads?include=core", _read_sglang),  # sglang 0.5.23: entrypoints/v1_loads.py
    ("/metrics", _read_vllm),  # vLLM 0.32.0: v1/metrics/loggers.py, one line per engine
)


class ServerQueueDepth:
    """A ``QueueDepth`` over a transport: it requests ``path`` and reads the answer with ``read``."""

    def __init__(self, transport: Transport, path: str, read: Callable[[bytes], ServerLoad | None]) -> None:
        self._transport = transport
        self._path = path
        self._read = read

    async def load(self) -> ServerLoad | None:
        """Return the load of the server; None if the server does not report it."""
        try:
            return self._read(await self._transport.get(self._path))
        except (BackendError, msgspec.DecodeError):
            return None

    async def waiting(self) -> int | None:
        """Return the number of waiting requests; None if the server does not report it."""
        load = await self.load()
        return None if load is None else load.waiting


@asynccontextmanager
async def open_queue_depth(name: str, table: ServedTable) -> AsyncGenerator[ServerQueueDepth | None]:
    """Yield the queue depth of the table's server; None for a hosted one, or if no known path reports it."""
    if isinstance(table, HostedTable):
        yield None
        return
    patient = msgspec.structs.replace(table, timeout=min(table.timeout, _SECONDS), retries=0, in_flight=1)
    async with open_transport(name, patient) as transport:
        for path, read in _SOURCES:
            queue_depth = ServerQueueDepth(transport, path, read)
            if await queue_depth.load() is not None:
                yield queue_depth
                return
        yield None
