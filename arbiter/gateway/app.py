"""The endpoint as an ASGI application."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from arbiter.gateway.cost_totals import Costs
from arbiter.gateway.detokenizer import Detokenizer
from arbiter.gateway.disconnect import GoneError
from arbiter.gateway.error_responses import answer, refusal
from arbiter.gateway.genai_metrics import GenAiMetrics
from arbiter.gateway.host_middleware import HostMiddleware
from arbiter.gateway.inprocess_client import open_client
from arbiter.gateway.live_page import headers as page_headers
from arbiter.gateway.live_page import page
from arbiter.gateway.live_state import LiveState
from arbiter.gateway.middleware import AccessLogMiddleware, AfterMiddleware, AuthMiddleware, after
from arbiter.gateway.model_names import ModelNames
from arbiter.gateway.openapi import document
from arbiter.gateway.prometheus import Metrics
from arbiter.gateway.request_body import BodyReader
from arbiter.gateway.responses import responses
from arbiter.gateway.stream_metrics import StreamMetrics
from arbiter.library.arbiter import Arbiter
from arbiter.log.live import EventFolder
from arbiter.protocols.errors import RequestError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from arbiter.gateway.live_spans import LiveSpans

QUEUE = 1024
"""The default number of problems that may wait to enter the ring."""

LARGEST = 4 << 20
"""The default size limit of a request body, in bytes."""

PATIENCE = 60.0
"""The default time in seconds in which a body must arrive, and for which a client may read nothing."""

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[GatewayContext, Request, bytes], Awaitable[Response]]


class ModelObject(msgspec.Struct, frozen=True):
    """An operating point, in the shape of an OpenAI model."""

    id: str
    created: int = 0
    object: str = "model"
    owned_by: str = "arbiter"


class ModelList(msgspec.Struct, frozen=True):
    """All available operating points, named without thresholds."""

    data: list[ModelObject]
    object: str = "list"


class HealthState(msgspec.Struct, frozen=True):
    """The body of ``/health`` and ``/ready``."""

    status: str


class Gateway:
    """The endpoint for an Arbiter; ``app`` is the ASGI application.

    Make the gateway before the Arbiter is opened, and keep the Arbiter open while the endpoint serves. ``queue``
    problems may wait to enter the ring; further ones are refused with 429. With ``keys``, a request must send one of
    them as a bearer token. Without, its ``Host`` must be the address at which it arrived, a loopback name, or one of
    ``hosts``. ``aliases`` are further names of models, with the operating points that they stand for, besides those
    of the configuration.

    ``spans`` receives the events of all problems but the shadows; the caller closes it.

    ``largest`` limits the size of a body in bytes. A client that does not send its body within ``patience`` seconds, or
    reads nothing of its stream for as long, is disconnected.

    The table ``[serve]`` of the configuration has further settings.

    Raises ``ConfigError`` if the Arbiter is already open, an alias is not allowed, or a setting needs prices that are
    missing.
    """

    def __init__(
        self,
        arbiter: Arbiter,
        *,
        keys: tuple[str, ...] = (),
        hosts: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
        queue: int = QUEUE,
        largest: int = LARGEST,
        patience: float = PATIENCE,
        spans: "LiveSpans | None" = None,
    ) -> None:
        self.arbiter, self.names, self.patience = (
            arbiter,
            ModelNames(arbiter, {**arbiter.config.serve.aliases, **(aliases or {})}),
            patience,
        )
        at_once = arbiter.config.limits.problems
        self._admission = Admission(at_once + queue, at_once)
        self.costs = Costs(arbiter, self._admission)
        self._live_state, self._metrics = LiveState(arbiter), Metrics(arbiter)
        registry = self._metrics.registry
        registry.register(self.costs)
        self._folders: tuple[EventFolder | LiveSpans, ...] = (
            self._live_state,
            self._metrics,
            GenAiMetrics(arbiter.config, registry),
            self.costs.spending,
        )
        if spans is not None:
            self._folders = (*self._folders, spans)
            registry.register(spans)
        for folder in self._folders:
            arbiter.watch(self.costs.shadows.others(folder))
        self._bodies = BodyReader(largest, patience)
        detokenizer = Detokenizer(arbiter.config.models.draft)
        self._context = GatewayContext(
            arbiter,
            self.names,
            self._admission,
            detokenizer,
            self._abandoned,
            patience,
            self.costs,
            StreamMetrics(registry, arbiter.config.serve.slo),
        )
        starlette = Starlette(
            routes=self._routes(),
            exception_handlers={
                RequestError: _refused,
                GoneError: _gone,
                RecursionError: _nested,
                HTTPException: _http_error,
                Exception: _internal_error,
            },
        )
        guarded = AuthMiddleware(starlette, keys) if keys else HostMiddleware(starlette, hosts)
        self.app = AccessLogMiddleware(AfterMiddleware(guarded))

    def check(self) -> None:
        """Check the settings of the open endpoint.

        Raises ``ConfigError`` if an alias is not the name of an operating point, or if shadows or caps need a model
        that is not open.
        """
        self.names.check_aliases()
        self.costs.check()

    @property
    def open(self) -> int:
        """The number of problems whose requests are not answered yet."""
        return self._admission.open

    def client(self, key: str | None = None) -> "AbstractAsyncContextManager[AsyncOpenAI]":
        """Return an OpenAI client that calls this endpoint in process, without a socket."""
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
            _route("/v1/chat/completions", self._solving(chat_completions), "POST"),
            _route("/v1/completions", self._solving(completions), "POST"),
            _route("/v1/responses", self._solving(responses), "POST"),
        ]

    def _solving(self, handler: Handler) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            self.costs.caps.check(request)
            self._admission.check()  # the body of a refused request is not read
            body = await self._bodies.read(request)
            self.costs.caps.check(request)  # again: other requests of the key may have reached a cap meanwhile
            self._admission.enter(after(request))  # only now: a body that does not arrive takes no capacity
            return await handler(self._context, request, body)

        return endpoint

    def _abandoned(self, problem: str, sample: int) -> None:
        for folder in self._folders:
            folder.left(problem, sample)

    async def _live(self, _request: Request) -> Response:
        contents = {**self._live_state.contents(), "cost": self.costs.contents()}
        return answer(contents, headers={"cache-control": "no-store"})

    async def _ready(self, _request: Request) -> Response:
        is_open = self.arbiter.is_open
        return answer(HealthState("ready" if is_open else "closing"), 200 if is_open else 503)

    async def _render_metrics(self, _request: Request) -> Response:
        body, kind = self._metrics.render()
        return Response(body, headers={"content-type": kind})

    async def _models(self, _request: Request) -> Response:
        return answer(ModelList([ModelObject(name) for name in self.names.listed()]))

    async def _model(self, request: Request) -> Response:
        name: str = request.path_params["id"]
        self.names.operating_point(name)
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
    assert isinstance(error, RequestError)  # noqa: S101 - only called for these
    return refusal(error)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # no client reads it; the access log has it


async def _nested(_request: Request, _error: Exception) -> Response:
    return refusal(RequestError("a value in the body is nested too deeply", code="invalid_value"))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - only called for these
    message = f"{request.method} {request.scope['path'][:200]}: {error.detail}"
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    response = refusal(RequestError(message, status=error.status_code, code=code))
    response.headers.update(error.headers or {})
    return response


async def _internal_error(_request: Request, _error: Exception) -> Response:
    message = "the endpoint failed: its log has the cause"
    return refusal(RequestError(message, status=500, code="internal_error"))
