"""How a model stands, as far as its answers tell."""

from collections import deque
from typing import Any

from arbiter.actors.slots import Occupancy
from arbiter.config.model_tables import AnyModelTable, ServedTable

_RECENT = 50  # requests over which the mean seconds are told
_ERROR = 200
_IDLE_SECONDS = 10.0


class ModelHealth:
    """A model's requests: how they ended, and whether the last one did well."""

    def __init__(self) -> None:
        self._answered = 0
        self._failed = 0
        self._retried = 0
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._last: float | None = None
        self._error: str | None = None

    def answered_after(self, seconds: float, now: float) -> None:
        """A request was answered."""
        self._answered += 1
        self._seconds.append(seconds)
        self._last, self._error = now, None

    def failed_with(self, error: str) -> None:
        """A request failed for good."""
        self._failed += 1
        self._error = error[:_ERROR]

    def retried_after(self, error: str) -> None:
        """An attempt failed, and is made again."""
        self._retried += 1
        self._error = error[:_ERROR]

    def told(self, name: str, table: AnyModelTable | None, places: Occupancy, now: float) -> dict[str, Any]:
        """As the page shows it; ``table`` is None for a model that was given to the ring and is in no configuration."""
        return {
            "name": name,
            "model": None if table is None else table.model,
            "address": table.base if isinstance(table, ServedTable) else "in process",
            "running": places.taken,
            "waiting": places.waiting,
            "limit": places.limit,
            "answered": self._answered,
            "failed": self._failed,
            "retried": self._retried,
            "since": None if self._last is None else round(now - self._last, 1),
            "mean": sum(self._seconds) / len(self._seconds) if self._seconds else None,
            "state": self._state(places, now),
            "error": self._error,
        }

    def _state(self, places: Occupancy, now: float) -> str:
        """``failing`` from a failed attempt until the next answer."""
        if self._error is not None:
            return "failing"
        was_busy = self._last is not None and now - self._last < _IDLE_SECONDS
        return "ok" if places.taken or was_busy else "idle"
