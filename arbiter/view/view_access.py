"""Who may read the viewer's API: requests with the token, from its own page, for its own host (the extra ``gateway``).

The page's files hold no secrets, so they need no token. Every response has headers that keep the page from running or
requesting anything else.
"""

import hmac
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arbiter.gateway.host_middleware import HostMiddleware
from arbiter.protocols.errors import RequestError
from arbiter.view.filters import FilterError

API = "/api/"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_OWN_SITES = ("same-origin", "none")  # ``none``: the user entered the address


def failure(error: RequestError) -> Response:
    """Return the response for ``error``."""
    place = (error.position, error.names) if isinstance(error, FilterError) else (None, None)
    named = {"code": error.code, "message": str(error), "position": place[0], "names": place[1]}
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
    return Response(msgspec.json.encode({"error": named}), error.status, headers, "application/json")


def guarded_app(app: ASGIApp, token: str, cookie: str, hosts: Sequence[str]) -> ASGIApp:
    """Return ``app`` with all checks and headers of the viewer."""
    return _HeadersMiddleware(HostMiddleware(_TokenMiddleware(app, token, cookie), hosts, _other_host))


def _other_host(_: RequestError) -> Response:
    message = "this viewer does not answer for this host: use the address that arbiter view prints, or --host"
    return failure(RequestError(message, status=421, code="other_host"))


class _HeadersMiddleware:
    """Add the headers of the viewer to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, with_headers)


class _TokenMiddleware:
    """Refuse requests to the API without the token. The address with the token sets it as a cookie."""

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        response = self._entry(request) if scope["path"] == "/" else self._refusal(request)
        await (response or self._app)(scope, receive, send)

    def _entry(self, request: Request) -> Response | None:
        """Return the response to the address with the token; None for the page itself."""
        given = request.query_params.get("token")
        if given is None:
            return None
        if not self._is_token(given):
            return failure(_no_token())
        response = RedirectResponse("/", 303)
        response.set_cookie(self._cookie, self._token, path="/", httponly=True, samesite="strict")
        return response

    def _refusal(self, request: Request) -> Response | None:
        if not request.url.path.startswith(API):
            return None
        if request.headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            return failure(RequestError("a page of another site made this request", status=403, code="cross_site"))
        return None if any(map(self._is_token, self._tokens(request))) else failure(_no_token())

    def _tokens(self, request: Request) -> list[str]:
        """Return the tokens that a request sends: as a bearer token, and as the cookie."""
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        found = [bearer.strip()] if kind.lower() == "bearer" else []
        cookies = SimpleCookie()
        for header in request.headers.getlist("cookie"):
            try:
                cookies.load(header)
            except CookieError:
                continue
        return [*found, cookies[self._cookie].value] if self._cookie in cookies else found

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self._token.encode())


def _no_token() -> RequestError:
    message = "the token is missing or wrong: open the address that arbiter view prints"
    return RequestError(message, status=401, code="no_token")
