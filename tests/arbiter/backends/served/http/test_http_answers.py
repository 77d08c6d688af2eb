"""Which bytes are an answer, for both transports of the backend ``http``."""

from __future__ import annotations

import asyncio
import gzip
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.served.http_bodies import TooLargeError
from arbiter.backends.served.http_connection import Answer, Connection
from arbiter.backends.served.transport import TemporaryError, Transport, UnreachableError
from arbiter.protocols.errors import BackendError

if TYPE_CHECKING:
    from conftest import RawServer, Reply

Opening = Callable[..., AbstractAsyncContextManager[Transport]]

PATH = "/v1/completions"
KEY = "sk-of-nobody"
BODY = b'{"choices": []}' * 9


def message(body: bytes = b"{}", status: str = "200 OK", *fields: bytes) -> bytes:
    """Return an answer with the length of its body."""
    lines = b"\r\n".join((f"HTTP/1.1 {status}".encode(), b"content-length: %d" % len(body), *fields))
    return lines + b"\r\n\r\n" + body


def chunked(body: bytes, size: int, *fields: bytes) -> bytes:
    """Return an answer in chunks of ``size`` bytes."""
    head = b"\r\n".join((b"HTTP/1.1 200 OK", b"transfer-encoding: chunked", *fields))
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return head + b"\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


def packed(body: bytes) -> bytes:
    return message(body, "200 OK", b"Content-Encoding: GZIP")


async def answer(opening: Opening, raw: RawServer, reply: Reply | bytes, largest: int = 1 << 20) -> bytes:
    """Return the body of the answer to one request."""
    raw.replies(reply)
    async with opening(largest_body=largest) as transport:
        return await transport.post(PATH, {"prompt": "1+1?"}, "p")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply",
    [
        [message(BODY)],
        [chunked(BODY, 7)],
        [chunked(BODY, 1000)],
        [chunked(BODY, 7, b"trailer: a")[:-2] + b"a: b\r\n\r\n"],
        [packed(gzip.compress(BODY))],
        [chunked(gzip.compress(BODY), 3, b"content-encoding: gzip")],
        [b"HTTP/1.1 200 OK\r\n\r\n" + BODY, "close"],
        [b"HTTP/1.0 200 OK\r\n\r\n" + BODY, "close"],
        [message(BODY, "200 OK", b"connection: close"), "close"],
        [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", message(BODY)],
        [b"HTTP/1.1 100 Continue\r\n\r\n" + message(BODY)],
        [message(BODY, "200 OK", b"x-a: \xff\xfe", b"connection: upgrade", b"upgrade: h2c")],
        [bytes([byte]) for byte in message(BODY)],
    ],
    ids=range(13),
)
async def test_a_body_is_whole_however_it_is_sent(reply: Reply, raw: RawServer, opening: Opening) -> None:
    assert await answer(opening, raw, reply) == BODY


@pytest.mark.asyncio
async def test_large_bodies_arrive_and_leave_whole(raw: RawServer, opening: Opening) -> None:
    large = b"x" * (20 << 20)
    raw.replies(message(large))
    async with opening() as transport:
        assert await transport.post(PATH, {"prompt": "y" * 1_000_000}, "p") == large
    assert raw.requests[0].count(b"y") >= 1_000_000


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["404 No", "503 Busy"])
async def test_a_packed_refusal_is_unpacked(status: str, raw: RawServer, opening: Opening) -> None:
    reply = message(gzip.compress(b"no such model"), status, b"content-encoding: gzip")
    with pytest.raises(BackendError, match=f"answered {status[:3]}: no such model. "):
        await answer(opening, raw, reply)


@pytest.mark.asyncio
async def test_a_pause_is_read_beside_a_field_that_is_not_text(raw: RawServer, opening: Opening) -> None:
    with pytest.raises(TemporaryError) as caught:
        await answer(opening, raw, message(b"busy", "503 Busy", b"x-a: \xff\xfe", b"Retry-After: 3"))
    assert caught.value.pause == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply",
    [
        [message(BODY)],
        [chunked(BODY, 7)],
        [packed(gzip.compress(BODY))],
        [packed(gzip.compress(bytes(range(256)))[:-1])],
        [b"HTTP/1.1 200 OK\r\n\r\n" + BODY, "close"],
        [message(BODY, "500 No")],
    ],
    ids=["length", "chunked", "unpacked", "packed", "until closed", "refusal"],
)
async def test_a_body_beyond_its_limit_is_refused_and_not_tried_again(
    reply: Reply, raw: RawServer, opening: Opening
) -> None:
    limit = len(BODY) - 1
    with pytest.raises(BackendError) as caught:
        await answer(opening, raw, reply, limit)
    told = f"{raw.url}{PATH} answered with more than {limit} bytes. Is the url that of a model's server?"
    assert str(caught.value) == told
    assert not isinstance(caught.value, TemporaryError)


@pytest.mark.asyncio
@pytest.mark.parametrize("reply", [message(BODY), packed(gzip.compress(BODY))], ids=["plain", "packed"])
async def test_a_body_of_just_its_limit_is_taken(reply: bytes, raw: RawServer, opening: Opening) -> None:
    assert await answer(opening, raw, reply, len(BODY)) == BODY


@pytest.mark.asyncio
async def test_a_head_without_an_end_is_not_read_for_ever(raw: RawServer, opening: Opening) -> None:
    with pytest.raises(BackendError):
        await answer(opening, raw, [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000, "hold"])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply",
    [
        [b"SSH-2.0-OpenSSH_9.6\r\n" + KEY.encode() + b"\r\n", "hold"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + KEY.encode(), "close"],
        [packed(KEY.encode())],
        [packed(gzip.compress(BODY)[:-4])],
        [message(BODY)[:-1], "close"],
        [message(BODY)[:9], "close"],
        [chunked(BODY, 7)[:-5], "close"],
        ["close"],
    ],
    ids=range(8),
)
async def test_what_is_not_a_whole_answer_is_none_and_shows_no_key(
    reply: Reply, raw: RawServer, opening: Opening
) -> None:
    raw.replies(reply)
    async with opening(key=KEY) as transport:
        with pytest.raises(UnreachableError) as caught:
            await transport.post(PATH, {}, "p")
    told = str(caught.value)
    assert told.startswith(f"{raw.url}{PATH} does not answer: ")
    assert told.endswith(". Is the server up, and the url right?")
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.asyncio
async def test_an_encoding_that_was_not_accepted_is_told_as_such(raw: RawServer, opening: Opening) -> None:
    with pytest.raises(BackendError, match="answered in the encoding 'br', but only gzip is accepted") as caught:
        await answer(opening, raw, message(BODY, "200 OK", b"content-encoding: br"))
    assert not isinstance(caught.value, TemporaryError)


class Wire(asyncio.Transport):
    """Takes what is written. ``unsent`` bytes of it have not left yet. Once ``closing`` is set, it takes no more."""

    def __init__(self, unsent: int = 0) -> None:
        super().__init__()
        self._unsent = unsent
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def abort(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def is_closing(self) -> bool:
        return self.closing


def received(pieces: Sequence[bytes], unsent: int = 0, largest: int = 1 << 20) -> tuple[Answer, bool]:
    """Return what a connection reads from ``pieces``, and whether it can be used again."""

    async def exchange() -> tuple[Answer, bool]:
        connection = Connection(largest)
        connection.connection_made(Wire(unsent))
        asking = asyncio.ensure_future(connection.exchange(b""))
        await asyncio.sleep(0)
        for piece in pieces:
            connection.data_received(piece)
        return await asking, connection.usable

    return asyncio.run(exchange())


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = sorted({cut % len(data) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@given(st.binary(max_size=50), st.integers(1, 60), st.lists(st.integers(0, 1 << 16), max_size=8), st.booleans())
def test_an_answer_is_the_same_in_whatever_pieces_it_arrives(
    body: bytes, size: int, cuts: list[int], announced: bool
) -> None:
    whole = b"HTTP/1.1 100 Continue\r\n\r\n" * announced + chunked(body, size, b"Retry-After: 3")
    found, usable = received(pieces_of(whole, cuts))
    assert (found.status, found.body, found.headers[b"retry-after"], usable) == (200, body, b"3", True)


@given(st.binary(min_size=1, max_size=50), st.integers(1, 60), st.lists(st.integers(0, 1 << 16), max_size=8))
def test_a_limit_holds_in_whatever_pieces_a_body_arrives(body: bytes, size: int, cuts: list[int]) -> None:
    with pytest.raises(TooLargeError):
        received(pieces_of(chunked(body, size), cuts), largest=len(body) - 1)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
    ],
)
def test_what_may_be_read_in_two_ways_is_no_answer(data: bytes) -> None:
    with pytest.raises(ConnectionError, match=r"the answer is not HTTP/1\.1"):
        received([data])


@pytest.mark.parametrize(
    ("data", "unsent", "usable"),
    [
        (message(), 0, True),
        (message(), 1, False),  # the answer came before the whole request had left
        (message() + message(), 0, False),
        (message() + b"H", 0, False),
        (message(b"{}", "200 OK", b"connection: close"), 0, False),
        (message().replace(b"1.1", b"1.0"), 0, False),
        (message(b"{}", "200 OK", b"connection: keep-alive").replace(b"1.1", b"1.0"), 0, True),
    ],
)
def test_a_connection_is_used_again_only_if_both_sides_are_done_with_the_request(
    data: bytes, unsent: int, usable: bool
) -> None:
    found, again = received([data], unsent)
    assert (found.body, again) == (b"{}", usable)


@pytest.mark.asyncio
async def test_a_connection_that_is_closing_is_not_used_again() -> None:
    connection, wire = Connection(1 << 20), Wire()
    connection.connection_made(wire)
    asking = asyncio.ensure_future(connection.exchange(b""))
    await asyncio.sleep(0)
    connection.data_received(message())
    assert ((await asking).body, connection.usable) == (b"{}", True)
    wire.closing = True
    assert not connection.usable
