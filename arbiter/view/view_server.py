"""Serve the viewer on a socket until a signal ends it (the extra ``gateway``)."""

import contextlib
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any

import anyio
import uvicorn

from arbiter.actors.supervision import services
from arbiter.gateway.client_connections import Connections
from arbiter.view.view_app import Viewer

_PATIENCE = 60.0  # seconds for which a browser may read nothing of an answer
_FAREWELL = 2  # seconds in which open requests can end


async def serve_view(viewer: Viewer, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM. ``ready`` is called once requests are accepted."""
    server = ViewServer(viewer, ready)
    async with services() as tasks:
        tasks.start_soon(_stop_on_signal, server)
        await server.serve([listening])


class ViewServer(uvicorn.Server):
    """A server of a viewer that calls ``ready`` once it has started, and does not handle signals."""

    def __init__(self, viewer: Viewer, ready: Callable[[], None]) -> None:
        protocol: Any = Connections(_PATIENCE).protocol()
        super().__init__(
            uvicorn.Config(
                viewer.app,
                log_config=None,
                http=protocol,
                ws="none",
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=_FAREWELL,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, and call ``ready``."""
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to ``serve_view``."""
        yield


async def _stop_on_signal(server: ViewServer) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            server.should_exit = True
