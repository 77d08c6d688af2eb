"""What every request passes on its way in and out: the key, and the access log."""

import hmac
import logging
import secrets
import time
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arbiter.gateway.error_responses import refusal
from arbiter.protocols.errors import RequestError

_OPEN = ("/", "/health", "/ready", "/openapi.json")
"""Paths that need no key: what they say is no secret. The page asks for the key itself."""

_ASKED_OFTEN = ("/live", "/health", "/ready", "/metrics")

log = logging.getLogger("arbiter.access")


class AuthMiddleware:
    """Wraps an application. With ``keys``, a request must have one of them as its bearer token.

    Keys are compared in constant time, and are never logged. The header ``x-request-id`` of an answer is the request's
    name in the access log. What a request leaves to be done ``after`` it is done when its response is about to be
    whole, or cannot be sent any more.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, name, state = time.monotonic(), f"req_{secrets.token_hex(8)}", scope.setdefault("state", {})
        statuses = [499]  # of a client that goes away before there is another one

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            elif not message.get("more_body"):  # its places are free before its client can ask again
                await state["after"].aclose()
            await send(message)

        try:
            async with AsyncExitStack() as after:
                state["after"] = after
                if self._is_known(Request(scope)):
                    await self._app(scope, receive, watched)
                else:
                    await refusal(_unknown())(scope, receive, watched)
        finally:
            status = statuses[-1]
            fields = {
                "request": name,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(time.monotonic() - began, 4),
                "client": (scope.get("client") or ("in process",))[0],
                "problems": state.get("problems", []),
            }
            is_quiet = scope["path"] in _ASKED_OFTEN and status == 200
            log.log(logging.DEBUG if is_quiet else logging.INFO, "request", extra=fields)

    def _is_known(self, request: Request) -> bool:
        if not self._keys or request.url.path in _OPEN:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given.strip().encode() if scheme.lower() == "bearer" else b""
        return any([hmac.compare_digest(token, key) for key in self._keys])  # noqa: C419 - each is compared


def _unknown() -> RequestError:
    return RequestError("no valid key: send one as `Authorization: Bearer KEY`", status=401, code="invalid_api_key")
