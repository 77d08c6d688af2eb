"""ASGI middleware of every request: the access log, the clean-up after the response, and the check of the key."""

import hmac
import logging
import secrets
import time
from contextlib import AsyncExitStack
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arbiter.gateway.error_responses import refusal
from arbiter.protocols.errors import RequestError

_OPEN = ("/", "/health", "/ready", "/openapi.json")
"""Paths that need no key, because their responses are not secret. The page itself prompts for the key."""

_POLLED = ("/live", "/health", "/ready", "/metrics")

log = logging.getLogger("arbiter.access")


class AccessLogMiddleware:
    """Give each request an id, and log the request when it ends.

    The id is the header ``x-request-id`` of the response. Neither keys nor texts are logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, name = time.monotonic(), f"req_{secrets.token_hex(8)}"
        statuses = [499]  # if the client disconnects before the response starts

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            _log(scope, name, statuses[-1], time.monotonic() - began)


class AfterMiddleware:
    """Run the callbacks that a request has registered with ``after``.

    They run just before the last part of the response is sent, or when it can no longer be sent. So the capacity that a
    request holds is released before its client can send another request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        async with AsyncExitStack() as stack:
            _state(scope)["after"] = stack

            async def closing(message: Message) -> None:
                if message["type"] != "http.response.start" and not message.get("more_body"):
                    await stack.aclose()
                await send(message)

            await self._app(scope, receive, closing)


class AuthMiddleware:
    """Require one of ``keys`` as the bearer token. Keys are compared in constant time.

    The path of the scope alone decides whether a request needs a key. ``Request.url`` would also contain its headers.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        position = self._position(Request(scope))
        if position is not None:
            _state(scope)["key"] = f"key {position}"
            await self._app(scope, receive, send)
        else:
            await refusal(_unknown())(scope, receive, send)

    def _position(self, request: Request) -> int | None:
        """Return the position of the request's key among the keys, from 1; None if it has no valid key."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given.strip().encode() if scheme.lower() == "bearer" else b""
        same = [hmac.compare_digest(token, key) for key in self._keys]  # every key is compared
        return same.index(True) + 1 if True in same else None


def after(request: Request) -> AsyncExitStack:
    """Return the stack of callbacks that ``AfterMiddleware`` runs at the end of the request."""
    stack: AsyncExitStack = request.state.after
    return stack


def key_of(request: Request) -> str:
    """Return the name of the request's key: ``key`` and its position, or ``no key`` if the endpoint needs none."""
    return getattr(request.state, "key", "no key")


def _state(scope: Scope) -> dict[str, Any]:
    state: dict[str, Any] = scope.setdefault("state", {})
    return state


def _log(scope: Scope, name: str, status: int, seconds: float) -> None:
    fields = {
        "request": name,
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "seconds": round(seconds, 4),
        "client": (scope.get("client") or ("in process",))[0],
        "problems": _state(scope).get("problems", []),
    }
    is_quiet = scope["path"] in _POLLED and status == 200
    log.log(logging.DEBUG if is_quiet else logging.INFO, "request", extra=fields)


def _unknown() -> RequestError:
    message = "the key is missing or not valid: send it as `Authorization: Bearer KEY`"
    return RequestError(message, status=401, code="invalid_api_key")
