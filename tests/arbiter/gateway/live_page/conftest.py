"""Fixtures: the live page in a real browser, with scripted models that answer, fail, hang and write markup."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import uvicorn
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from arbiter import Arbiter
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import parse
from arbiter.gateway.live_page import headers, page
from arbiter.gateway.live_state import LiveState
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from tests.browser import DESKTOP, Window

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from playwright.sync_api import Page


See = Callable[["Page", "Endpoint"], None]
Look = Callable[..., None]


def write(request: GenerationRequest) -> Generation:
    """Three steps. The target fails at the question ``break``; if the question is markup, the steps are too."""
    question = request.transcript.question
    if question == "break" and request.author == "target":
        raise BackendError("503: the engine is overloaded")
    said = question if "</script>" in question else f"The {request.author} says {request.step} of {question}."
    return Generation(said, "end" if request.step == 2 else "separator", Usage(20, 5))


def pause(request: GenerationRequest | ScoreRequest) -> float:
    """The last step of ``endless`` never arrives."""
    return 3600.0 if request.transcript.question == "endless" and request.step == 2 else 0.0


def scripted() -> Arbiter:
    """The second step is escalated."""
    served = {"backend": "http", "prompt": "{question}"}
    tables = {
        "draft": {**served, "model": "org/small", "url": "http://127.0.0.1:30000"},
        "target": {**served, "model": "org/large", "url": "http://127.0.0.1:30001"},
    }
    given = Models(
        draft=ModelHandle(ScriptedGenerator(write, pause)),
        target=ModelHandle(ScriptedGenerator(write)),
        scorers={"router": ModelHandle(ScriptedScorer(lambda request: 0.75 if request.step == 1 else 0.25))},
    )
    return Arbiter(parse({"models": tables}, "test"), models=given, leaving="cancel")


class Endpoint:
    """The Arbiter that the page shows; with a ``key``, requests need it."""

    def __init__(self, portal: BlockingPortal, arbiter: Arbiter, key: str | None) -> None:
        self.live_state = LiveState(arbiter)
        self.cost: dict[str, Any] | None = None
        self.port = 0
        arbiter.watch(self.live_state)
        self._arbiter = arbiter
        self._key = key
        self._portal = portal
        self._line: AbstractContextManager[object] = nullcontext()
        self._app = Starlette(routes=[Route("/", self._page), Route("/live", self._live)])

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        async with self._arbiter:
            yield

    def connect(self) -> None:
        """Start to listen, on the same port each time."""
        self._line = self._portal.wrap_async_context_manager(self._listening())
        self._line.__enter__()

    def disconnect(self) -> None:
        """Stop to listen."""
        self._line.__exit__(None, None, None)

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[None]:
        config = uvicorn.Config(self._app, "127.0.0.1", self.port, log_level="error", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve)
            while not server.started:  # noqa: ASYNC110 - it tells nobody else
                await anyio.sleep(0.01)
            self.port = server.servers[0].sockets[0].getsockname()[1]
            yield
            server.should_exit = True

    def solve(self, *questions: Any, **overrides: Any) -> None:
        """Solve the questions one after another."""
        for question in questions:
            self._portal.call(lambda question=question: self._arbiter.solve(question, **overrides))

    def begin(self, question: str) -> Callable[[], object]:
        """Start to solve a question; the returned function abandons it."""
        task = self._arbiter.task(question)
        future = self._portal.start_task_soon(self._arbiter.run, task)

        def leave() -> None:
            future.cancel()
            self._portal.call(self.live_state.left, task.id)

        return leave

    async def _page(self, request: Request) -> Response:
        return Response(page(), headers=headers())

    async def _live(self, request: Request) -> Response:
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return JSONResponse({"error": {"message": "no"}}, status_code=401)
        return JSONResponse({**self.live_state.contents(), "cost": self.cost}, headers={"cache-control": "no-store"})


@pytest.fixture
def look(window: Window) -> Look:
    """Open the page of an endpoint and call a function with it. ``expected`` is in what the console may say."""

    def show(
        see: See,
        arbiter: Arbiter | None = None,
        key: str | None = None,
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        expected: str = "",
    ) -> None:
        with start_blocking_portal("asyncio") as portal:
            endpoint = Endpoint(portal, arbiter or scripted(), key)
            with portal.wrap_async_context_manager(endpoint.opened()):
                endpoint.connect()
                address = f"http://127.0.0.1:{endpoint.port}/"
                try:
                    visit = window.visit(address, lambda page: see(page, endpoint), size, scheme)
                finally:
                    endpoint.disconnect()
        assert {*visit.requested} == {address, f"{address}live"}
        assert [text for text in visit.console if not (expected and expected in text)] == []

    return show
