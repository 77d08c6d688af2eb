"""The door of an Arbiter: so many problems in its ring at once, the others in the order in which they came."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio


class AdmissionQueue:
    """Counts the calls that are in, and those that wait in front of it."""

    def __init__(self, room: int) -> None:
        self._room = anyio.Semaphore(room)
        self._calls = 0
        self._empty = anyio.Event()
        self.waiting = 0

    @property
    def inside(self) -> int:
        """Calls that have come in."""
        return self._calls - self.waiting

    @asynccontextmanager
    async def entered(self) -> AsyncGenerator[None]:
        """Run the block inside, once there is room."""
        if not self._calls:
            self._empty = anyio.Event()
        self._calls += 1
        try:
            await self._enter()
            try:
                yield
            finally:
                self._room.release()
        finally:
            self._calls -= 1
            if not self._calls:
                self._empty.set()

    async def all_gone(self) -> None:
        """Wait until nobody is inside or in front of it."""
        while self._calls:
            await self._empty.wait()

    async def _enter(self) -> None:
        with suppress(anyio.WouldBlock):
            self._room.acquire_nowait()
            return
        self.waiting += 1
        try:
            await self._room.acquire()
        finally:
            self.waiting -= 1
