"""Arbiter without ``async``: for scripts and notebooks."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

import anyio
import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from arbiter.config.config import Config
from arbiter.library.arbiter import Arbiter
from arbiter.library.batch_map import END
from arbiter.library.questions import Overrides, Question
from arbiter.library.streams import Solutions, SolutionStream, Stream
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.records import Solution, StepPiece, StepRecord

Answer = TypeVar("Answer")
Item = TypeVar("Item")


class BlockingArbiter:
    """An ``Arbiter`` whose event loop runs in its own thread. A plain context manager.

    Example::

        with BlockingArbiter("pocket") as arbiter:
            print(arbiter.solve("Compute (12+30)*7.").answer)

    ``config`` is a ``Config``, the path of a file, the name of a built-in configuration, or an ``Arbiter`` that is not
    open. Several threads may use it, and it works where an event loop is already running, as in a notebook.
    Interrupting a call (Ctrl-C, or the notebook's button) cancels only this call.

    The constructor raises ``ConfigError`` as ``Arbiter.from_config``. Opening raises the same errors as opening an
    ``Arbiter``.
    """

    def __init__(self, config: str | Path | Config | Arbiter = "pocket") -> None:
        self._arbiter = config if isinstance(config, Arbiter) else Arbiter.from_config(config)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._arbiter))
            self._stack = stack.pop_all()
        self._portal = portal
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._portal = None
        return self._stack.__exit__(kind, error, trace)

    def solve(self, question: Question, **overrides: Unpack[Overrides]) -> Solution:
        """Solve one question and return its solution. Raises as ``Arbiter.solve``."""
        return self._call(partial(self._arbiter.solve, question, **overrides))

    def stream(self, question: Question, **overrides: Unpack[Overrides]) -> "BlockingStream[StepRecord]":
        """Solve one question and iterate over its steps, each as soon as it is kept. Raises as ``Arbiter.stream``."""

        async def begin() -> SolutionStream[StepRecord]:
            return self._arbiter.stream(question, **overrides)

        return BlockingStream(self._call(begin), self._next)

    def stream_pieces(
        self, question: Question, **overrides: Unpack[Overrides]
    ) -> "BlockingStream[StepPiece | StepRecord]":
        """Solve one question and iterate over its steps, and over their texts as they are written.

        Which steps have pieces, and what is raised, is as with ``Arbiter.stream_pieces``.
        """

        async def begin() -> SolutionStream[StepPiece | StepRecord]:
            return self._arbiter.stream_pieces(question, **overrides)

        return BlockingStream(self._call(begin), self._next)

    def map(
        self, questions: Iterable[Question], *, concurrency: int | None = None, **overrides: Unpack[Overrides]
    ) -> Iterator[Solution]:
        """Solve many questions and iterate over their solutions, in the order in which they end::

            for solution in arbiter.map(["Compute 12+30.", "Compute 99-12."]):
                print(solution.question, solution.text)

        ``questions`` may block, because questions are taken in a thread. Leaving the loop cancels the questions in
        progress. Raises as ``Arbiter.map``.
        """

        async def begin() -> Solutions:
            return self._arbiter.map(_Threaded(questions), concurrency=concurrency, **overrides)

        return self._each(self._call(begin))

    def _each(self, solutions: Solutions) -> Iterator[Solution]:
        try:
            while (solution := self._next(solutions)) is not None:
                yield solution
        finally:
            solutions.release()

    def _next(self, stream: Stream[Item]) -> Item | None:
        """Return the next item of a stream; None at its end."""

        async def next_item() -> Item | None:
            return await anext(stream, None)

        return self._call(next_item)

    def _call(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Run ``work`` on the event loop and return its result. An interruption cancels it. Raises ``ClosedError``."""
        portal = self._portal
        if portal is None:
            raise ClosedError("the BlockingArbiter is not open: use it in `with BlockingArbiter(…) as arbiter:`")
        call = _Call(work)
        try:
            return portal.start_task_soon(call.run).result()
        except RuntimeError as error:
            if self._portal is None and not call.is_started:
                raise ClosedError("the BlockingArbiter is closed and takes no more calls: open a new one") from error
            raise
        except (KeyboardInterrupt, SystemExit):  # possibly before the call has started
            call.is_wanted = False
            with suppress(RuntimeError):  # the portal is closed, and so is the call
                portal.start_task_soon(call.cancel)
            raise


class BlockingStream(Iterator[Item]):
    """Iterates over what is known of one problem before its end. Then ``solution`` is set::

        with arbiter.stream("Compute (12+30)*7.") as steps:
            for step in steps:
                print(step.kept.text)
        print(steps.solution.finish_reason)

    Leaving the block cancels the problem and its requests, unless it has ended. So does dropping the iterator.
    """

    def __init__(self, stream: SolutionStream[Item], take: Callable[[SolutionStream[Item]], Item | None]) -> None:
        self._stream = stream
        self._take = take

    def __next__(self) -> Item:
        item = self._take(self._stream)
        if item is None:
            raise StopIteration
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.release()

    @property
    def solution(self) -> Solution:
        """The solution of the problem. Raises ``ClosedError`` if the problem has not ended or was cancelled."""
        return self._stream.solution


class _Call(Generic[Answer]):
    """A call that can be cancelled as soon as it exists, even before it starts."""

    def __init__(self, work: Callable[[], Awaitable[Answer]]) -> None:
        self._work = work
        self._scope: anyio.CancelScope | None = None
        self.is_started = False
        self.is_wanted = True

    async def run(self) -> Answer:
        self.is_started = True
        with anyio.CancelScope() as self._scope:
            if self.is_wanted:
                return await self._work()
        raise ClosedError("the call was interrupted")  # nothing receives this error

    def cancel(self) -> None:
        """Cancel the call. Must run on the event loop."""
        if self._scope is not None:
            self._scope.cancel()


class _Threaded:
    """An asynchronous iterator over an iterable that may block: each item is taken in a thread."""

    def __init__(self, items: Iterable[Question]) -> None:
        self._items = iter(items)

    def __aiter__(self) -> AsyncIterator[Question]:
        return self

    async def __anext__(self) -> Question:
        item: Any = await anyio.to_thread.run_sync(next, self._items, END, abandon_on_cancel=True)
        if item is END:
            raise StopAsyncIteration
        return item


def solve(question: Question, config: str | Path | Config = "pocket", **overrides: Unpack[Overrides]) -> Solution:
    """Solve one question and return its solution::

        solution = arbiter.solve("Compute (12+30)*7.")

    The models are opened for this call and closed after it. For several questions, use a ``BlockingArbiter``.

    Raises the errors of opening an ``Arbiter`` and those of ``Arbiter.solve``.
    """
    with BlockingArbiter(config) as arbiter:
        return arbiter.solve(question, **overrides)
