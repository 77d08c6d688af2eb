"""Background tasks of a block of code."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from arbiter.actors.supervision import services

Virtual = Callable[[Callable[[], Awaitable[None]]], None]


def test_services_are_cancelled_when_the_block_ends(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with services() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            await anyio.sleep(5)
        assert anyio.current_time() == 5

    in_virtual_time(body)


def test_an_error_of_the_block_comes_out_as_itself(in_virtual_time: Virtual) -> None:
    error = ValueError("mine")

    async def body() -> None:
        async with services() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            raise error

    with pytest.raises(ValueError, match="mine") as raised:
        in_virtual_time(body)
    assert raised.value is error


def test_a_service_that_crashes_cancels_the_block_and_tells_its_error(in_virtual_time: Virtual) -> None:
    ended: list[float] = []

    async def crash() -> None:
        await anyio.sleep(2)
        raise OSError("crashed")

    async def body() -> None:
        try:
            async with services() as tasks:
                tasks.start_soon(crash)
                await anyio.sleep(100)
        finally:
            ended.append(anyio.current_time())

    with pytest.raises(ExceptionGroup) as raised:
        in_virtual_time(body)
    assert [str(error) for error in raised.value.exceptions] == ["crashed"]
    assert ended == [2]


def test_services_end_with_a_block_that_is_cancelled(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        with anyio.move_on_after(3) as scope:
            async with services() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                await anyio.sleep(100)
        assert (scope.cancelled_caught, anyio.current_time()) == (True, 3)

    in_virtual_time(body)
