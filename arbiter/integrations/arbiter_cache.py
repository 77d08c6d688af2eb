"""An open Arbiter for programs that have no ``async with`` block to keep it open in."""

import asyncio
from collections.abc import Callable
from contextvars import Context

import sniffio

from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError


class SharedArbiter:
    """Opens the Arbiter that ``make`` returns on the first use, and keeps it open in its own task.

    It is closed by ``aclose``, or when the event loop ends. Each event loop gets its own Arbiter.
    """

    def __init__(self, make: Callable[[], Arbiter]) -> None:
        self._make = make
        self._arbiter: Arbiter | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()

    async def arbiter(self) -> Arbiter:
        """Return the open Arbiter, the same one for all callers.

        Raises the error of opening it; the next call then tries again. Raises ``ConfigError`` on trio, where no task
        can keep it open.
        """
        if sniffio.current_async_library() != "asyncio":
            raise ConfigError("this runs only on asyncio: select asyncio in the calling program")
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._ready, self._stop = asyncio.Event(), asyncio.Event()
            # in a new context, so that it does not inherit that of the first call
            self._task = loop.create_task(self._keep(self._ready, self._stop), context=Context())
        task = self._task
        await self._ready.wait()
        if task.done():
            await task
        assert self._arbiter is not None  # noqa: S101 - it is open while its task runs
        return self._arbiter

    async def aclose(self) -> None:
        """Wait for running calls to end, and close the Arbiter."""
        if self._task is None or self._task.get_loop() is not asyncio.get_running_loop():
            return
        self._stop.set()
        await self._task

    async def _keep(self, ready: asyncio.Event, stop: asyncio.Event) -> None:
        try:
            async with self._make() as self._arbiter:
                ready.set()
                await stop.wait()
        finally:
            ready.set()  # also after an error, so that callers do not wait for ever
