"""Silent and slow clients: their connections are closed, and other clients are answered all the while."""

import asyncio
import errno
import logging
import resource
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import ByteStream

from arbiter.gateway.client_connections import ClientConnection, Connections, DescriptorLog, most_connections
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage

pytestmark = pytest.mark.slow
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
STREAM = b'{"model": "arbiter", "stream": true, "prompt": "q"}'
LONG = 600.0


@dataclass(frozen=True)
class Recorded(Connections):
    """Limits that also record each connection."""

    made: list[ClientConnection] = field(default_factory=list[ClientConnection])

    def protocol(self) -> Callable[..., ClientConnection]:
        make = super().protocol()

        def recorded(**options: Any) -> ClientConnection:
            self.made.append(make(**options))
            return self.made[-1]

        return recorded

    @property
    def open(self) -> int:
        return sum(one in one.connections for one in self.made)


async def connected(url: str) -> ByteStream:
    return await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))


async def read_all(stream: ByteStream) -> bytes:
    """Everything that the server sends until it closes the connection."""
    parts: list[bytes] = []
    with anyio.fail_after(30):
        try:
            while True:
                parts.append(await stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b"".join(parts)


async def drip(stream: ByteStream, byte: bytes = b"x") -> None:
    """Send a byte now and then until the connection is closed."""
    try:
        while True:
            await stream.send(byte)
            await anyio.sleep(0.02)
    except (anyio.BrokenResourceError, OSError):
        pass


async def ask(url: str) -> int:
    async with httpx2.AsyncClient(timeout=60) as client:
        return (await client.post(f"{url}/v1/completions", json={"model": "arbiter", "prompt": "q"})).status_code


@pytest.mark.asyncio
async def test_silent_connections_cannot_keep_out_others_and_the_oldest_is_closed_first(listening: Any) -> None:
    limits = Recorded(LONG, most=20, head=LONG)
    async with listening(connections=limits) as (_, url), AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(await connected(url)) for _ in range(60)]
        assert [await ask(url) for _ in range(3)] == [200, 200, 200]
        for stream in silent[:40]:
            assert await read_all(stream) == b""
        assert limits.open <= 20


@pytest.mark.asyncio
async def test_connections_that_send_no_request_or_a_part_of_its_headers_are_closed(listening: Any, until: Any) -> None:
    limits = Recorded(LONG, head=0.3)
    async with listening(connections=limits) as (_, url), AsyncExitStack() as stack:
        silent, half, slow = [await stack.enter_async_context(await connected(url)) for _ in range(3)]
        await half.send(HEAD)
        async with anyio.create_task_group() as dripping:
            await slow.send(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")
            dripping.start_soon(drip, slow)
            assert await ask(url) == 200
            assert [await read_all(stream) for stream in (silent, half, slow)] == [b"", b"", b""]
            dripping.cancel_scope.cancel()
        await until(lambda: limits.open == 0)


@pytest.mark.asyncio
async def test_a_slow_second_request_of_a_connection_is_closed_too(listening: Any) -> None:
    async with listening(connections=Connections(LONG, head=0.3)) as (_, url), await connected(url) as stream:
        await stream.send(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /hea")
        async with anyio.create_task_group() as dripping:
            dripping.start_soon(drip, stream)
            assert (await read_all(stream)).count(b"HTTP/1.1 200 OK") == 1
            dripping.cancel_scope.cancel()


@pytest.mark.asyncio
async def test_a_body_that_comes_byte_by_byte_is_a_408_and_its_connection_closed(listening: Any) -> None:
    limits = Recorded(LONG, linger=0.2)
    async with listening(connections=limits, patience=0.3) as (_, url), await connected(url) as stream:
        await stream.send(HEAD + b"content-length: 100000\r\n\r\n")
        async with anyio.create_task_group() as dripping:
            dripping.start_soon(drip, stream)
            assert b" 408 " in (await read_all(stream)).splitlines()[0]
            dripping.cancel_scope.cancel()
        assert limits.open == 0


@pytest.mark.asyncio
async def test_the_rest_of_a_refused_body_is_received_only_for_a_while(listening: Any) -> None:
    limits = Connections(LONG, linger=0.3)
    async with listening(connections=limits, largest=1000) as (_, url), await connected(url) as stream:
        await stream.send(HEAD + b"content-length: 100000\r\n\r\n")
        async with anyio.create_task_group() as dripping:
            dripping.start_soon(drip, stream)
            assert b" 413 " in (await read_all(stream)).splitlines()[0]
            dripping.cancel_scope.cancel()


@pytest.mark.asyncio
async def test_a_connection_is_used_again_when_the_rest_of_a_refused_body_has_come(listening: Any) -> None:
    async with listening(largest=1000) as (_, url), await connected(url) as stream:
        await stream.send(HEAD + b"content-length: 1200\r\n\r\n")
        assert b" 413 " in await stream.receive()
        await stream.send(b"x" * 1200 + b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert b"HTTP/1.1 200 OK" in await read_all(stream)


@pytest.mark.asyncio
async def test_a_body_that_has_not_come_takes_no_capacity(listening: Any) -> None:
    opening = listening(config={"limits": {"problems": 1}}, queue=0)
    async with opening as (served, url), AsyncExitStack() as stack:
        for _ in range(20):
            stream = await stack.enter_async_context(await connected(url))
            await stream.send(HEAD + b"content-length: 1000\r\n\r\n{")
        assert [await ask(url) for _ in range(3)] == [200, 200, 200]
        assert served.gateway.open == 0


@pytest.mark.asyncio
async def test_the_bodies_that_are_arriving_have_a_bound_on_their_bytes(listening: Any) -> None:
    async with listening(largest=1000) as (_, url), AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await connected(url)) for _ in range(65)]
        for stream in streams[:64]:
            await stream.send(HEAD + b"content-length: 1000\r\n\r\n" + b" " * 990)
        with anyio.fail_after(30):
            while b" 429 " not in (await refused(streams[64])):
                pass
        for stream in streams[:64]:
            await stream.aclose()
        with anyio.fail_after(30):
            while await ask(url) != 200:
                pass


async def refused(stream: ByteStream) -> bytes:
    await stream.send(HEAD + b"content-length: 1000\r\n\r\n" + b" " * 1000)
    return await stream.receive()


@pytest.mark.asyncio
async def test_a_connection_beyond_the_most_is_refused_while_all_are_answered(listening: Any, until: Any) -> None:
    limits = Recorded(LONG, most=2)
    async with listening(connections=limits, seconds=LONG) as (served, url), AsyncExitStack() as stack:
        for _ in range(2):
            stream = await stack.enter_async_context(await connected(url))
            await stream.send(HEAD + b"content-length: %d\r\n\r\n%s" % (len(STREAM), STREAM))
        await until(lambda: served.models.running == 2)
        third = await stack.enter_async_context(await connected(url))
        assert (await read_all(third)).startswith(b"HTTP/1.1 503 ")
        assert (limits.open, served.models.running) == (2, 2)


@pytest.mark.asyncio
async def test_the_socket_of_a_stream_that_is_given_up_is_closed_unread(listening: Any, until: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation(f"{request.step}" * 400_000, "separator", Usage(0, 1))

    limits, config = Recorded(LONG), {"run_type": "draft", "limits": {"max_steps": 40}}
    opening = listening(connections=limits, write=write, patience=0.5, config=config)
    async with opening as (served, url), await connected(url) as stream:
        await stream.send(HEAD + b"content-length: %d\r\n\r\n%s" % (len(STREAM), STREAM))
        await until(lambda: len(limits.made) == 1 and limits.open == 0)
        assert served.gateway.open == 0


@pytest.mark.asyncio
async def test_the_socket_of_an_answer_that_nobody_reads_is_closed(listening: Any, until: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation(f"{request.step}" * 20_000_000, "end", Usage(0, 1))

    limits = Recorded(0.5)
    opening = listening(connections=limits, write=write, config={"run_type": "draft"})
    async with opening as (_, url), await connected(url) as stream:
        await stream.send(HEAD + b"content-length: 36\r\n\r\n" + b'{"model": "arbiter", "prompt": "q"} ')
        await until(lambda: len(limits.made) == 1 and limits.open == 0)


@pytest.mark.parametrize(
    ("descriptors", "most"), [(256, 192), (1024, 768), (20_000, 4096), (resource.RLIM_INFINITY, 4096), (64, 1)]
)
def test_the_connections_leave_descriptors_for_everything_else(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, most: int
) -> None:
    def getrlimit(_kind: int) -> tuple[int, int]:
        return descriptors, descriptors

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    assert most_connections() == most


def test_running_out_of_descriptors_is_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log, loop = DescriptorLog(lambda: now[0]), asyncio.new_event_loop()
    context = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(errno.EMFILE, "Too many open files"),
    }
    with caplog.at_level(logging.ERROR):
        for second in range(0, 121, 10):
            now[0] = float(second)
            for _ in range(100):
                log(loop, context)
        lines = [record.getMessage() for record in caplog.records]
        log(loop, {"message": "something else"})
    loop.close()
    assert len(lines) == 3
    assert "ulimit -n" in lines[0]
    assert caplog.records[-1].getMessage() == "something else"
