"""Serve the endpoint on a socket until a signal ends it."""

import contextlib
import signal
import socket
from collections.abc import Callable, Generator

import anyio
import uvicorn

from arbiter.actors.supervision import services
from arbiter.gateway.app import Gateway
from arbiter.protocols.errors import ConfigError

DRAIN = 30.0
"""The default time in seconds for which a shutdown waits for open problems."""

_BACKLOG = 2048  # connections that may wait to be accepted: many clients may connect at the same time
_FAREWELL = 5  # seconds after the last problem has ended in which its client can still read the response


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ``ConfigError`` if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen at {host}, port {port}: {error}; choose another --host or --port") from error


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
    server = _Server(
        uvicorn.Config(
            gateway.app,
            log_config=None,
            http="h11",  # it limits the size of headers; httptools does not
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=int(drain) + _FAREWELL,
        ),
        ready,
    )
    async with services() as tasks:
        tasks.start_soon(_close_on_signal, server, gateway, drain, closing)
        await server.serve([listening])


class _Server(uvicorn.Server):
    """A server that calls ``ready`` once it has started, and does not handle signals."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def _close_on_signal(server: _Server, gateway: Gateway, drain: float, closing: Callable[[], None]) -> None:
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
