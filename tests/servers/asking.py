"""Requests of the rules to a model, which is opened through the constructors of a run."""

import re
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec

from arbiter.backends.opening import open_generator, open_scorer
from arbiter.config.config import parse
from arbiter.config.model_tables import AnyModelTable
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, Scorer, ScoreRequest
from arbiter.protocols.records import Transcript
from tests.servers.engines import Metrics

SEPARATOR = "\n\n"
_PAUSE = 0.3


class Model(msgspec.Struct, frozen=True):
    """A served model, with its table of a configuration."""

    table: Mapping[str, Any]

    @property
    def url(self) -> str:
        return self.table["url"]

    def seen(self, name: str, **keys: Any) -> AnyModelTable:
        """Return the table ``[models.name]``, with ``keys`` replaced."""
        tree = {"models": {name: {**self.table, **keys}}}
        return getattr(parse(tree, "test").models, name)

    @asynccontextmanager
    async def writing(self, **keys: Any) -> AsyncGenerator[Generator]:
        async with open_generator("target", self.seen("target", **keys), None) as generator:
            yield generator

    @asynccontextmanager
    async def scoring(self, name: Literal["prm", "router"] = "prm", **keys: Any) -> AsyncGenerator[Scorer]:
        async with open_scorer(name, self.seen(name, **keys), None) as scorer:
            yield scorer


def asked(question: str, **fields: Any) -> GenerationRequest:
    """Return a request for a first step at temperature 0."""
    place: dict[str, Any] = {"problem": "p", "step": 0, "sample": 0, "author": "target"}
    place |= {"transcript": Transcript(question)}
    sampling: dict[str, Any] = {"max_tokens": 50, "temperature": 0.0, "top_p": 1.0, "seed": 7, "separator": SEPARATOR}
    return GenerationRequest(**{**place, **sampling, **fields})


def scored(question: str, candidate: str, **fields: Any) -> ScoreRequest:
    """Return a request to score the draft's first step."""
    place: dict[str, Any] = {"problem": "p", "step": 0, "transcript": Transcript(question)}
    given: dict[str, Any] = {"score_kind": "prm", "candidate": candidate, "author": "draft", "separator": SEPARATOR}
    return ScoreRequest(**{**place, **given, **fields})


async def at_once(generator: Generator, requests: list[GenerationRequest]) -> list[Generation]:
    """Send all requests concurrently, and return their answers in order."""
    found: dict[int, Generation] = {}

    async def ask(index: int, request: GenerationRequest) -> None:
        found[index] = await generator.generate(request)

    async with anyio.create_task_group() as group:
        for index, request in enumerate(requests):
            group.start_soon(ask, index, request)
    return [found[index] for index in range(len(requests))]


async def answering(url: str) -> None:
    """Wait until the server answers: some servers answer nothing while they process a request."""
    await anyio.to_thread.run_sync(_fetched, url, "/v1/models")


def _fetched(url: str, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{urlsplit(url).port}{path}", timeout=300) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:  # an error status is also an answer
        return error.read().decode()


class Gauges:
    """A server's metrics about its requests."""

    def __init__(self, url: str, names: Metrics) -> None:
        self._url = url
        self._names = names

    async def written(self) -> float:
        """Return the tokens that it has written since its start, including those of cancelled requests."""
        return await self._read(self._names.written)

    async def until_running(self, some: bool) -> None:
        """Wait until the server runs a request (``some``), or none."""
        while (await self._read(self._names.running) > 0) is not some:  # noqa: ASYNC110 - another process sets no event
            await anyio.sleep(_PAUSE)

    async def until_written(self, count: float) -> None:
        """Wait until the server has written ``count`` tokens since its start."""
        while await self.written() < count:  # noqa: ASYNC110 - as above
            await anyio.sleep(_PAUSE)

    async def _read(self, name: str) -> float:
        text = await anyio.to_thread.run_sync(_fetched, self._url, "/metrics")
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)}.*? (\S+)$", text, re.MULTILINE))
