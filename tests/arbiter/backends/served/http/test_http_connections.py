"""How connections are made, used again and ended, for both transports of the backend ``http``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from arbiter.backends.served.aiohttp_transport import AiohttpTransport, open_aiohttp
from arbiter.backends.served.http_transport import RedirectingTransport, open_http
from arbiter.backends.served.plain_transport import open_plain
from arbiter.backends.served.transport import Address, Transport, UnreachableError

if TYPE_CHECKING:
    from conftest import RawServer, Reply

Opening = Callable[..., AbstractAsyncContextManager[Transport]]

PATH = "/v1/completions"
PATIENCE = 20  # seconds, never waited for unless something hangs
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
PART = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}"


def lines(request: bytes) -> list[bytes]:
    """Return the first line and the fields of a request, in lower case."""
    return request.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")


def redirect(status: int, to: str) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n".encode()


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], indirect=True)
async def test_requests_in_turn_share_a_connection(raw: RawServer, opening: Opening) -> None:
    raw.replies(OK)
    async with opening() as transport:
        for _ in range(3):
            assert await transport.post(PATH, {}, "p") == await transport.get("/metrics") == b"{}"
    assert (raw.connections, len(raw.requests)) == (1, 6)


@pytest.mark.asyncio
async def test_a_host_is_found_by_its_name(raw: RawServer) -> None:
    raw.replies(OK)
    url = raw.url.replace("127.0.0.1", "localhost")
    for opening in (open_plain, open_aiohttp):
        async with opening(Address(url, timeout=PATIENCE, retries=0, connections=1)) as transport:
            await transport.get("/metrics")
    assert [url.removeprefix("http://").encode() in request for request in raw.requests] == [True, True]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply", [[b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"], [OK, "close"], [OK + OK]]
)
async def test_a_connection_that_the_server_ends_or_misuses_is_replaced(
    reply: Reply, raw: RawServer, opening: Opening
) -> None:
    raw.replies(reply, OK)
    async with opening() as transport:
        assert await transport.post(PATH, {}, "p") == b"{}"
        await asyncio.wait_for(raw.left.wait(), PATIENCE)
        await anyio.wait_all_tasks_blocked()
        assert await transport.post(PATH, {}, "p") == b"{}"
    assert raw.connections == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_a_connection_that_ends_after_an_answer_without_a_body_is_replaced(
    status: str, raw: RawServer, opening: Opening
) -> None:
    raw.replies([f"HTTP/1.1 {status}\r\n\r\n".encode(), "close"], OK)
    async with opening(timeout=2) as transport:
        assert await transport.post(PATH, {}, "p") == b""
        await asyncio.wait_for(raw.left.wait(), PATIENCE)
        await anyio.wait_all_tasks_blocked()
        assert await transport.post(PATH, {}, "p") == b"{}"
    assert raw.connections == 2


@pytest.mark.asyncio
async def test_a_connection_on_which_a_server_speaks_unasked_is_closed(raw: RawServer) -> None:
    raw.replies(OK)
    async with open_plain(Address(raw.url, timeout=PATIENCE, retries=0, connections=1)) as transport:
        await transport.post(PATH, {}, "p")
        raw.say(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await asyncio.wait_for(raw.left.wait(), PATIENCE)
        assert await transport.post(PATH, {}, "p") == b"{}"
    assert raw.connections == 2


@pytest.mark.asyncio
async def test_a_connection_that_ends_under_a_request_is_told_and_the_request_sent_once(
    raw: RawServer, opening: Opening
) -> None:
    raw.replies(OK, ["close"], OK)
    async with opening() as transport:
        await transport.post(PATH, {}, "p")
        with pytest.raises(UnreachableError):
            await transport.post(PATH, {}, "p")
    assert len(raw.requests) == 2


@pytest.mark.asyncio
async def test_a_connection_that_ends_under_a_get_is_replaced_once_and_the_get_repeated(
    raw: RawServer, opening: Opening
) -> None:
    raw.replies(OK, ["close"], OK, ["close"])
    async with opening() as transport:
        await transport.get("/metrics")
        assert await transport.get("/metrics") == b"{}"
        with pytest.raises(UnreachableError):
            await transport.get("/metrics")
    assert len(raw.requests) == 5


@pytest.mark.asyncio
@pytest.mark.parametrize("sent", [[], [OK[:20]], [PART], [OK.replace(b"content-length: 2", b"a: b")]])
async def test_a_request_that_is_cancelled_ends_at_the_server_and_frees_its_slot(
    sent: list[bytes], raw: RawServer, opening: Opening
) -> None:
    raw.replies([*sent, "hold"], OK)
    async with opening() as transport, asyncio.timeout(PATIENCE):
        before = asyncio.all_tasks()
        asking = asyncio.ensure_future(transport.post(PATH, {}, "p"))
        await raw.arrival()
        await anyio.wait_all_tasks_blocked()
        asking.cancel()
        await asyncio.wait([asking])
        await raw.left.wait()
        await anyio.wait_all_tasks_blocked()
        assert asking.cancelled()
        assert asking not in asyncio.all_tasks() - before
        assert await transport.post(PATH, {}, "p") == b"{}"


@pytest.mark.asyncio
async def test_a_request_that_is_cancelled_before_its_turn_is_never_sent(raw: RawServer, opening: Opening) -> None:
    raw.replies(["hold"], OK)
    async with opening() as transport, asyncio.timeout(PATIENCE):
        first = asyncio.ensure_future(transport.post(PATH, {}, "first"))
        await raw.arrival()
        second = asyncio.ensure_future(transport.post(PATH, {}, "second"))
        await anyio.wait_all_tasks_blocked()
        second.cancel()
        first.cancel()
        await asyncio.wait([first, second])
        assert await transport.post(PATH, {}, "third") == b"{}"
    assert len(raw.requests) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("opener", [open_plain, open_aiohttp])
async def test_a_request_that_is_cancelled_while_connecting_ends(opener: Any) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # more than its queue holds
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with opener(Address(url, timeout=PATIENCE, retries=0, connections=1)) as transport:
            with anyio.move_on_after(0.05) as scope:
                await transport.post(PATH, {}, "p")
            assert scope.cancelled_caught


@pytest.mark.asyncio
async def test_the_wait_for_a_slot_counts_as_time_for_the_answer(raw: RawServer, opening: Opening) -> None:
    raw.replies(["hold"])
    async with opening(timeout=0.2) as transport:
        asking = [asyncio.ensure_future(transport.post(PATH, {}, "p")) for _ in range(2)]
        errors = await asyncio.gather(*asking, return_exceptions=True)
    assert ["no complete answer within 0.2 s" in str(error) for error in errors] == [True, True]


@pytest.mark.asyncio
async def test_connections_end_with_the_block(raw: RawServer, opening: Opening) -> None:
    raw.replies(OK)
    async with opening() as transport:
        await transport.post(PATH, {}, "p")
    await asyncio.wait_for(raw.left.wait(), PATIENCE)


@pytest.mark.asyncio
async def test_cookies_are_not_sent_back(raw: RawServer) -> None:
    raw.replies(OK.replace(b"content-length", b"set-cookie: a=b\r\ncontent-length"))
    url = raw.url.replace("127.0.0.1", "localhost")
    for opener in (open_plain, open_aiohttp):
        async with opener(Address(url, timeout=PATIENCE, retries=0, connections=1)) as transport:
            await transport.get("/metrics")
            await transport.get("/metrics")
    assert [b"cookie" in request.lower() for request in raw.requests] == [False] * 4


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_is_followed_and_the_request_sent_whole(
    status: int, raw: RawServer, chosen: AbstractAsyncContextManager[Transport]
) -> None:
    raw.replies(redirect(status, "/other"), redirect(status, "/other"), OK, redirect(status, "/other"), OK)
    async with chosen as transport:
        assert await transport.post(PATH, {"a": 1}, "p") == b"{}"
        assert await transport.get("/metrics") == b"{}"
    assert [lines(request)[0].split()[1] for request in raw.requests[2:]] == [b"/other", b"/metrics", b"/other"]
    assert raw.requests[2].endswith(b'\r\n\r\n{"a":1}')


@pytest.mark.asyncio
async def test_redirects_without_an_end_are_told_as_no_answer(
    raw: RawServer, chosen: AbstractAsyncContextManager[Transport]
) -> None:
    raw.replies(redirect(307, "/v1/completions"))
    async with chosen as transport:
        with pytest.raises(UnreachableError):
            await transport.post(PATH, {}, "p")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1/api", True),
        ("http://a-host.example", True),
        ("https://127.0.0.1:1", False),
        ("http://127.0.0.1:1/ä", False),
        ("http://127.0.0.1:1/a%20b", False),
        ("http://127.0.0.1:1/a?b=c", False),
        ("http://[fe80::1%25eth0]:1", False),
        ("http://bücher.example", False),
        ("http://me@127.0.0.1", False),
    ],
)
async def test_an_address_that_needs_more_than_a_plain_connection_goes_to_aiohttp(
    url: str, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with open_http(Address(url, timeout=1, retries=0, connections=1)) as transport:
        assert isinstance(transport, RedirectingTransport if plain else AiohttpTransport)
    monkeypatch.setenv(f"{url.partition(':')[0]}_proxy", "http://127.0.0.1:2")
    monkeypatch.setenv("no_proxy", "")
    async with open_http(Address(url, timeout=1, retries=0, connections=1)) as transport:
        assert isinstance(transport, AiohttpTransport)
