"""The transport for plain ``http`` addresses. It needs less than a quarter of the CPU time per request of aiohttp."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec

from arbiter.actors.slots import PrioritySemaphore
from arbiter.backends.served.http_bodies import PACKING, TooLargeError, too_large, unpacked_answer
from arbiter.backends.served.http_connection import Answer, Connection, UnansweredError
from arbiter.backends.served.refusals import silent
from arbiter.backends.served.time_limit import TimeLimit
from arbiter.backends.served.transport import Address, Hear, routing

PLAIN = re.compile(r"http://([\w.-]+|\[[0-9a-f:.]+\])(:\d+)?(/[\w./~-]*)?", re.ASCII | re.IGNORECASE)
"""The addresses that this transport can reach. They need no TLS, no encoding and no login."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LONGEST_IDLE = 15.0  # seconds; servers and firewalls drop idle connections
_NEXT_ADDRESS = 0.25  # seconds until the next address of a host is tried as well


class RedirectedError(Exception):
    """The server redirects the request, which this transport does not follow."""


class _ConnectTimeoutError(Exception):
    """There was no connection in time."""


class PlainTransport:
    """A ``Transport`` over connections of its own. ``open_plain`` makes it.

    ``post`` and ``get`` raise ``RedirectedError`` too.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        parts = urlsplit(address.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._origin = len(address.url) - len(parts.path)
        self._loop = asyncio.get_running_loop()
        fields = {"host": parts.netloc.removesuffix(":80"), "user-agent": "arbiter", "accept": "*/*"}
        fields |= {"accept-encoding": PACKING, "content-type": "application/json"}
        if address.key:
            fields["authorization"] = f"Bearer {address.key}"
        self._fields = _lines(fields)
        self._limit = TimeLimit(address.timeout)
        self._slots = PrioritySemaphore(address.connections)
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []

    async def post(self, path: str, body: Mapping[str, Any], problem: str, hear: Hear | None = None) -> bytes:
        data = msgspec.json.encode(body)
        fields = f"{self._fields}{_routing_line(problem)}content-length: {len(data)}"
        head = f"POST {self._path(path)} HTTP/1.1\r\n{fields}\r\n\r\n"
        return await self._answer(path, head.encode("ascii") + data, repeatable=False, hear=hear)

    async def get(self, path: str) -> bytes:
        head = f"GET {self._path(path)} HTTP/1.1\r\n{self._fields}\r\n"
        return await self._answer(path, head.encode("ascii"), repeatable=True)

    def _path(self, path: str) -> str:
        return self.address.at(path)[self._origin :]

    def close(self) -> None:
        """Close all connections."""
        self._limit.close()
        for connection in self._open:
            connection.close()

    async def _answer(self, path: str, request: bytes, *, repeatable: bool, hear: Hear | None = None) -> bytes:
        address = self.address
        try:
            with self._limit.block():
                await self._slots.take(())
                try:
                    answer = await self._exchange(request, repeatable, hear)
                finally:
                    self._slots.give()
        except _ConnectTimeoutError as error:
            raise silent(address, path, error, address.connect_timeout) from error
        except OSError as error:
            raise silent(address, path, error) from error
        except TooLargeError:
            raise too_large(address, path) from None
        if answer.status == 200 and b"content-encoding" not in answer.headers:
            return answer.body
        if answer.status in _REDIRECTS and b"location" in answer.headers:
            raise RedirectedError
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers.items()}
        return unpacked_answer(address, path, answer.status, headers, answer.body)

    async def _exchange(self, request: bytes, repeatable: bool, hear: Hear | None) -> Answer:
        """Return the answer to a request. Raises as ``Connection.exchange`` and ``_connect``.

        A server may close an idle connection while a request is on its way. If it is ``repeatable``, it is made again.
        """
        while True:
            idle = self._take_idle()
            connection = idle or await self._connect()
            try:
                return await connection.exchange(request, hear)
            except UnansweredError:
                if idle is None or not repeatable:
                    raise
            finally:
                if connection.usable:
                    self._idle.append(connection)
                else:
                    self._open.discard(connection)

    def _take_idle(self) -> Connection | None:
        """Return the connection that was used last, unless it has closed or was idle for too long."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and self._loop.time() - connection.idle_since < _LONGEST_IDLE:
                return connection
            connection.close()
            self._open.discard(connection)
        return None

    async def _connect(self) -> Connection:
        """Return a new connection. Raises ``_ConnectTimeoutError``, and ``OSError`` if the host refuses."""
        loop, host, port = self._loop, self._host, self._port
        try:
            async with asyncio.timeout(self.address.connect_timeout):
                if isinstance(loop, asyncio.BaseEventLoop):
                    _, connection = await loop.create_connection(
                        self._new_connection, host, port, happy_eyeballs_delay=_NEXT_ADDRESS
                    )
                else:  # uvloop lacks this option
                    _, connection = await loop.create_connection(self._new_connection, host, port)
        except TimeoutError as error:
            raise _ConnectTimeoutError from error
        self._open.add(connection)
        return connection

    def _new_connection(self) -> Connection:
        return Connection(self.address.largest_body)


@asynccontextmanager
async def open_plain(address: Address) -> AsyncGenerator[PlainTransport]:
    """Yield a transport to an address that ``PLAIN`` matches. Its connections are closed when the block ends."""
    transport = PlainTransport(address)
    try:
        yield transport
    finally:
        transport.close()


@lru_cache(maxsize=4096)  # more than the problems that are usually in flight
def _routing_line(problem: str) -> str:
    return _lines(routing(problem))


def _lines(fields: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())
