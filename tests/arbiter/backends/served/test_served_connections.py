"""The number of connections, and what remains of an abandoned one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from arbiter.backends.served.aiohttp_transport import open_aiohttp
from arbiter.backends.served.openai_transport import open_openai
from arbiter.backends.served.served_models import open_transport
from arbiter.backends.served.transport import Address, TemporaryError, Transport
from arbiter.config.model_tables import ServedTable
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, Score, Scorer, ScoreRequest

if TYPE_CHECKING:
    from conftest import FakeServer

Ask = Callable[..., Awaitable[Generation | Score]]
Answer = Callable[..., dict[str, Any]]
AGenerator = Callable[..., AbstractAsyncContextManager[Generator]]
AScorer = Callable[..., AbstractAsyncContextManager[Scorer]]
Request = Callable[..., GenerationRequest]
Scoring = Callable[..., ScoreRequest]
Table = Callable[..., ServedTable]
Opening = Callable[[Address], AbstractAsyncContextManager[Transport]]

PATIENCE = 20  # seconds, never waited for unless something hangs


@pytest.mark.asyncio
@pytest.mark.parametrize("in_flight", [1, 3])
async def test_no_more_requests_than_its_table_allows_are_at_a_server(
    in_flight: int, server: FakeServer, a_generator: AGenerator, generation: Request, answer: Answer
) -> None:
    server.replies({**answer(), "fault": "gate"})
    async with a_generator(in_flight=in_flight) as generator, asyncio.timeout(PATIENCE):
        asking = [asyncio.ensure_future(generator.generate(generation())) for _ in range(8)]
        await server.reached(in_flight)
        await anyio.wait_all_tasks_blocked()
        server.gate.set()
        await asyncio.gather(*asking)
    assert (len(server.asked), server.most_running) == (8, in_flight)


@pytest.mark.asyncio
async def test_a_connection_is_used_again(
    server: FakeServer, a_generator: AGenerator, generation: Request, answer: Answer
) -> None:
    server.replies(answer())
    async with a_generator() as generator:
        before = len(server.connections)
        for _ in range(5):
            await generator.generate(generation())
    assert len(server.connections) == before + 1


@pytest.mark.asyncio
async def test_a_connection_that_broke_is_not_used_again(
    server: FakeServer, a_generator: AGenerator, generation: Request, answer: Answer
) -> None:
    server.replies(answer(), {"body": "x" * 1000, "fault": "half"}, answer())
    async with a_generator() as generator:
        await generator.generate(generation())
        with pytest.raises(TemporaryError):
            await generator.generate(generation())
        assert (await generator.generate(generation())).text == "a step"


@pytest.mark.asyncio
@pytest.mark.parametrize("port", ["generator", "scorer"])
async def test_cancelling_the_await_ends_the_request_at_the_server_and_leaves_no_task(
    port: str,
    server: FakeServer,
    a_generator: AGenerator,
    a_scorer: AScorer,
    generation: Request,
    scoring: Scoring,
) -> None:
    server.replies({"fault": "silent"})
    async with a_generator() as generator, a_scorer() as scorer, asyncio.timeout(PATIENCE):
        await anyio.wait_all_tasks_blocked()
        before = asyncio.all_tasks()
        async with anyio.create_task_group() as asking:
            if port == "generator":
                asking.start_soon(generator.generate, generation())
            else:
                asking.start_soon(scorer.score, scoring())
            await server.reached()
            assert server.running == 1
            asking.cancel_scope.cancel()
        await server.left.wait()
        await anyio.wait_all_tasks_blocked()
        assert (server.running, asyncio.all_tasks() - before) == (0, set())


@pytest.mark.asyncio
async def test_cancelling_the_task_of_a_request_cancels_it(
    server: FakeServer, a_generator: AGenerator, generation: Request
) -> None:
    server.replies({"fault": "silent"})
    async with a_generator() as generator, asyncio.timeout(PATIENCE):
        asking = asyncio.ensure_future(generator.generate(generation()))
        await server.reached()
        asking.cancel()
        await asyncio.wait([asking])
        await server.left.wait()
        assert asking.cancelled()


@pytest.mark.asyncio
async def test_one_that_is_cancelled_takes_no_other_with_it(
    server: FakeServer, a_generator: AGenerator, generation: Request, answer: Answer
) -> None:
    server.replies({"fault": "silent"}, {**answer("a step"), "fault": "gate"})
    async with a_generator() as generator, asyncio.timeout(PATIENCE):
        given_up = asyncio.ensure_future(generator.generate(generation()))
        await server.reached()
        other = asyncio.ensure_future(generator.generate(generation()))
        await server.reached()
        given_up.cancel()
        await server.left.wait()
        server.gate.set()
        assert (await other).text == "a step"


@pytest.mark.asyncio
async def test_a_request_that_took_too_long_is_ended_at_the_server(server: FakeServer, ask: Ask) -> None:
    server.replies({"fault": "silent"})
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TemporaryError):
            await ask({"timeout": 0.2})
        await server.left.wait()


@pytest.mark.asyncio
async def test_a_server_that_is_not_there_is_told_with_its_address(table: Table) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # and not listening
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        async with open_transport("draft", table(url=url)) as transport:
            with pytest.raises(TemporaryError) as caught:
                await transport.post("/v1/completions", {}, "p")
    told = str(caught.value)
    assert told.startswith(f"{url}/v1/completions does not answer: ")
    assert told.endswith(". Is the server up, and the url right?")


@pytest.mark.asyncio
@pytest.mark.parametrize("opening", [open_aiohttp, open_openai])
async def test_a_server_that_accepts_no_connection_is_told_apart_from_one_that_is_slow(opening: Opening) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # more than its queue holds
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with opening(Address(url, timeout=PATIENCE, retries=0, connections=1, connect_timeout=0.2)) as transport:
            with pytest.raises(TemporaryError, match=r"no connection within 0\.2 s\. Is the server up"):
                await transport.post("/v1/completions", {}, "p")
