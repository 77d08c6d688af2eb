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

from arbiter.gateway.admission import GoneError, House
from arbiter.gateway.chat import chat_completions
from arbiter.gateway.completions import completions
from arbiter.gateway.error_responses import answer, refusal
from arbiter.gateway.inprocess_client import open_client
from arbiter.gateway.live_page import headers as page_headers
from arbiter.gateway.live_page import page
from arbiter.gateway.live_state import Board
from arbiter.gateway.middleware import Door
from arbiter.gateway.model_names import names, point
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

Endpoint = Callable[[House, Request], Awaitable[Response]]


class Model(msgspec.Struct, frozen=True):
    """An operating point, as OpenAI lists models."""

    id: str
    created: int = 0
    object: str = "model"
    owned_by: str = "arbiter"


class ModelList(msgspec.Struct, frozen=True):
    """All of them without thresholds."""

    data: list[Model]
    object: str = "list"


class State(msgspec.Struct, frozen=True):
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
        board, metrics = Board(arbiter), Metrics(arbiter)
        arbiter.watch(board)
        arbiter.watch(metrics)
        self._house = House(arbiter, board, metrics, arbiter.config.limits.problems + queue, largest, patience)
        starlette = Starlette(
            routes=self._routes(),
            exception_handlers={
                RequestError: _refused,
                GoneError: _gone,
                HTTPException: _no_such,
                Exception: _broken,
            },
        )
        self.app = Door(starlette, keys)

    @property
    def open(self) -> int:
        """Problems whose requests are not answered yet."""
        return self._house.open

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
        return Route(path, partial(endpoint, self._house), methods=[method])


async def _placed(endpoint: Endpoint, house: House, request: Request) -> Response:
    """A place first: the body of who has none is not even read."""
    house.enter(request)
    return await endpoint(house, request)


async def _page(_house: House, _request: Request) -> Response:
    return Response(page(), headers=page_headers(), media_type="text/html")


async def _live(house: House, _request: Request) -> Response:
    return answer(house.board.contents(), headers={"cache-control": "no-store"})


async def _health(_house: House, _request: Request) -> Response:
    return answer(State("ok"))


async def _ready(house: House, _request: Request) -> Response:
    is_open = house.arbiter.is_open
    return answer(State("ready" if is_open else "closing"), 200 if is_open else 503)


async def _metrics(house: House, _request: Request) -> Response:
    body, kind = house.metrics.render()
    return Response(body, headers={"content-type": kind})


async def _openapi(_house: House, _request: Request) -> Response:
    return answer(document(version("arbiter-reasoning")))


async def _models(house: House, _request: Request) -> Response:
    return answer(ModelList([Model(name) for name in names(house.arbiter)]))


async def _model(house: House, request: Request) -> Response:
    name: str = request.path_params["id"]
    point(house.arbiter, name)
    return answer(Model(name))


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
