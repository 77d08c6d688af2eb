"""Arbiter for programs without an event loop of their own: scripts, and notebooks."""

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
from arbiter.library.streams import Solutions
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.records import Solution

Answer = TypeVar("Answer")


class BlockingArbiter:
    """An ``Arbiter`` whose event loop runs in a thread of its own; a plain context manager.

    It may be used from several threads, and where an event loop is running already, as in a notebook. A call that is
    interrupted (Ctrl-C, or the notebook's button) is cancelled, and touches no other. Opening it raises what opening an
    ``Arbiter`` does.
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
        """Solve one question. Raises as ``Arbiter.solve``."""
        return self._call(partial(self._arbiter.solve, question, **overrides))

    def map(
        self, questions: Iterable[Question], *, concurrency: int | None = None, **overrides: Unpack[Overrides]
    ) -> Iterator[Solution]:
        """The solutions of many questions, as they end. Raises as ``Arbiter.map``.

        The questions are taken in a thread, so that they may take their time.
        """

        async def begin() -> Solutions:
            return self._arbiter.map(_Threaded(questions), concurrency=concurrency, **overrides)

        return self._each(self._call(begin))

    def _each(self, solutions: Solutions) -> Iterator[Solution]:
        async def following() -> Solution | None:
            return await anext(solutions, None)

        try:
            while (solution := self._call(following)) is not None:
                yield solution
        finally:
            solutions.let_go()

    def _call(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """What ``work`` gives on the event loop; who is interrupted cancels it. Raises ``ClosedError``."""
        portal = self._portal
        if portal is None:
            raise ClosedError("the BlockingArbiter is not open: use it in `with BlockingArbiter(…) as arbiter:`")
        call = _Call(work)
        try:
            return portal.start_task_soon(call.run).result()
        except RuntimeError as error:
            if self._portal is None and not call.is_begun:
                raise ClosedError("the BlockingArbiter was closed, and takes no more calls") from error
            raise
        except (KeyboardInterrupt, SystemExit):  # which may come before it is known that the call has begun
            call.is_wanted = False
            with suppress(RuntimeError):  # the portal has been closed, and the call with it
                portal.start_task_soon(call.cancel)
            raise


class _Call(Generic[Answer]):
    """A call that can be cancelled from the moment on in which it is there."""

    def __init__(self, work: Callable[[], Awaitable[Answer]]) -> None:
        self._work = work
        self._scope: anyio.CancelScope | None = None
        self.is_begun = False
        self.is_wanted = True

    async def run(self) -> Answer:
        self.is_begun = True
        with anyio.CancelScope() as self._scope:
            if self.is_wanted:
                return await self._work()
        raise ClosedError("the call was interrupted")  # which nobody hears

    def cancel(self) -> None:
        """To be called on the event loop."""
        if self._scope is not None:
            self._scope.cancel()


class _Threaded:
    """The items of an iterable that may block, one after another."""

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
    """Solve one question: the models are opened for it and closed again; for several, keep a ``BlockingArbiter``.

    Raises as opening an ``Arbiter``, and as ``Arbiter.solve``.
    """
    with BlockingArbiter(config) as arbiter:
        return arbiter.solve(question, **overrides)
