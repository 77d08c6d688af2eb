"""How many requests wait in a server's own queue, as engines tell it."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import msgspec

from arbiter.backends.served.opening import open_transport
from arbiter.backends.served.transport import Transport
from arbiter.model_tables import Hosted, Served
from protocols.errors import BackendError

_SECONDS = 5.0
_VLLM = re.compile(rb"^vllm:num_requests_waiting(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)


class _Load(msgspec.Struct, frozen=True):
    num_waiting_reqs: int


class _Loads(msgspec.Struct, frozen=True):
    loads: list[_Load]


def _told_by_sglang(answer: bytes) -> int:
    return sum(load.num_waiting_reqs for load in msgspec.json.decode(answer, type=_Loads).loads)


def _told_by_vllm(answer: bytes) -> int | None:
    waiting = _VLLM.findall(answer)
    return int(sum(map(float, waiting))) if waiting else None


_TELLING: tuple[tuple[str, Callable[[bytes], int | None]], ...] = (
    ("/v1/loads?include=core", _told_by_sglang),  # sglang 0.5.23: entrypoints/v1_loads.py
    ("/metrics", _told_by_vllm),  # vLLM 0.32.0: v1/metrics/loggers.py, one line an engine
)


class ServerGauge:
    """A ``Gauge`` over a transport: asks at ``path``, and reads the answer with ``read``."""

    def __init__(self, transport: Transport, path: str, read: Callable[[bytes], int | None]) -> None:
        self._transport = transport
        self._path = path
        self._read = read

    async def waiting(self) -> int | None:
        """How many requests wait; None if the server does not say."""
        try:
            return self._read(await self._transport.get(self._path))
        except (BackendError, msgspec.DecodeError):
            return None


@asynccontextmanager
async def open_gauge(name: str, table: Served) -> AsyncGenerator[ServerGauge | None]:
    """The gauge of the table's server; None if it tells in none of the ways that are known, or is a hosted one."""
    if isinstance(table, Hosted):
        yield None
        return
    patient = msgspec.structs.replace(table, timeout=min(table.timeout, _SECONDS), retries=0, in_flight=1)
    async with open_transport(name, patient) as transport:
        for path, read in _TELLING:
            gauge = ServerGauge(transport, path, read)
            if await gauge.waiting() is not None:
                yield gauge
                return
        yield None
