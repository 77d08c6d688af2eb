"""The SDK of OpenAI at endpoints that are full, closing or left, over scripted models."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import openai
import pytest
import uvicorn
from openai import AsyncOpenAI, OpenAI

from arbiter import Arbiter
from arbiter.config.config import parse
from arbiter.extending import GenerationRequest, ModelHandle, Models, ScoreRequest, ScriptedGenerator
from arbiter.gateway.app import Gateway
from arbiter.gateway.listening_socket import bound
from arbiter.protocols.ports import Generator

FOR_EVER = 1e6
ASKED: Any = {"model": "arbiter", "messages": [{"role": "user", "content": "q"}]}


class Held(NamedTuple):
    """An endpoint for one problem at a time, whose second step takes for ever."""

    gateway: Gateway
    draft: ScriptedGenerator
    url: str

    @property
    def is_held(self) -> bool:
        return self.draft.running == 1 and self.draft.calls == 2


@asynccontextmanager
async def held() -> AsyncGenerator[Held]:
    """The endpoint, behind a socket."""

    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        return FOR_EVER if request.step else 0.0

    draft = ScriptedGenerator(lambda request: f"step {request.step}", seconds=seconds)
    config = parse({"models": {}, "run_type": "draft", "limits": {"problems": 1}}, "test")
    arbiter = Arbiter(config, models=Models(draft=ModelHandle[Generator](draft, 10)), leaving="cancel")
    gateway = Gateway(arbiter, queue=0)
    async with arbiter:
        with bound("127.0.0.1", 0) as socket:
            server = uvicorn.Server(
                uvicorn.Config(gateway.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
            )
            serving = asyncio.create_task(server.serve([socket]))
            await until(lambda: server.started)
            yield Held(gateway, draft, f"http://127.0.0.1:{socket.getsockname()[1]}/v1")
            server.should_exit = True
            await serving


def an_async_client(endpoint: Held, **options: Any) -> Any:
    return AsyncOpenAI(base_url=endpoint.url, api_key="none", **options)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; what never does fails."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


def run(body: Callable[[Held], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with held() as endpoint:
            await body(endpoint)

    asyncio.run(whole())


def test_at_capacity_the_sdk_raises_its_rate_limit_error() -> None:
    async def body(endpoint: Held) -> None:
        async with an_async_client(endpoint, max_retries=0) as client:
            first = asyncio.create_task(client.chat.completions.create(**ASKED))
            await until(lambda: endpoint.is_held)
            with pytest.raises(openai.RateLimitError) as full:
                await client.chat.completions.create(**ASKED)
            assert full.value.code == "at_capacity"
            assert int(full.value.response.headers["retry-after"]) >= 1
            first.cancel()

    run(body)


def test_at_capacity_the_sdk_tries_again_until_there_is_room() -> None:
    statuses: list[int] = []

    async def seen(response: Any) -> None:
        statuses.append(response.status_code)

    async def body(endpoint: Held) -> None:
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [seen]})
        async with an_async_client(endpoint, max_retries=9, http_client=http) as client:
            first = await client.chat.completions.create(**ASKED, stream=True)
            second = asyncio.create_task(client.chat.completions.create(**ASKED, max_tokens=1))
            await until(lambda: 429 in statuses)
            await first.close()
            assert (await second).choices[0].finish_reason == "length"

    run(body)
    assert (statuses[0], statuses[-1]) == (200, 200)


def test_an_endpoint_that_is_shut_down_is_a_503_that_the_sdk_tries_again() -> None:
    async def body(endpoint: Held) -> None:
        await endpoint.gateway.arbiter.close(0)
        async with an_async_client(endpoint, max_retries=1) as client:
            with pytest.raises(openai.InternalServerError) as closing:
                await client.chat.completions.create(**ASKED)
        assert (closing.value.status_code, closing.value.code) == (503, "closing")
        assert closing.value.request.headers["x-stainless-retry-count"] == "1"

    run(body)


@pytest.mark.parametrize("way", ["closed", "left"])
def test_a_stream_that_is_left_early_ends_its_problem_at_the_models(way: str) -> None:
    async def body(endpoint: Held) -> None:
        async with an_async_client(endpoint) as client:
            stream = await client.chat.completions.create(**ASKED, stream=True)
            if way == "closed":
                await until(lambda: endpoint.is_held)
                await stream.close()
            else:
                async with stream:
                    async for chunk in stream:
                        if chunk.choices[0].delta.content:
                            break
            await until(lambda: endpoint.draft.cancelled == 1)
            assert endpoint.gateway.arbiter.running == 0

    run(body)


def test_a_request_that_is_cancelled_or_takes_too_long_ends_its_problem() -> None:
    async def body(endpoint: Held) -> None:
        async with an_async_client(endpoint, max_retries=0) as client:
            asked = asyncio.create_task(client.responses.create(model="arbiter", input="q"))
            await until(lambda: endpoint.is_held)
            asked.cancel()
            await until(lambda: endpoint.draft.cancelled == 1)
            with pytest.raises(openai.APITimeoutError):
                await client.chat.completions.create(**ASKED, timeout=0.5)
            await until(lambda: endpoint.draft.cancelled == endpoint.draft.calls // 2)

    run(body)


def test_the_blocking_client_leaves_a_stream_early_as_well() -> None:
    def leave(url: str) -> str:
        with (
            OpenAI(base_url=url, api_key="none") as client,
            client.chat.completions.create(**ASKED, stream=True) as stream,
        ):
            return next(chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content)

    async def body(endpoint: Held) -> None:
        assert await asyncio.to_thread(leave, endpoint.url) == "step 0"
        await until(lambda: endpoint.draft.cancelled == 1)

    run(body)


def test_in_process_the_same_client_waits_retries_and_leaves() -> None:
    async def body(endpoint: Held) -> None:
        client: Any
        async with endpoint.gateway.client() as client:
            first = await client.chat.completions.create(**ASKED, stream=True)
            await until(lambda: endpoint.is_held)
            with pytest.raises(openai.RateLimitError):
                await client.with_options(max_retries=0).chat.completions.create(**ASKED)
            await first.close()
            await until(lambda: endpoint.draft.cancelled == 1)
            answer = await client.chat.completions.create(**ASKED, max_tokens=1)
            assert answer.choices[0].finish_reason == "length"

    run(body)
