"""What is handed to ``async for``: steps of one problem, and solutions of many.

The work goes on in tasks of the Arbiter, and not in those of whoever iterates. Who leaves the loop early lets go of the
iterator, and with it of the work: it is cancelled at once, the requests at the models with it. So it is where the task
that waits for the next item is cancelled. Where the iterator is kept in a variable, ``aclose`` (or ``async with``) does
it.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from arbiter.protocols.errors import ClosedError
from arbiter.protocols.records import Solution, StepRecord

Item = TypeVar("Item")
Watch = Callable[[StepRecord], None]
Done = Callable[[Solution], Awaitable[None]]
Begin = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]
"""Runs a coroutine function as a task of its own. Raises ``ClosedError``."""

Soon = Callable[[Callable[[], object]], object]
"""Calls a function on the event loop soon, from any thread. Raises ``RuntimeError`` if the loop is over."""


class StreamWork(Generic[Item]):
    """What goes on behind an iterator; it knows nothing of the iterator, which may so be let go."""

    def __init__(self, run: "Callable[[StreamWork[Item]], Awaitable[None]]", room: float) -> None:
        ends = anyio.create_memory_object_stream[Item](room)
        self.send: MemoryObjectSendStream[Item] = ends[0]
        self.receive: MemoryObjectReceiveStream[Item] = ends[1]
        self.error: Exception | None = None
        self.is_begun = False
        self.is_complete = False
        self._is_over = False
        self._scope = anyio.CancelScope()
        self._run = run

    @property
    def is_running(self) -> bool:
        """Whether there is something to cancel."""
        return self.is_begun and not self._is_over

    async def go(self) -> None:
        """Do the work; its error is kept for who iterates."""
        try:
            with self.send, self._scope:
                try:
                    await self._run(self)
                except Exception as error:
                    self.error = error
            self.is_complete = True
        finally:
            self._is_over = True

    def cancel(self) -> None:
        """Nobody wants any more of it."""
        self._scope.cancel()
        self.close()

    def close(self) -> None:
        """Nothing more is handed over."""
        self.send.close()
        self.receive.close()


class Stream(Generic[Item]):
    """An asynchronous iterator over work that begins with the first item that is asked for."""

    def __init__(self, begin: Begin, soon: Soon, work: StreamWork[Item]) -> None:
        self._begin = begin
        self._soon = soon
        self._work = work
        self._is_left = False

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        work, was_left = self._work, self._is_left
        if not was_left:
            self._start()
            try:
                return await work.receive.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                was_left = self._is_left
                await self.aclose()
            except BaseException:  # who waits was cancelled, which ends this as it ends any generator
                await self.aclose()
                raise
        if work.error is not None and not was_left:
            raise work.error
        if not (work.is_complete or was_left):
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
        """Cancel what is still going on; waits for nothing."""
        self._is_left = True
        self._work.cancel()

    def let_go(self) -> None:
        """The same from any thread, and from wherever the collector comes by."""
        self._is_left = True
        if self._work.is_running:
            with suppress(RuntimeError):  # the event loop is over, and so is the work
                self._soon(self._work.cancel)
                return
        self._work.close()

    def __del__(self) -> None:
        self.let_go()

    def _start(self) -> None:
        if not self._work.is_begun:
            self._begin(self._work.go)
            self._work.is_begun = True


class Steps(Stream[StepRecord]):
    """The steps of one problem, each as soon as it is final; then there is its ``solution``.

    Iterating raises what ``Arbiter.solve`` raises. A problem that failed just ends: its solution has the error.
    """

    def __init__(self, begin: Begin, soon: Soon, solve: Callable[[Watch], Awaitable[Solution]]) -> None:
        self._found: list[Solution] = []
        found = self._found

        async def run(work: StreamWork[StepRecord]) -> None:
            def put(step: StepRecord) -> None:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it is being left
                    work.send.send_nowait(step)

            found.append(await solve(put))

        super().__init__(begin, soon, StreamWork(run, math.inf))  # as many as the problem's limits allow

    @property
    def solution(self) -> Solution:
        """How the problem ended. Raises ``ClosedError`` while it has not, or if it was left early."""
        if not self._found:
            raise ClosedError("there is no solution: the problem has not ended, or its steps were left early")
        return self._found[0]


class Solutions(Stream[Solution]):
    """The solutions of many problems, each as soon as it is there. Who takes them slowly slows the work down."""

    def __init__(self, begin: Begin, soon: Soon, solve: Callable[[Done], Awaitable[None]]) -> None:
        async def run(work: StreamWork[Solution]) -> None:
            async def put(solution: Solution) -> None:
                try:
                    work.send.send_nowait(solution)  # who waits for it has it, even if the Arbiter is closed right now
                except anyio.WouldBlock:
                    await work.send.send(solution)

            await solve(put)

        super().__init__(begin, soon, StreamWork(run, 0))
