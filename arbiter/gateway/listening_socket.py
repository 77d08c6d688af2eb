"""The socket at which a server of Arbiter listens."""

import socket

from arbiter.protocols.errors import ConfigError

BACKLOG = 2048
"""The number of connections that may wait to be accepted: many clients may connect at the same time."""


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ``ConfigError`` if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen at {host}, port {port}: {error}; choose another --host or --port") from error


def address(host: str, listening: socket.socket) -> str:
    """Return the address of a server at ``host``, as browsers take it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
