"""The requests to one model: who makes the next one, and how many may be there at once."""

import logging
from itertools import count

import anyio

from arbiter.actors.controllers import LimitControl
from arbiter.actors.slots import Occupancy, PrioritySemaphore, Rank
from arbiter.protocols.events import Entry, LimitMoved, LimitReason
from arbiter.protocols.ids import limit_id
from arbiter.protocols.ports import Generator, Journal, ModelHandle, QueueDepth, Scorer

_LOOK_SECONDS = 2.0  # between two looks at the server's queue

log = logging.getLogger("arbiter.actors.limiter")


class ConcurrencyLimiter:
    """The places at a seat. Their number is the seat's ``in_flight``; of an ``adaptive`` seat it moves below that, as
    the server bears it, and each move is written into ``journal``. ``name`` is the model's, behind ``models.``.
    """

    def __init__(self, name: str, handle: ModelHandle[Generator] | ModelHandle[Scorer], journal: Journal) -> None:
        self.name = name
        self._journal = journal
        self._places = PrioritySemaphore(handle.in_flight)
        self._queue_depth: QueueDepth | None = handle.queue_depth if handle.adaptive else None
        self._control = LimitControl(handle.in_flight) if handle.adaptive else None
        self._moves = count()

    @property
    def occupancy(self) -> Occupancy:
        """Who is at the model, and who waits."""
        return self._places.occupancy

    @property
    def load(self) -> float:
        """The share of places that are taken."""
        return self._places.load

    @property
    def has_room(self) -> bool:
        """Whether a request would be made at once."""
        return self._places.has_room

    async def take(self, rank: Rank) -> int:
        """Have a place, until ``give``; the number of the request."""
        await self._places.take(rank)
        return self._control.ask() if self._control else 0

    def give(self) -> None:
        """Leave the place to whoever is next."""
        self._places.give()

    def refused(self, number: int) -> None:
        """The server cannot take the request ``number`` now."""
        if self._control:
            self._moved(self._control.refused(number))

    def answered(self, number: int, seconds: float, tokens: int) -> None:
        """The request ``number`` was answered, after so many seconds, with so many tokens written."""
        if self._control:
            self._moved(self._control.answered(number, seconds, tokens, not self.has_room))

    async def watch(self) -> None:
        """Look at the server's queue now and then, for ever; at once over where there is nothing to look at."""
        while self._queue_depth and self._control:
            await anyio.sleep(_LOOK_SECONDS)
            if self.load:
                self._moved(self._control.waits(await self._queue_depth.waiting()))

    def _moved(self, reason: LimitReason | None) -> None:
        if reason is None or self._control is None:
            return
        limit = self._control.limit
        self._places.resize(limit)
        log.info("limit moved", extra={"model": self.name, "limit": limit, "reason": reason})
        if self._journal.kept:
            name = limit_id(self.name, next(self._moves))
            self._journal.note(Entry(name, "ring", LimitMoved(self.name, limit, reason)))
