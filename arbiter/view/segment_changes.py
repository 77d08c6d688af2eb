"""Read the log of several workers while they write it: each problem whole, and again after it has changed."""

from collections.abc import Hashable
from pathlib import Path

from arbiter.log.segmented_log import SegmentedLog
from arbiter.protocols.events import Event

_PROBLEMS = 100  # that are read at once


class SegmentChanges:
    """Knows what it has read of ``log``, an ``events.jsonl`` with segments. An event of the run itself comes once."""

    def __init__(self, log: Path) -> None:
        self._log = SegmentedLog(log)
        self._known: dict[str, Hashable] = {}
        self._places: dict[str, Hashable] = {}
        self._waiting: list[str] = []
        self._of_run: set[tuple[str, float]] = set()

    @property
    def share(self) -> float:
        """The share of the problems that were read."""
        return 1.0 - len(self._waiting) / len(self._places) if self._places else 0.0

    def read_on(self) -> list[Event]:
        """Return the events of the next problems that have new lines; none if no problem has.

        Raises ``RunError`` naming the file and the line that is damaged.
        """
        if not self._waiting:
            self._places = self._log.places()
            self._waiting = [name for name, place in self._places.items() if self._known.get(name) != place]
            of_run = [event for event in self._log.events_of(None) if (event.id, event.mono) not in self._of_run]
            self._of_run.update((event.id, event.mono) for event in of_run)
            if of_run:
                return of_run
        names, self._waiting = self._waiting[:_PROBLEMS], self._waiting[_PROBLEMS:]
        if not names:
            return []
        events = [event for event in self._log.events_of(*names) if event.problem is not None]
        self._known.update({name: self._places[name] for name in names})
        return events
