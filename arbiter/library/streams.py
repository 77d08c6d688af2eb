"""The asynchronous iterators of the Python API: over the steps of one problem, and over the solutions of many.

The work runs in tasks of the Arbiter, not in the task that iterates. Leaving the loop cancels the work and its model
requests, and so does cancelling the task that waits for the next item. If a variable keeps the iterator, call
``aclose`` or use ``async with``.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from arbiter.backends.loop_calls import Soon
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.records import Solution, StepPiece, StepRecord

Item = TypeVar("Item")
Watch = Callable[[StepRecord], None]
Done = Callable[[Solution], Awaitable[None]]
Put = Callable[[Item], None]
Begin = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]
"""Starts a coroutine function as a task of the Arbiter. Raises ``ClosedError`` if the Arbiter is closed."""


class StreamWork(Generic[Item]):
    """The work of an iterator. It has no reference to the iterator, so that the iterator can be garbage-collected."""

    def __init__(self, run: "Callable[[StreamWork[Item]], Awaitable[None]]", room: float) -> None:
        ends = anyio.create_memory_object_stream[Item](room)
        self.send: MemoryObjectSendStream[Item] = ends[0]
        self.receive: MemoryObjectReceiveStream[Item] = ends[1]
        self.error: Exception | None = None
        self.is_started = False
        self.is_complete = False
        self._has_ended = False
        self._scope = anyio.CancelScope()
        self._run = run

    @property
    def is_running(self) -> bool:
        """Whether the work has started and not ended."""
        return self.is_started and not self._has_ended

    async def run(self) -> None:
        """Do the work. Its error is kept for the iterator."""
        try:
            with self.send, self._scope:
                try:
                    await self._run(self)
                except Exception as error:
                    self.error = error
            self.is_complete = True
        finally:
            self._has_ended = True

    def cancel(self) -> None:
        """Cancel the work."""
        self._scope.cancel()
        self.close()

    def close(self) -> None:
        """Close both ends of the stream: no more items are passed on."""
        self.send.close()
        self.receive.close()


class Stream(Generic[Item]):
    """An asynchronous iterator. Its work starts with the first ``anext``, or with ``async with``."""

    def __init__(self, begin: Begin, soon: Soon, work: StreamWork[Item]) -> None:
        self._begin = begin
        self._soon = soon
        self._work = work
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        work, was_closed = self._work, self._is_closed
        if not was_closed:
            self.start()
            try:
                return await work.receive.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                was_closed = self._is_closed
                await self.aclose()
            except BaseException:  # a cancellation closes the iterator, as it closes a generator
                await self.aclose()
                raise
        if work.error is not None and not was_closed:
            raise work.error
        if not (work.is_complete or was_closed):
            raise ClosedError("the Arbiter was closed before the iteration was complete")
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the remaining work, without waiting for its end."""
        self._is_closed = True
        self._work.cancel()

    def release(self) -> None:
        """As ``aclose``, but callable from any thread and from the garbage collector."""
        self._is_closed = True
        if self._work.is_running:
            with suppress(RuntimeError):  # the event loop has ended, and so has the work
                self._soon(self._work.cancel)
                return
        self._work.close()

    def __del__(self) -> None:
        self.release()

    def start(self) -> None:
        """Start the work, if it has not started. Raises ``ClosedError`` if the Arbiter is closed."""
        if not self._work.is_started:
            self._begin(self._work.run)
            self._work.is_started = True


class SolutionStream(Stream[Item]):
    """Iterates over what is known of one problem before its end. Then ``solution`` is set."""

    def __init__(self, begin: Begin, soon: Soon, solve: Callable[[Put[Item]], Awaitable[Solution]]) -> None:
        self._found: list[Solution] = []
        self._begun = anyio.Event()
        found, begun = self._found, self._begun

        async def run(work: StreamWork[Item]) -> None:
            def put(item: Item) -> None:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the iterator is closed
                    work.send.send_nowait(item)
                begun.set()

            try:
                found.append(await solve(put))
            finally:
                begun.set()

        super().__init__(
            begin, soon, StreamWork(run, math.inf)
        )  # unbounded: the problem's limits bound the number of steps and of their pieces

    @property
    def has_begun(self) -> bool:
        """Whether there is a first item, or the problem has ended."""
        return self._begun.is_set()

    async def begun(self) -> None:
        """Wait until ``has_begun``. Takes no item; a cancellation of the wait leaves the iterator open."""
        await self._begun.wait()

    @property
    def solution(self) -> Solution:
        """The solution of the problem. Raises ``ClosedError`` if the problem has not ended or was cancelled."""
        if not self._found:
            raise ClosedError("there is no solution: the problem has not ended, or it was cancelled")
        return self._found[0]


class Steps(SolutionStream[StepRecord]):
    """Iterates over the steps of one problem, each as soon as it is kept. ``solution`` is set after the last step::

        async with arbiter.stream("Compute (12+30)*7.") as steps:
            async for step in steps:
                print(step.kept.text)
        print(steps.solution.finish_reason)

    The iteration raises the errors of ``Arbiter.solve``. If the problem fails, the iteration ends normally, and the
    solution has the error.
    """


class Pieces(SolutionStream[StepPiece | StepRecord]):
    """Iterates over the steps of one problem, and over the pieces of each step before the step itself::

        async with arbiter.stream_pieces("Compute (12+30)*7.", run_type="target") as pieces:
            async for piece in pieces:
                if isinstance(piece, StepPiece):
                    print(piece.text, end="")
                else:
                    print(f" [{piece.kept.author}]")
        print(pieces.solution.finish_reason)

    A step has pieces where nothing can reject it, if its model can pass on its text: see ``Arbiter.stream_pieces``.
    Other steps come as a whole. Errors are as with ``Steps``.
    """


class Solutions(Stream[Solution]):
    """Iterates over the solutions of many problems, in the order in which they end.

    If the caller takes solutions slowly, fewer problems are started.
    """

    def __init__(self, begin: Begin, soon: Soon, solve: Callable[[Done], Awaitable[None]]) -> None:
        async def run(work: StreamWork[Solution]) -> None:
            async def put(solution: Solution) -> None:
                try:
                    work.send.send_nowait(solution)  # a waiting iterator gets it, even if the Arbiter is being closed
                except anyio.WouldBlock:
                    await work.send.send(solution)

            await solve(put)

        super().__init__(begin, soon, StreamWork(run, 0))
