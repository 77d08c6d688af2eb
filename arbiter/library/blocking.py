"""Arbiter for programs without an event loop of their own: scripts, and notebooks."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from anyio.from_thread import BlockingPortal, start_blocking_portal

from arbiter.config import Config
from arbiter.library.asking import Overrides, Question
from arbiter.library.solver import Arbiter
from protocols.errors import ClosedError
from protocols.records import Solution


class BlockingArbiter:
    """An ``Arbiter`` whose event loop runs in a thread of its own; a plain context manager.

    It may be used from several threads, and where an event loop is running already, as in a notebook. Opening it
    raises what opening an ``Arbiter`` does.
    """

    def __init__(self, config: str | Path | Config | Arbiter = "pocket") -> None:
        self._arbiter = config if isinstance(config, Arbiter) else Arbiter.from_config(config)
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._arbiter))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._portal = None
        return self._stack.__exit__(kind, error, trace)

    def solve(self, question: Question, **overrides: Unpack[Overrides]) -> Solution:
        """Solve one question. Raises as ``Arbiter.solve``."""
        return self._open().call(partial(self._arbiter.solve, question, **overrides))

    def map(
        self, questions: Iterable[Question], *, concurrency: int | None = None, **overrides: Unpack[Overrides]
    ) -> Iterator[Solution]:
        """The solutions of many questions, as they end. Raises as ``Arbiter.map``."""
        portal = self._open()
        solutions = portal.call(partial(self._arbiter.map, questions, concurrency=concurrency, **overrides))
        try:
            while True:
                solution = portal.call(anext, solutions, None)
                if solution is None:
                    return
                yield solution
        finally:
            portal.call(solutions.aclose)

    def _open(self) -> BlockingPortal:
        if self._portal is None:
            raise ClosedError("the BlockingArbiter is not open: use it in `with BlockingArbiter(…) as arbiter:`")
        return self._portal


def solve(question: Question, config: str | Path | Config = "pocket", **overrides: Unpack[Overrides]) -> Solution:
    """Solve one question: the models are opened for it and closed again; for several, keep a ``BlockingArbiter``.

    Raises as opening an ``Arbiter``, and as ``Arbiter.solve``.
    """
    with BlockingArbiter(config) as arbiter:
        return arbiter.solve(question, **overrides)
