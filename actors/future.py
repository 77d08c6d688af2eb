"""A value that somebody waits for and somebody else brings, once."""

from typing import Generic, TypeVar

import anyio

Value = TypeVar("Value")


class Future(Generic[Value]):
    """Set or failed at most once with effect: what comes after the first is ignored."""

    __slots__ = ("_error", "_there", "_values")

    def __init__(self) -> None:
        self._there = anyio.Event()
        self._values: list[Value] = []
        self._error: Exception | None = None

    def set(self, value: Value) -> None:
        if not self._there.is_set():
            self._values.append(value)
            self._there.set()

    def fail(self, error: Exception) -> None:
        if not self._there.is_set():
            self._error = error
            self._there.set()

    @property
    def is_there(self) -> bool:
        """Whether it was set, or failed."""
        return self._there.is_set()

    async def wait(self) -> Value:
        """The value, once it is there. Raises the error if it failed."""
        await self._there.wait()
        if self._error is not None:
            raise self._error
        return self._values[0]
