"""A value that one task sets and other tasks wait for."""

from typing import Generic, TypeVar

import anyio

Value = TypeVar("Value")


class Future(Generic[Value]):
    """A value or an error that arrives once. Only the first ``set`` or ``fail`` counts; later ones are ignored."""

    __slots__ = ("_done", "_error", "_values")

    def __init__(self) -> None:
        self._done = anyio.Event()
        self._values: list[Value] = []
        self._error: Exception | None = None

    def set(self, value: Value) -> None:
        if not self._done.is_set():
            self._values.append(value)
            self._done.set()

    def fail(self, error: Exception) -> None:
        if not self._done.is_set():
            self._error = error
            self._done.set()

    @property
    def is_there(self) -> bool:
        """Whether it was set or failed."""
        return self._done.is_set()

    async def wait(self) -> Value:
        """Wait for the value and return it. Raises the error if it failed."""
        await self._done.wait()  # also if it is set: others get a turn
        if self._error is not None:
            raise self._error
        return self._values[0]
