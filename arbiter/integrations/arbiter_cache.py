"""An Arbiter for a program that calls it from anywhere, and has no block of its own in which it could be open."""

import asyncio
from collections.abc import Callable
from contextvars import Context

import sniffio

from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError


class SharedArbiter:
    """Opens the Arbiter that ``make`` gives when it is asked for first, in a task of its own, and keeps it open.

    It is closed by ``aclose``, or when the event loop ends; another event loop has another one.
    """

    def __init__(self, make: Callable[[], Arbiter]) -> None:
        self._make = make
        self._arbiter: Arbiter | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._leave = asyncio.Event()

    async def arbiter(self) -> Arbiter:
        """The open Arbiter, the same for all who ask.

        Raises what opening it does, and tries again when asked again; ``ConfigError`` on trio, where no task could keep
        it open.
        """
        if sniffio.current_async_library() != "asyncio":
            raise ConfigError("this runs on asyncio alone: choose it in the program that calls")
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._ready, self._leave = asyncio.Event(), asyncio.Event()
            # with a context of its own: it is not a part of the call that happens to come first
            self._task = loop.create_task(self._keep(self._ready, self._leave), context=Context())
        task = self._task
        await self._ready.wait()
        if task.done():
            await task
        assert self._arbiter is not None  # noqa: S101 - it is open while its task goes on
        return self._arbiter

    async def aclose(self) -> None:
        """Let the calls that are going on end, and close it."""
        if self._task is None or self._task.get_loop() is not asyncio.get_running_loop():
            return
        self._leave.set()
        await self._task

    async def _keep(self, ready: asyncio.Event, leave: asyncio.Event) -> None:
        try:
            async with self._make() as self._arbiter:
                ready.set()
                await leave.wait()
        finally:
            ready.set()  # who waits for it hears of what went wrong
