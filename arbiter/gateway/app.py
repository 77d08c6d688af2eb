"""The endpoint as an ASGI application."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arbiter.gateway.admission import Admission
from arbiter.gateway.chat import chat_completions
from arbiter.gateway.completions import completions
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.detokenizer import Detokenizer
from arbiter.gateway.disconnect import GoneError
from arbiter.gateway.error_responses import answer, refusal
from arbiter.gateway.inprocess_client import open_client
from arbiter.gateway.live_page import headers as page_headers
from arbiter.gateway.live_page import page
from arbiter.gateway.live_state import LiveState
from arbiter.gateway.middleware import AccessLogMiddleware, AfterMiddleware, AuthMiddleware, after
from arbiter.gateway.model_names import names, operating_point
from arbiter.gateway.openapi import document
from arbiter.gateway.prometheus import Metrics
from arbiter.gateway.request_body import BodyReader
from arbiter.gateway.responses import responses
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import RequestError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

QUEUE = 1024
"""Problems that may wait for room in the ring."""

LARGEST = 4 << 20
"""Bytes of the largest body that is read."""

PATIENCE = 60.0
"""Seconds for which a client may send or read nothing."""

Endpoint = Callable[[Request], Awaitable[Response]]
Asking = Callable[[GatewayContext, Request, bytes], Awaitable[Response]]


class ModelObject(msgspec.Struct, frozen=True):
    """An operating point, as OpenAI lists models."""

    id: str
    created: int = 0
    object: str = "model"
    owned_by: str = "arbiter"


class ModelList(msgspec.Struct, frozen=True):
    """All of them without thresholds."""

    data: list[ModelObject]
    object: str = "list"


class HealthState(msgspec.Struct, frozen=True):
    """What ``/health`` and ``/ready`` say."""

    status: str


class Gateway:
    """The endpoint over an Arbiter, which is opened afterwards, and open while it serves: ``app`` is the ASGI
    application.

    ``queue`` problems may wait for room in the
    ring, more are refused with 429. With ``keys``, one of them must come as a bearer token. Bodies may have
    ``largest`` bytes. A client that sends nothing of its body, or reads nothing of its stream, for ``patience`` seconds
    is left.

    Raises ``ConfigError`` if the Arbiter is open already.
    """

    def __init__(
        self,
        arbiter: Arbiter,
        *,
        keys: tuple[str, ...] = (),
        queue: int = QUEUE,
        largest: int = LARGEST,
        patience: float = PATIENCE,
    ) -> None:
        self.arbiter = arbiter
        self._live_state, self._metrics = LiveState(arbiter), Metrics(arbiter)
        arbiter.watch(self._live_state)
        arbiter.watch(self._metrics)
        at_once = arbiter.config.limits.problems
        self._admission = Admission(at_once + queue, at_once)
        self._bodies = BodyReader(largest, patience)
        detokenizer = Detokenizer(arbiter.config.models.draft)
        self._context = GatewayContext(arbiter, self._admission, detokenizer, self._left, patience)
        starlette = Starlette(
            routes=self._routes(),
            exception_handlers={
                RequestError: _refused,
                GoneError: _gone,
                HTTPException: _no_such,
                Exception: _broken,
            },
        )
        self.app = AccessLogMiddleware(AfterMiddleware(AuthMiddleware(starlette, keys)))

    @property
    def open(self) -> int:
        """Problems whose requests are not answered yet."""
        return self._admission.open

    def client(self, key: str | None = None) -> "AbstractAsyncContextManager[AsyncOpenAI]":
        """An OpenAI client that asks this endpoint without a socket."""
        return open_client(self.app, key)

    def _routes(self) -> list[Route]:
        return [
            _route("/", _page),
            _route("/live", self._live),
            _route("/health", _health),
            _route("/ready", self._ready),
            _route("/metrics", self._render_metrics),
            _route("/openapi.json", _openapi),
            _route("/v1/models", self._models),
            _route("/v1/models/{id:path}", self._model),
            _route("/v1/chat/completions", self._asking(chat_completions), "POST"),
            _route("/v1/completions", self._asking(completions), "POST"),
            _route("/v1/responses", self._asking(responses), "POST"),
        ]

    def _asking(self, ask: Asking) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            self._admission.enter(after(request))  # first: a body without a place is not even read
            return await ask(self._context, request, await self._bodies.read(request))

        return endpoint

    def _left(self, problem: str) -> None:
        self._live_state.left(problem)
        self._metrics.left(problem)

    async def _live(self, _request: Request) -> Response:
        return answer(self._live_state.contents(), headers={"cache-control": "no-store"})

    async def _ready(self, _request: Request) -> Response:
        is_open = self.arbiter.is_open
        return answer(HealthState("ready" if is_open else "closing"), 200 if is_open else 503)

    async def _render_metrics(self, _request: Request) -> Response:
        body, kind = self._metrics.render()
        return Response(body, headers={"content-type": kind})

    async def _models(self, _request: Request) -> Response:
        return answer(ModelList([ModelObject(name) for name in names(self.arbiter)]))

    async def _model(self, request: Request) -> Response:
        name: str = request.path_params["id"]
        operating_point(self.arbiter, name)
        return answer(ModelObject(name))


def _route(path: str, endpoint: Endpoint, method: str = "GET") -> Route:
    return Route(path, endpoint, methods=[method])


async def _page(_request: Request) -> Response:
    return Response(page(), headers=page_headers(), media_type="text/html")


async def _health(_request: Request) -> Response:
    return answer(HealthState("ok"))


async def _openapi(_request: Request) -> Response:
    return answer(document(version("arbiter-reasoning")))


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 - it is called for these alone
    return refusal(error)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the access log has it


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is called for these alone
    told = f"{request.method} {request.url.path[:200]}: {error.detail}"
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    made = refusal(RequestError(told, status=error.status_code, code=code))
    made.headers.update(error.headers or {})
    return made


async def _broken(_request: Request, _error: Exception) -> Response:
    return refusal(RequestError("the endpoint failed: its log has the cause", status=500, code="internal_error"))
