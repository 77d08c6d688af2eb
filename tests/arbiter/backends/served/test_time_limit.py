"""A time limit with one timer: it behaves as ``asyncio.timeout`` does, for any number of blocks."""

import asyncio

import pytest

from arbiter.backends.served.time_limit import TimeLimit

pytestmark = pytest.mark.asyncio

SOON = 0.05  # seconds


async def outcome(limit: TimeLimit, seconds: float) -> str:
    """Return how a block ended that waits for ``seconds``."""
    try:
        with limit.block():
            await asyncio.sleep(seconds)
    except TimeoutError as error:
        return type(error.__cause__).__name__
    return "in time"


async def test_only_the_blocks_that_take_too_long_raise_a_timeout() -> None:
    limit = TimeLimit(SOON)
    waits = [0.0, 3600.0, 0.0, 3600.0]
    found = await asyncio.gather(*(outcome(limit, seconds) for seconds in waits))
    assert found == ["CancelledError" if seconds else "in time" for seconds in waits]


async def test_the_limit_holds_for_blocks_that_begin_after_others_reached_it() -> None:
    limit = TimeLimit(SOON)
    assert [await outcome(limit, 3600) for _ in range(3)] == ["CancelledError"] * 3
    assert await outcome(limit, 0) == "in time"


async def test_a_block_has_the_whole_limit_although_an_earlier_one_started_the_timer() -> None:
    loop, limit = asyncio.get_running_loop(), TimeLimit(2 * SOON)
    assert await outcome(limit, SOON) == "in time"
    began = loop.time()
    assert await outcome(limit, 3600) == "CancelledError"
    assert loop.time() - began >= 2 * SOON


async def test_a_cancellation_by_others_is_no_timeout() -> None:
    limit = TimeLimit(3600)
    task = asyncio.create_task(outcome(limit, 3600))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_a_block_stays_what_it_is() -> None:
    with pytest.raises(KeyError), TimeLimit(3600).block():
        raise KeyError


async def test_a_task_can_continue_after_a_timeout() -> None:
    limit = TimeLimit(SOON)
    assert await outcome(limit, 3600) == "CancelledError"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_blocks_of_a_closed_limit_are_not_interrupted() -> None:
    limit = TimeLimit(SOON)
    task = asyncio.create_task(outcome(limit, 3 * SOON))
    await asyncio.sleep(0)
    limit.close()
    assert await task == "in time"
