"""Arbiter for programs without an event loop of their own: scripts, and notebooks."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import anyio.to_thread
from anyio.from_thread import BlockingPortal, start_blocking_portal

from arbiter.config import Config
from arbiter.library.asking import Overrides, Question
from arbiter.library.mapping import END
from arbiter.library.solver import Arbiter
from arbiter.library.streams import Solutions
from protocols.errors import ClosedError
from protocols.records import Solution

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
        try:
            future = portal.start_task_soon(work)
        except RuntimeError as error:
            if self._portal is None:
                raise ClosedError("the BlockingArbiter was closed, and takes no more calls") from error
            raise
        try:
            return future.result()
        except BaseException:  # of the call, which has ended then, or of whoever waits for it
            future.cancel()
            raise


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
