"""A server on 127.0.0.1 whose answers and faults a test scripts, and both backends, opened as a run opens them."""

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from arbiter.backends.opening import open_generator, open_scorer
from arbiter.config.config import parse
from arbiter.config.model_tables import AnyModelTable
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, Score, Scorer, ScoreRequest
from arbiter.protocols.records import Transcript

Reply = dict[str, Any]
"""``body`` (JSON, or a text or bytes as they are), ``status``, ``headers``, ``fault``. Missing ones are right.

Faults: ``reset`` breaks the connection in the middle of the body, ``half`` ends it there, ``silent`` never answers,
``drip`` sends a byte now and then, ``gate`` waits for ``FakeServer.gate``.

``parts`` is a body that is sent in parts: bytes, ``gate`` to wait, ``reset`` to break the connection.
"""

MODELS = "/v1/models"
ABOUT = ("/v1/loads", "/metrics", "/model_info", "/server_info")
_SCORED = {"embedding": [0.0]}
TRIED = {"choices": [{"text": "2", "finish_reason": "length"}], **_SCORED, "data": [_SCORED]}
"""The answer to the small request before any work, right in every dialect."""


class Asked(msgspec.Struct, frozen=True):
    """A request as received. The names of ``headers`` are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Script = Callable[[Asked], Reply]
Table = Callable[..., AnyModelTable]
AGenerator = Callable[..., AbstractAsyncContextManager[Generator]]
AScorer = Callable[..., AbstractAsyncContextManager[Scorer]]
StepOf = Callable[..., Awaitable[Generation]]
ScoreOf = Callable[..., Awaitable[Score]]


class FakeServer:
    """Answers as scripted and records the requests. ``left`` is set once a client has disconnected early."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.models: Reply = {"body": {"object": "list", "data": [{"id": "m", "max_model_len": 1024}]}}
        self.looks: list[Asked] = []
        self.about: Script = lambda _: {"status": 404}
        self.trial: Reply | Script = {"body": TRIED}
        self.trials: list[Asked] = []
        self.asked: list[Asked] = []
        self.running = 0
        self.most_running = 0
        self.connections: set[object] = set()
        self.left, self.gate = asyncio.Event(), asyncio.Event()
        self._arrivals = asyncio.Semaphore(0)
        self._scripts: list[Reply | Script] = []

    def replies(self, *scripts: Reply | Script) -> None:
        """Set the answers, in this order. The last is for all further requests."""
        self._scripts = list(scripts)

    async def reached(self, requests: int = 1) -> None:
        """Wait until ``requests`` more requests have arrived, besides those for the list of models."""
        for _ in range(requests):
            await self._arrivals.acquire()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, request.path, headers, json.loads(text) if text else {})
        at_the_start = asked.path == MODELS or "Compute 1+1." in text
        if asked.path.endswith(ABOUT):
            return await self._answered(request, self.about(asked))
        seen = self.looks if asked.path == MODELS else self.trials if at_the_start else self.asked
        seen.append(asked)
        self.connections.add(request.transport)
        reply = self.models if asked.path == MODELS else self._next(asked, at_the_start)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        if not at_the_start:
            self._arrivals.release()
        try:
            return await self._answered(request, reply)
        except asyncio.CancelledError:
            self.left.set()
            raise
        finally:
            self.running -= 1

    def _next(self, asked: Asked, at_the_start: bool) -> Reply:
        scripts = [self.trial] if at_the_start else self._scripts
        script = scripts[0] if len(scripts) == 1 else scripts.pop(0)
        return script(asked) if callable(script) else script

    async def _answered(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        body = reply.get("body", {})
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        fault, headers = reply.get("fault"), {"content-type": "application/json", **reply.get("headers", {})}
        if fault in ("gate", "silent"):
            await (self.gate if fault == "gate" else asyncio.Event()).wait()
        if "parts" in reply:
            return await self._in_parts(request, reply["parts"], reply.get("headers", {}))
        if fault == "drip":
            return await _dripping(request)
        if fault in ("half", "reset"):
            return await _broken(request, data, fault)
        return web.Response(body=data, status=reply.get("status", 200), headers=headers)

    async def _in_parts(
        self, request: web.Request, parts: list[bytes | Literal["gate", "reset"]], headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", **headers})
        await response.prepare(request)
        for part in parts:
            if isinstance(part, bytes):
                await response.write(part)
            elif part == "gate":
                await self.gate.wait()
            else:
                _reset(request)
                return response
        await response.write_eof()
        return response


async def _broken(request: web.Request, data: bytes, fault: Literal["half", "reset"]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": str(len(data))})
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    if fault == "reset":
        _reset(request)
    else:
        assert request.transport is not None
        request.transport.close()
    return response


def _reset(request: web.Request) -> None:
    transport, at_once = request.transport, struct.pack("ii", 1, 0)
    assert transport is not None
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    transport.close()


async def _dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def server() -> AsyncGenerator[FakeServer]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        fake, app = FakeServer(listening.getsockname()[1]), web.Application()
        app.router.add_route("*", "/{path:.*}", fake.serve)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        yield fake
        await runner.cleanup()


Why = Literal["separator", "end", "limit"]


class Engine(msgspec.Struct, frozen=True):
    """A kind of server: its reported stop reasons, whether it honours ``stop``, and whether it cuts the stop text."""

    told: Callable[[Why, str], dict[str, Any]]
    heeds: bool = True
    trims: bool = True

    def answer(self, rest: str, body: dict[str, Any]) -> Reply:
        """Return the completion of a model that would write ``rest``. A token is a character."""
        (stop,) = body.get("stop", [""])
        limited = rest[: body["max_tokens"]]
        text, found, _ = limited.partition(stop) if stop and self.heeds else (limited, "", "")
        why: Why = "separator" if found else "end" if limited == rest else "limit"
        choice = {"index": 0, "text": text + ("" if self.trims else found), "logprobs": None}
        choice |= {"finish_reason": "length" if why == "limit" else "stop", **self.told(why, stop)}
        read, cached = len(body["prompt"]), {"cached_tokens": len(body["prompt"]) // 2}
        usage = {"prompt_tokens": read, "completion_tokens": len(text + found), "prompt_tokens_details": cached}
        return {"body": {"object": "text_completion", "choices": [choice], "usage": usage}}


END_TOKEN = 151645
ENGINES = {
    "sglang": Engine(lambda why, stop: {"matched_stop": {"separator": stop, "end": END_TOKEN}.get(why)}),
    "vllm": Engine(lambda why, stop: {"stop_reason": stop if why == "separator" else None}),
    "vllm with an end token": Engine(lambda why, stop: {"stop_reason": {"separator": stop, "end": END_TOKEN}.get(why)}),
    "llama.cpp": Engine(lambda why, stop: {"stopping_word": stop if why == "separator" else ""}),
    "plain": Engine(lambda _, __: {}),
    "untrimmed": Engine(lambda _, __: {}, trims=False),
    "careless": Engine(lambda _, __: {}, heeds=False),
}


@pytest.fixture(scope="session")
def engine() -> Callable[[str, Callable[[Asked], str]], Script]:
    """Return the script of an engine whose model would write what the function returns for a request."""

    def build(kind: str, rest: Callable[[Asked], str]) -> Script:
        return lambda asked: ENGINES[kind].answer(rest(asked), asked.body)

    return build


@pytest.fixture(scope="session")
def answer() -> Callable[..., Reply]:
    """Return a completion of sglang, stopped by the separator, with the fields that matter to a test."""

    def build(text: str = "a step", tokens: int = 3, **fields: Any) -> Reply:
        choice = {"text": text, "finish_reason": "stop", "matched_stop": "\n\n", **fields}
        return {"body": {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}}}

    return build


@pytest.fixture(scope="session")
def scored() -> Callable[..., Reply]:
    """Return the answer of a server that scores with ``logits``, right in both dialects."""

    def build(*logits: float | None) -> Reply:
        one = {"embedding": logits, "meta_info": {"prompt_tokens": 9, "cached_tokens": 4}}
        return {"body": {**one, "data": [one], "usage": {"prompt_tokens": 9}}}

    return build


@pytest.fixture(params=["http", "aiohttp", "openai"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the backend of the table: ``http`` with connections of its own, the same over aiohttp, or ``openai``."""
    if request.param != "aiohttp":
        return request.param
    monkeypatch.setattr("arbiter.backends.served.http_transport.PLAIN", re.compile("no address"))
    return "http"


@pytest.fixture
def table(server: FakeServer, backend: str) -> Table:
    """Return the table of a model at the server: one attempt, and no key."""

    def build(name: str = "draft", **keys: Any) -> AnyModelTable:
        given = {"url": server.url, "model": "m", "prompt": "{question}\n", "api_key_env": "", "timeout": 20}
        tree = {"models": {name: {"backend": backend, "retries": 0, **given, **keys}}}
        return getattr(parse(tree, "test").models, name)

    return build


@pytest.fixture
def a_generator(table: Table) -> AGenerator:
    def opening(**keys: Any) -> AbstractAsyncContextManager[Generator]:
        return open_generator("draft", table("draft", **keys), None)

    return opening


@pytest.fixture
def a_scorer(table: Table) -> AScorer:
    def opening(**keys: Any) -> AbstractAsyncContextManager[Scorer]:
        return open_scorer("prm", table("prm", **keys), None)

    return opening


@pytest.fixture(scope="session")
def generation() -> Callable[..., GenerationRequest]:
    """Return a request for a first step, with the fields that matter to a test."""

    def build(**fields: Any) -> GenerationRequest:
        sampling: dict[str, Any] = {"max_tokens": 50, "temperature": 0.0, "top_p": 0.9, "seed": 7, "separator": "\n\n"}
        place: dict[str, Any] = {
            "problem": "p",
            "step": 0,
            "sample": 0,
            "author": "draft",
            "transcript": Transcript("1+1?"),
        }
        return GenerationRequest(**{**place, **sampling, **fields})

    return build


@pytest.fixture(scope="session")
def scoring() -> Callable[..., ScoreRequest]:
    """Return a request to score the draft's first step."""

    def build(**fields: Any) -> ScoreRequest:
        place: dict[str, Any] = {"problem": "p", "step": 0, "transcript": Transcript("1+1?")}
        given: dict[str, Any] = {"score_kind": "prm", "candidate": "a step", "author": "draft", "separator": "\n\n"}
        return ScoreRequest(**{**place, **given, **fields})

    return build


@pytest.fixture
def step(a_generator: AGenerator, generation: Callable[..., GenerationRequest]) -> StepOf:
    """Open a model with the keys of its table, and return one step for a request with the given fields."""

    async def write(keys: dict[str, Any] | None = None, **fields: Any) -> Generation:
        async with a_generator(**keys or {}) as generator:
            return await generator.generate(generation(**fields))

    return write


@pytest.fixture
def score(a_scorer: AScorer, scoring: Callable[..., ScoreRequest]) -> ScoreOf:
    """Like ``step``, but return a score."""

    async def read(keys: dict[str, Any] | None = None, **fields: Any) -> Score:
        async with a_scorer(**keys or {}) as scorer:
            return await scorer.score(scoring(**fields))

    return read


@pytest.fixture(params=["step", "score"])
def ask(request: pytest.FixtureRequest, step: StepOf, score: ScoreOf) -> StepOf | ScoreOf:
    """``step`` or ``score``, for rules that hold for every request."""
    return {"step": step, "score": score}[request.param]
