"""What is handed to ``async for``: steps of one problem, and solutions of many.

The work goes on in tasks of the Arbiter, and not in those of whoever iterates. Who leaves the loop early lets go of the
iterator, and with it of the work: it is cancelled at once, the requests at the models with it. Where the iterator is
kept in a variable, ``aclose`` (or ``async with``) does it.
"""

import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from protocols.errors import ClosedError
from protocols.records import Solution, StepRecord

Item = TypeVar("Item")
Watch = Callable[[StepRecord], None]
Done = Callable[[Solution], Awaitable[None]]
Begin = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]
"""Runs a coroutine function as a task of its own."""

Soon = Callable[[Callable[[], object]], object]
"""Calls a function on the event loop soon, from any thread."""


class Work(Generic[Item]):
    """What goes on behind an iterator; it knows nothing of the iterator, which may so be let go."""

    def __init__(self, run: "Callable[[Work[Item]], Awaitable[None]]", room: float) -> None:
        ends = anyio.create_memory_object_stream[Item](room)
        self.send: MemoryObjectSendStream[Item] = ends[0]
        self.receive: MemoryObjectReceiveStream[Item] = ends[1]
        self.scope = anyio.CancelScope()
        self.error: Exception | None = None
        self.is_over = False
        self._run = run

    async def go(self) -> None:
        """Do the work; its error is kept for who iterates."""
        with self.send, self.scope:
            try:
                await self._run(self)
            except Exception as error:
                self.error = error
        self.is_over = True

    def cancel(self) -> None:
        """Nobody wants any more of it."""
        self.scope.cancel()
        self.send.close()
        self.receive.close()


class Stream(Generic[Item]):
    """An asynchronous iterator over work that begins with the first item that is asked for."""

    def __init__(self, begin: Begin, soon: Soon, work: Work[Item]) -> None:
        self._begin = begin
        self._soon = soon
        self._work = work
        self._thread = threading.get_ident()
        self._begun = False
        self._is_left = False

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        self._start()
        try:
            return await self._work.receive.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            was_left = self._is_left
            await self.aclose()
        if self._work.error is not None and not was_left:
            raise self._work.error
        if not (self._work.is_over or was_left):
            raise ClosedError("the arbiter was closed before all of it was there")
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what is still going on."""
        self._is_left = True
        self._work.cancel()

    def __del__(self) -> None:
        if threading.get_ident() == self._thread:
            self._work.cancel()
        elif not self._work.is_over:  # the collector ran in another thread, which must not touch the event loop
            self._soon(self._work.cancel)

    def _start(self) -> None:
        if not self._begun:
            self._begun = True
            self._begin(self._work.go)


class Steps(Stream[StepRecord]):
    """The steps of one problem, each as soon as it is final; then there is its ``solution``.

    Iterating raises what ``Arbiter.solve`` raises. A problem that failed just ends: its solution has the error.
    """

    def __init__(self, begin: Begin, soon: Soon, solve: Callable[[Watch], Awaitable[Solution]]) -> None:
        self._found: list[Solution] = []
        found = self._found

        async def run(work: Work[StepRecord]) -> None:
            def put(step: StepRecord) -> None:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it is being left
                    work.send.send_nowait(step)

            found.append(await solve(put))

        super().__init__(begin, soon, Work(run, math.inf))  # as many as the problem's limits allow

    @property
    def solution(self) -> Solution:
        """How the problem ended. Raises ``ClosedError`` while it has not, or if it was left early."""
        if not self._found:
            raise ClosedError("there is no solution: the problem has not ended, or its steps were left early")
        return self._found[0]


class Solutions(Stream[Solution]):
    """The solutions of many problems, each as soon as it is there. Who takes them slowly slows the work down."""

    def __init__(self, begin: Begin, soon: Soon, solve: Callable[[Done], Awaitable[None]]) -> None:
        async def run(work: Work[Solution]) -> None:
            await solve(work.send.send)

        super().__init__(begin, soon, Work(run, 0))
