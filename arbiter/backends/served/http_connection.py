"""One connection to a server, over HTTP/1.1 without TLS. llhttp, through ``httptools``, parses the answers."""

import asyncio
from typing import cast

import httptools
import msgspec

from arbiter.backends.served.http_bodies import EVENTS, TooLargeError
from arbiter.backends.served.transport import Hear

_LONGEST_HEAD = 1 << 18


class Answer(msgspec.Struct, frozen=True):
    """An answer as it was sent. The names of ``headers`` are lower-case; of several with one name, the last counts."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class UnansweredError(ConnectionError):
    """The server closed the connection, and had sent nothing of an answer."""


class Connection(asyncio.Protocol):
    """Makes one request at a time.

    ``largest`` is the limit of an answer's body in bytes, before it is unpacked. ``idle_since`` is the time of the loop
    at which the last answer was complete.
    """

    def __init__(self, largest: int) -> None:
        self.idle_since = 0.0
        self._done = False
        self._largest = largest
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._hear: Hear | None = None
        self._received = 0
        self._begin_answer()

    @property
    def usable(self) -> bool:
        """Whether it can make another request: the last answer is complete, and the connection is not closing."""
        return self._done and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    async def exchange(self, request: bytes, hear: Hear | None = None) -> Answer:
        """Send a request, and return the answer. Unless the answer is complete, the connection closes.

        ``hear`` takes the parts of the body of a good answer as they arrive, unless they are packed.

        Raises ``UnansweredError``, or another ``ConnectionError`` if the answer breaks off or is not HTTP, and
        ``TooLargeError``.
        """
        self._done, self._received, self._hear = False, 0, hear
        waiter = self._waiter = self._loop.create_future()
        try:
            self._transport.write(request)
            return await waiter
        finally:
            self._waiter = self._hear = None
            if not self.usable:
                self.close()

    def close(self) -> None:
        """Close the connection immediately. This ends a request at the server."""
        self._done = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # nothing was requested
            self.close()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ConnectionError(f"the answer is not HTTP/1.1 ({error})"))
        if self._received > _LONGEST_HEAD + (self._largest if self._has_head else 0):
            self._fail(TooLargeError())

    def connection_lost(self, exc: Exception | None) -> None:
        self._done = False
        if exc is None and self._has_head and self._ends_with_connection:
            self._complete(reusable=False)
        elif self._received:
            self._fail(ConnectionError(str(exc or "the connection was closed before the answer was complete")))
        else:
            self._fail(UnansweredError(str(exc or "the server closed the connection without an answer")))

    def on_message_begin(self) -> None:
        self._begin_answer()
        if self._waiter is None or self._waiter.done():  # a second answer to one request
            self._done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._has_head = True
        self._ends_with_connection = self._headers.keys().isdisjoint((b"content-length", b"transfer-encoding"))

        self._is_plain = self._parser.get_status_code() == 200 and b"content-encoding" not in self._headers

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        if self._hear is not None and self._is_plain:
            self._hear(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # else it announces the answer
            self._complete(reusable=self._parser.should_keep_alive())

    @property
    def _is_stream(self) -> bool:
        """Whether the answer is a stream of events, after which a server may close (``connection_fields``)."""
        return self._headers.get(b"content-type", b"").startswith(EVENTS.encode())

    def _begin_answer(self) -> None:
        self._has_head = self._ends_with_connection = self._is_plain = False
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []

    def _complete(self, *, reusable: bool) -> None:
        body = b"".join(self._parts)
        if len(body) > self._largest:
            self._fail(TooLargeError())
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Answer(self._parser.get_status_code(), self._headers, body))
            self._done = reusable and not self._is_stream and not self._transport.get_write_buffer_size()
            self.idle_since = self._loop.time()

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
