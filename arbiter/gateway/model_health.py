"""The health of a model, judged by the outcomes of its requests."""

from collections import deque
from typing import Any

from arbiter.actors.slots import Occupancy
from arbiter.config.model_tables import DraftHeadTable, RouterTable, ServedTable

_RECENT = 50  # requests that the mean seconds cover
_ERROR = 200
_IDLE_SECONDS = 10.0


class ModelHealth:
    """Count a model's requests by outcome, and keep the error of the last attempt if it failed."""

    def __init__(self) -> None:
        self._answered = 0
        self._failed = 0
        self._retried = 0
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._last: float | None = None
        self._error: str | None = None

    def answered_after(self, seconds: float, now: float) -> None:
        """Count an answered request, which took ``seconds`` and ended at ``now``."""
        self._answered += 1
        self._seconds.append(seconds)
        self._last, self._error = now, None

    def failed_with(self, error: str) -> None:
        """Count a request that failed after all its retries."""
        self._failed += 1
        self._error = error[:_ERROR]

    def retried_after(self, error: str) -> None:
        """Count a failed attempt that is made again."""
        self._retried += 1
        self._error = error[:_ERROR]

    def to_dict(self, name: str, table: RouterTable | None, slots: Occupancy, now: float) -> dict[str, Any]:
        """Return the model as the page shows it.

        ``table`` is the model's configuration, None for a model object that was passed to the Arbiter instead.
        """
        return {
            "name": name,
            "model": None if table is None else table.model,
            "address": _address(table),
            "running": slots.taken,
            "waiting": slots.waiting,
            "limit": slots.limit,
            "answered": self._answered,
            "failed": self._failed,
            "retried": self._retried,
            "since": None if self._last is None else round(now - self._last, 1),
            "mean": sum(self._seconds) / len(self._seconds) if self._seconds else None,
            "state": self._state(slots, now),
            "error": self._error,
        }

    def _state(self, slots: Occupancy, now: float) -> str:
        """Return ``failing`` from a failed attempt until the next answer, else ``ok`` if in use, or ``idle``."""
        if self._error is not None:
            return "failing"
        was_busy = self._last is not None and now - self._last < _IDLE_SECONDS
        return "ok" if slots.taken or was_busy else "idle"


def _address(table: RouterTable | None) -> str:
    if isinstance(table, DraftHeadTable):
        return "on the draft"
    return table.base if isinstance(table, ServedTable) else "in process"
