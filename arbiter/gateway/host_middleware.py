"""Answer only requests for the names of this endpoint.

A page of another site can give its own name the address of this machine. Its requests then reach an endpoint that
listens at 127.0.0.1, and the browser lets it read the answers. Their ``Host`` header still has the name of that site.
"""

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from arbiter.gateway.error_responses import refusal
from arbiter.gateway.host_names import canonical, host_of, is_loopback
from arbiter.protocols.errors import RequestError

_PROBES = ("/health", "/ready")
"""Paths that are answered for any host: probes of a cluster use addresses that the endpoint does not know."""


class HostMiddleware:
    """Refuse requests with 421 whose ``Host`` header has a name that is not one of this endpoint's.

    These are loopback names, ``hosts``, and the address at which the connection arrived. A client in process sets
    that address itself, so all of its requests are answered. ``refuse`` makes the response.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], refuse: Callable[[RequestError], ASGIApp] = refusal) -> None:
        self._app = app
        self._refuse = refuse
        self._hosts = frozenset(canonical(host) for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PROBES or self._is_known(scope):
            await self._app(scope, receive, send)
        else:
            await self._refuse(_misdirected(_hosts(scope)))(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        given = _hosts(scope)
        if len(given) != 1 or not (name := host_of(given[0])):
            return False
        server = scope.get("server")
        return name in self._hosts or is_loopback(name) or (server is not None and name == canonical(server[0]))


def _hosts(scope: Scope) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]


def _misdirected(hosts: list[str]) -> RequestError:
    message = (
        f"this endpoint does not answer for the host {', '.join(hosts)[:200]!r}: use its address, or start it with "
        "--allow-host NAME or with --api-key-env"
    )
    return RequestError(message, status=421, code="misdirected_request")
