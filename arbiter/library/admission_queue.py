"""Limits the number of problems in the ring of an Arbiter. The others wait in order of arrival."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio


class AdmissionQueue:
    """Admits up to ``room`` concurrent calls, and counts the admitted and the waiting ones."""

    def __init__(self, room: int) -> None:
        self._room = anyio.Semaphore(room)
        self._calls = 0
        self._empty = anyio.Event()
        self.waiting = 0

    @property
    def inside(self) -> int:
        """The number of admitted calls."""
        return self._calls - self.waiting

    @asynccontextmanager
    async def entered(self) -> AsyncGenerator[None]:
        """Wait until the call is admitted, then run the block."""
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
        """Wait until no call is admitted or waiting."""
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
