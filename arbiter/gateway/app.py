"""The endpoint as an ASGI application."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arbiter.gateway.admission import Admission, GoneError
from arbiter.gateway.chat import chat_completions
from arbiter.gateway.completions import completions
from arbiter.gateway.error_responses import answer, refusal
from arbiter.gateway.inprocess_client import open_client
from arbiter.gateway.live_page import headers as page_headers
from arbiter.gateway.live_page import page
from arbiter.gateway.live_state import LiveState
from arbiter.gateway.middleware import AuthMiddleware
from arbiter.gateway.model_names import names, operating_point
from arbiter.gateway.openapi import document
from arbiter.gateway.prometheus import Metrics
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

Endpoint = Callable[[Admission, Request], Awaitable[Response]]


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
        live_state, metrics = LiveState(arbiter), Metrics(arbiter)
        arbiter.watch(live_state)
        arbiter.watch(metrics)
        self._admission = Admission(
            arbiter, live_state, metrics, arbiter.config.limits.problems + queue, largest, patience
        )
        starlette = Starlette(
            routes=self._routes(),
            exception_handlers={
                RequestError: _refused,
                GoneError: _gone,
                HTTPException: _no_such,
                Exception: _broken,
            },
        )
        self.app = AuthMiddleware(starlette, keys)

    @property
    def open(self) -> int:
        """Problems whose requests are not answered yet."""
        return self._admission.open

    def client(self, key: str | None = None) -> "AbstractAsyncContextManager[AsyncOpenAI]":
        """An OpenAI client that asks this endpoint without a socket."""
        return open_client(self.app, key)

    def _routes(self) -> list[Route]:
        return [
            self._route("/", _page),
            self._route("/live", _live),
            self._route("/health", _health),
            self._route("/ready", _ready),
            self._route("/metrics", _metrics),
            self._route("/openapi.json", _openapi),
            self._route("/v1/models", _models),
            self._route("/v1/models/{id:path}", _model),
            self._route("/v1/chat/completions", partial(_placed, chat_completions), "POST"),
            self._route("/v1/completions", partial(_placed, completions), "POST"),
            self._route("/v1/responses", partial(_placed, responses), "POST"),
        ]

    def _route(self, path: str, endpoint: Endpoint, method: str = "GET") -> Route:
        return Route(path, partial(endpoint, self._admission), methods=[method])


async def _placed(endpoint: Endpoint, admission: Admission, request: Request) -> Response:
    """A place first: the body of who has none is not even read."""
    admission.enter(request)
    return await endpoint(admission, request)


async def _page(_admission: Admission, _request: Request) -> Response:
    return Response(page(), headers=page_headers(), media_type="text/html")


async def _live(admission: Admission, _request: Request) -> Response:
    return answer(admission.live_state.contents(), headers={"cache-control": "no-store"})


async def _health(_admission: Admission, _request: Request) -> Response:
    return answer(HealthState("ok"))


async def _ready(admission: Admission, _request: Request) -> Response:
    is_open = admission.arbiter.is_open
    return answer(HealthState("ready" if is_open else "closing"), 200 if is_open else 503)


async def _metrics(admission: Admission, _request: Request) -> Response:
    body, kind = admission.metrics.render()
    return Response(body, headers={"content-type": kind})


async def _openapi(_admission: Admission, _request: Request) -> Response:
    return answer(document(version("arbiter-reasoning")))


async def _models(admission: Admission, _request: Request) -> Response:
    return answer(ModelList([ModelObject(name) for name in names(admission.arbiter)]))


async def _model(admission: Admission, request: Request) -> Response:
    name: str = request.path_params["id"]
    operating_point(admission.arbiter, name)
    return answer(ModelObject(name))


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
