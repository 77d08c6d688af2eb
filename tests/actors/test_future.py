"""A value that is set once."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from arbiter.actors.future import Future

Virtual = Callable[[Callable[[], Awaitable[None]]], None]


def test_a_value_is_there_for_all_who_wait(in_virtual_time: Virtual) -> None:
    got: list[str] = []

    async def body() -> None:
        later = Future[str]()

        async def wait() -> None:
            got.append(await later.wait())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            tasks.start_soon(wait)
            await anyio.sleep(1)
            later.set("value")

    in_virtual_time(body)
    assert got == ["value", "value"]


def test_the_first_value_stays(in_virtual_time: Virtual) -> None:
    later = Future[str]()
    later.set("first")
    later.set("second")
    later.fail(ValueError("third"))

    async def body() -> None:
        assert await later.wait() == "first"

    in_virtual_time(body)


def test_the_first_failure_stays(in_virtual_time: Virtual) -> None:
    later = Future[str]()
    later.fail(ValueError("first"))
    later.set("second")

    async def body() -> None:
        with pytest.raises(ValueError, match="first"):
            await later.wait()

    in_virtual_time(body)
