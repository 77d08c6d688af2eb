"""An Arbiter that stays open for all callers."""

import asyncio

import anyio.lowlevel
import pytest
import trio

from arbiter import Arbiter, ClosedError
from arbiter.config.config import parse
from arbiter.extending import Generation, GenerationRequest, ModelHandle, Models, ScriptedGenerator
from arbiter.integrations.arbiter_cache import SharedArbiter
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.ports import Generator
from arbiter.protocols.records import Usage


def answered(request: GenerationRequest) -> Generation:
    return Generation(request.transcript.question, "end", Usage(completion_tokens=1))


def an_arbiter(seconds: float = 0.0) -> Arbiter:
    draft = ScriptedGenerator(answered, seconds)
    config = parse({"models": {}, "run_type": "draft"}, "test")
    return Arbiter(config, models=Models(draft=ModelHandle[Generator](draft, 10)))


class Refusing(Arbiter):
    """Cannot be opened."""

    async def __aenter__(self) -> "Refusing":
        await anyio.lowlevel.checkpoint()
        raise BackendError("there is no model")


def test_all_who_ask_at_once_have_the_same_open_arbiter() -> None:
    async def body() -> None:
        shared = SharedArbiter(an_arbiter)
        found = await asyncio.gather(*(shared.arbiter() for _ in range(5)))
        assert len({id(arbiter) for arbiter in found}) == 1
        assert (await found[0].solve("q")).text == "q"
        await shared.aclose()

    asyncio.run(body())


def test_whoever_asked_first_may_be_cancelled_and_the_others_go_on() -> None:
    async def body() -> None:
        shared = SharedArbiter(an_arbiter)
        first, second = asyncio.create_task(shared.arbiter()), asyncio.create_task(shared.arbiter())
        await asyncio.sleep(0)
        first.cancel()
        assert (await (await second).solve("q")).text == "q"
        await shared.aclose()

    asyncio.run(body())


def test_closing_lets_calls_end_and_takes_no_more() -> None:
    async def body() -> None:
        shared = SharedArbiter(lambda: an_arbiter(seconds=0.1))
        arbiter = await shared.arbiter()
        call = asyncio.create_task(arbiter.solve("q"))
        while not arbiter.running:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
        await shared.aclose()
        assert (await call).text == "q"
        with pytest.raises(ClosedError):
            await arbiter.solve("q")

    asyncio.run(body())


def test_what_opening_raises_reaches_all_who_ask_and_the_next_one_tries_again() -> None:
    made: list[Arbiter] = []

    def make() -> Arbiter:
        made.append(an_arbiter() if made else Refusing(an_arbiter().config))
        return made[-1]

    async def body() -> None:
        shared = SharedArbiter(make)
        found = await asyncio.gather(shared.arbiter(), shared.arbiter(), return_exceptions=True)
        assert [str(one) for one in found] == ["there is no model"] * 2
        assert (await shared.arbiter()).is_open
        await shared.aclose()

    asyncio.run(body())


def test_it_ends_with_its_event_loop_and_is_opened_again_on_the_next_one() -> None:
    shared = SharedArbiter(an_arbiter)
    first = asyncio.run(shared.arbiter())
    assert not first.is_open
    assert asyncio.run(shared.arbiter()) is not first
    asyncio.run(shared.aclose())  # not from this event loop


def test_on_trio_it_says_that_it_cannot_be_kept() -> None:
    with pytest.raises(ConfigError, match="asyncio"):
        trio.run(SharedArbiter(an_arbiter).arbiter)
