"""Fixtures: the endpoint in process, with scripted models whose steps name their question."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer, Seconds
from arbiter.config.config import Config, parse
from arbiter.gateway.app import Gateway
from arbiter.gateway.client_connections import Connections
from arbiter.gateway.inprocess_client import BASE, open_http_client
from arbiter.gateway.listening_socket import bound
from arbiter.gateway.uvicorn_server import Server
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Author, Usage

STEPS = 3
"""The number of steps of a problem; the draft's second one is rejected."""


def written(request: GenerationRequest) -> Generation:
    """The requested step: it names its author and its question, and has as many tokens as words."""
    text = f"{request.author} {request.step} of {request.transcript.question}"
    usage = Usage(prompt_tokens=10, completion_tokens=len(text.split()), cached_tokens=4)
    return Generation(text, "end" if request.step + 1 == STEPS else "separator", usage)


def estimated(request: ScoreRequest) -> float:
    """The router's score: only the second step is escalated."""
    return 0.9 if request.step == 1 else 0.1


Wrap = Callable[[Generator], Generator]


class Scripted:
    """The scripted models, with their recorded requests. The ring gets what ``wrap`` makes of those that write."""

    def __init__(
        self,
        write: Callable[[GenerationRequest], Generation | str],
        seconds: Seconds,
        texts: Callable[[GenerationRequest], Sequence[str]],
        wrap: Wrap | None = None,
    ) -> None:
        self._wrap: Wrap = wrap or (lambda model: model)
        self.draft = ScriptedGenerator(write, seconds, texts)
        self.target = ScriptedGenerator(write, seconds, texts)
        self.router = ScriptedScorer(estimated, seconds)

    @property
    def handles(self) -> Models:
        return Models(
            draft=ModelHandle[Generator](self._wrap(self.draft), 10_000),
            target=ModelHandle[Generator](self._wrap(self.target), 10_000),
            scorers={"router": ModelHandle[Scorer](self.router, 10_000)},
        )

    @property
    def running(self) -> int:
        return self.draft.running + self.target.running + self.router.running

    def asked(self, role: Author) -> int:
        return (self.draft if role == "draft" else self.target).calls


class Served(msgspec.Struct, frozen=True):
    """An open endpoint; ``client`` calls it, and ``post`` sends JSON."""

    gateway: Gateway
    models: Scripted
    client: httpx2.AsyncClient

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        return await self.client.post(f"{BASE}/v1/{path}", json={"model": "arbiter", **body})

    async def chat(self, question: str = "q", **body: Any) -> httpx2.Response:
        return await self.post("chat/completions", messages=[{"role": "user", "content": question}], **body)

    async def events(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The data of all events; the last event, ``[DONE]``, as an empty object."""
        answer = await self.post(path, stream=True, **body)
        assert answer.status_code == 200, answer.text
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return [{} if line == "[DONE]" else msgspec.json.decode(line) for line in lines]

    async def chat_events(self, question: str = "q", **body: Any) -> list[dict[str, Any]]:
        return await self.events("chat/completions", messages=[{"role": "user", "content": question}], **body)


Open = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture(scope="session")
def endpoint() -> Open:
    """Open an endpoint with scripted models, with configuration keys and options of ``Gateway``."""

    @asynccontextmanager
    async def open_endpoint(
        write: Callable[[GenerationRequest], Generation | str] = written,
        seconds: Seconds = 0.0,
        texts: Callable[[GenerationRequest], Sequence[str]] = lambda _: (),
        out: Path | None = None,
        config: dict[str, Any] | None = None,
        kind: type[Arbiter] = Arbiter,
        wrap: Wrap | None = None,
        **options: Any,
    ) -> AsyncGenerator[Served]:
        models = Scripted(write, seconds, texts, wrap)
        arbiter = kind(a_config(**(config or {})), models=models.handles, out=out)
        gateway = Gateway(arbiter, **options)
        async with arbiter, open_http_client(gateway.app, httpx2) as client:
            yield Served(gateway, models, client)

    return open_endpoint


@pytest.fixture(scope="session")
def listening(endpoint: Open) -> Open:
    """Like ``endpoint``, but served on a socket; its address replaces that of the client. ``connections`` limits it."""

    @asynccontextmanager
    async def open_socket(connections: Connections | None = None, **options: Any) -> AsyncGenerator[tuple[Served, str]]:
        async with endpoint(**options) as served, services() as tasks:
            with bound("127.0.0.1", 0) as socket:
                started = anyio.Event()
                server = Server(served.gateway, 30, started.set, connections)
                tasks.start_soon(server.serve, [socket])
                await started.wait()
                yield served, f"http://127.0.0.1:{socket.getsockname()[1]}"

    return open_socket


def a_config(**keys: Any) -> Config:
    """A configuration without tables of models."""
    return parse({"models": {}, **keys}, "test")


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until a condition holds; fail if it never does."""
    return _until


async def _until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await anyio.sleep(0.005)
