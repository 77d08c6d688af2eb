"""Put the events of a log into the order of their times.

A line carries events that are older than lines before it: by at most about twice the recorder's ``CARRY_SECONDS``.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import count

from arbiter.protocols.events import Event

WINDOW = 3.0
"""Seconds of the run's clock for which events are held back. An event that is older than that comes late."""


def time_of(event: Event) -> tuple[float, int]:
    """Return the key by which events are ordered. The events of a line have the same number."""
    return event.mono, event.seq


def in_time_order(events: Iterable[Event]) -> Iterator[Event]:
    """Yield ``events`` in the order of their times; those of equal times in their order.

    Only the events of ``WINDOW`` seconds are in memory. An error of ``events`` is raised after the events before it.
    """
    waiting: list[tuple[float, int, Event]] = []
    numbers, newest = count(), 0.0
    try:
        for event in events:
            newest = max(newest, event.mono)
            heapq.heappush(waiting, (event.mono, next(numbers), event))
            while waiting[0][0] < newest - WINDOW:
                yield heapq.heappop(waiting)[2]
    except Exception:
        while waiting:
            yield heapq.heappop(waiting)[2]
        raise
    while waiting:
        yield heapq.heappop(waiting)[2]
