"""Connections of clients: how many there may be, and how long they may wait for a request or leave an answer unread.

uvicorn ends a connection that is silent after an answer. Its limit on concurrency counts connections, but refuses the
requests of all clients while silent ones hold them. So both are done here, per connection.
"""

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0
"""The time in seconds in which the headers of a request must arrive."""

LINGER_SECONDS = 5.0
"""The time in seconds for which a body is still received after its request was answered, usually with a refusal."""

_MOST = 4096
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"


def most_connections() -> int:
    """Return the number of connections that leave a quarter of the file descriptors, at least 64, to everything else.

    Model servers, logs and files need them. The result is at least 1 and at most 4096.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return _MOST
    return max(1, min(_MOST, descriptors - max(64, descriptors // 4)))


@dataclass(frozen=True)
class Connections:
    """The limits of all connections of an endpoint, and those that wait for a request or a part of it, oldest first.

    ``patience`` is the time in seconds for which a client may read nothing of what was sent to it.
    """

    patience: float
    most: int = field(default_factory=most_connections)
    head: float = HEAD_SECONDS
    linger: float = LINGER_SECONDS
    waiting: "dict[ClientConnection, None]" = field(default_factory=dict["ClientConnection", None])

    def protocol(self) -> "Callable[..., ClientConnection]":
        """Return what makes the protocol of a connection for uvicorn."""
        return partial(ClientConnection, limits=self)


class ClientConnection(H11Protocol):
    """A connection with a client that is closed if it does not send a request, or does not read an answer, in time.

    If there are too many connections, the one that has waited longest for a request, or for a part of it, is closed. If
    none waits, a further connection is refused with 503.
    """

    def __init__(self, *arguments: Any, limits: Connections, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **options)
        self.app: Any = self._checked(self.app)
        self._limits = limits
        self._request_timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request. If there are too many connections, close one."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.most:
            longest = next(iter(self._limits.waiting), None)
            if longest is None:
                transport.write(_BUSY)
                transport.close()
                return
            longest.abort()
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all timers."""
        self._limits.waiting.pop(self, None)
        self._request_timer = _cancelled(self._request_timer)
        self._reading_timer = _cancelled(self._reading_timer)
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that no handler reads."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reading()
        elif self.conn.their_state is h11.SEND_BODY:
            self._unset_keepalive_if_required()  # data would restart it, so that a slow body would never end
            self._request_timer = _cancelled(self._request_timer)
            self._request_timer = self.loop.call_later(self._limits.linger, self.abort)
        self._note()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, which has been silent after an answer."""
        super().timeout_keep_alive_handler()
        self._await_reading()

    def pause_writing(self) -> None:
        """Stop sending to a client that does not read."""
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        """Send again."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._reading_timer = _cancelled(self._reading_timer)

    def abort(self) -> None:
        """Close the connection, and drop what its client has not read."""
        self._limits.waiting.pop(self, None)
        if self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is None before the first request
            self.cycle.disconnected = True
        self.transport.abort()

    def _note(self) -> None:
        """Note whether a request, or a part of it, is missing, and limit the time for its headers."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY) or self.transport.is_closing():
            self._limits.waiting.pop(self, None)
        else:
            self._limits.waiting.setdefault(self)
        if self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            if self._request_timer is None:
                self._request_timer = self.loop.call_later(self._limits.head, self.abort)
        elif self.conn.our_state is not h11.DONE:  # the time for the rest of an answered request continues
            self._request_timer = _cancelled(self._request_timer)

    def _await_reading(self) -> None:
        self._reading_timer = _cancelled(self._reading_timer)
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            self._reading_timer = self.loop.call_later(self._limits.patience, self._check_reading, unsent)

    def _check_reading(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            self.abort()
        else:
            self._await_reading()

    def _checked(self, app: ASGIApp) -> ASGIApp:
        """Return ``app``, and close the connection when it gives up an answer that it has begun."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            cycle = self.cycle
            try:
                await app(scope, receive, send)
            finally:
                if cycle.response_started and not cycle.response_complete:
                    self.abort()

        return run


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class DescriptorLog:
    """An exception handler of the event loop that logs at most once a minute that file descriptors have run out.

    asyncio reports it for each connection that it cannot accept.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle what the event loop reports."""
        if "out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + 60
            logging.getLogger("arbiter.gateway").error(
                "no connection can be accepted: %s; raise the limit of file descriptors (ulimit -n)",
                context.get("exception"),
            )
