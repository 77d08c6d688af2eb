"""A time limit for blocks of work, with one timer for all of them.

``asyncio.timeout`` starts a timer for each block, which takes as long as much of a request.
"""

import asyncio
from types import TracebackType


class TimeLimit:
    """Limits blocks to ``seconds`` each. Use it in one event loop::

        limit = TimeLimit(600)
        with limit.block():
            await work()

    As with ``asyncio.timeout``, a block that takes longer is cancelled and raises ``TimeoutError``.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._running: dict[_Block, None] = {}  # in the order in which they began, and so reach the limit
        self._timer: asyncio.TimerHandle | None = None

    def block(self) -> "_Block":
        """Return a context manager for one block."""
        return _Block(self)

    def close(self) -> None:
        """Stop the timer. Blocks that still run are not limited any more."""
        if self._timer is not None:
            self._timer.cancel()

    def begin(self, block: "_Block") -> float:
        """Add a block. Return the time of the loop at which it reaches the limit."""
        ends = self._loop.time() + self._seconds
        self._running[block] = None
        if self._timer is None:
            self._timer = self._loop.call_at(ends, self._check)
        return ends

    def end(self, block: "_Block") -> None:
        """Remove a block."""
        self._running.pop(block, None)

    def _check(self) -> None:
        """Cancel the blocks that have reached the limit, and wait for the next one."""
        self._timer, now = None, self._loop.time()
        while self._running:
            first = next(iter(self._running))
            if first.ends > now:
                self._timer = self._loop.call_at(first.ends, self._check)
                return
            self.end(first)
            first.expire()


class _Block:
    __slots__ = ("_cancelling", "_expired", "_limit", "_task", "ends")

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._task = task
        self._cancelling = task.cancelling()  # by others
        self.ends = self._limit.begin(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.end(self)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task of the block."""
        self._expired = True
        self._task.cancel()
