"""A server that sends the bytes a test scripts, and the transports of the backend ``http``."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import pytest
import pytest_asyncio

from arbiter.backends.served.aiohttp_transport import open_aiohttp
from arbiter.backends.served.http_transport import open_http
from arbiter.backends.served.plain_transport import open_plain
from arbiter.backends.served.transport import Address, Transport

Reply = Sequence[bytes | Literal["close", "hold"]]
"""Bytes to send. ``close`` closes the connection; ``hold`` sends nothing more until the client leaves."""

Opening = Callable[..., AbstractAsyncContextManager[Transport]]
PATIENCE = 20  # seconds, never waited for unless something hangs
_SIZE = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class RawServer:
    """Sends the replies in order, the last one to all further requests. ``requests`` are as received.

    ``left`` is set when a connection ends.
    """

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.left = asyncio.Event()
        self.url = ""
        self._replies: list[Reply] = []
        self._arrivals = asyncio.Semaphore(0)
        self._writers: set[asyncio.StreamWriter] = set()

    def replies(self, *replies: Reply | bytes) -> None:
        self._replies = [[reply] if isinstance(reply, bytes) else reply for reply in replies]

    async def arrival(self) -> None:
        """Wait until another request has arrived."""
        await self._arrivals.acquire()

    def say(self, data: bytes) -> None:
        """Send ``data`` on all connections, whether requested or not."""
        for writer in self._writers:
            writer.write(data)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            self.left.set()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        size = _SIZE.search(head)
        self.requests.append(head + await reader.readexactly(int(size[1]) if size else 0))
        self._arrivals.release()
        for part in self._replies[0] if len(self._replies) == 1 else self._replies.pop(0):
            if part == "close":
                return False
            if part == "hold":
                await reader.read()
                return False
            writer.write(part)
            await writer.drain()
        return True


@pytest.fixture(params=["127.0.0.1"])
def host(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest_asyncio.fixture
async def raw(host: str) -> AsyncGenerator[RawServer]:
    server = RawServer()
    running: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.ensure_future(server.serve(reader, writer)))

    async with await asyncio.start_server(accept, host, 0) as listening:
        shown = f"[{host}]" if ":" in host else host
        server.url = f"http://{shown}:{listening.sockets[0].getsockname()[1]}"
        yield server
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*running)


@pytest.fixture(params=[open_plain, open_aiohttp], ids=["plain", "aiohttp"])
def opening(request: pytest.FixtureRequest, raw: RawServer) -> Opening:
    """Return a function that opens a transport to the server."""

    def build(**fields: Any) -> AbstractAsyncContextManager[Transport]:
        given: dict[str, Any] = {"timeout": PATIENCE, "retries": 0, "connections": 1}
        return request.param(Address(raw.url, **{**given, **fields}))

    return build


@pytest.fixture
def chosen(raw: RawServer) -> AbstractAsyncContextManager[Transport]:
    """Return the transport that the backend opens to the server, with one connection."""
    return open_http(Address(raw.url, timeout=PATIENCE, retries=0, connections=1))
