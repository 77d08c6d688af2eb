"""Serve the endpoint on a socket until a signal ends it."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any

import anyio
import uvicorn

from arbiter.actors.supervision import services
from arbiter.gateway.app import Gateway
from arbiter.gateway.client_connections import Connections, DescriptorLog
from arbiter.gateway.listening_socket import BACKLOG

DRAIN = 30.0
"""The default time in seconds for which a shutdown waits for open problems."""

# connections that one turn of the event loop accepts: others are closed in between if there are too many
_ACCEPTED = 64
_FAREWELL = 5  # seconds after the last problem has ended in which its client can still read the response


async def serve(
    gateway: Gateway,
    listening: socket.socket,
    drain: float,
    ready: Callable[[], None],
    closing: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM.

    ``ready`` is called once requests are accepted, ``closing`` at the signal. After the signal, no further requests are
    accepted and open problems have ``drain`` seconds to end. The remaining ones are answered with 503. A second signal
    answers them with 503 immediately.
    """
    server = Server(gateway, drain, ready)
    async with services() as tasks:
        tasks.start_soon(_close_on_signal, server, gateway, drain, closing)
        await server.serve([listening])


class Server(uvicorn.Server):
    """A server of a gateway that calls ``ready`` once it has started, and does not handle signals.

    ``connections`` are the limits of its connections; None has the default ones.
    """

    def __init__(
        self, gateway: Gateway, drain: float, ready: Callable[[], None], connections: Connections | None = None
    ) -> None:
        connections = connections or Connections(gateway.patience)
        protocol: Any = connections.protocol()  # of h11: it limits the size of headers; httptools does not
        super().__init__(
            uvicorn.Config(
                gateway.app,
                log_config=None,
                http=protocol,
                ws="none",  # the protocol of a web socket would leave the limits
                access_log=False,
                server_header=False,
                lifespan="off",
                backlog=_ACCEPTED,
                timeout_graceful_shutdown=int(drain) + _FAREWELL,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, and call ``ready``."""
        asyncio.get_running_loop().set_exception_handler(DescriptorLog())
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(BACKLOG)  # uvicorn's ``backlog`` limits both those that wait and those that a turn accepts
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to ``serve``."""
        yield


async def _close_on_signal(server: Server, gateway: Gateway, drain: float, closing: Callable[[], None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as draining:
            async for _ in signals:
                if server.should_exit:
                    draining.cancel_scope.cancel()
                    break
                server.should_exit = True
                closing()
                draining.start_soon(gateway.arbiter.close, drain)
        await gateway.arbiter.close(0)
        await anyio.sleep_forever()
