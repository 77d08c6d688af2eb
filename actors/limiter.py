"""Limits the concurrent requests to one model, and decides which request is next."""

import logging
from itertools import count

import anyio

from arbiter.actors.controllers import LimitControl
from arbiter.actors.slots import Occupancy, PrioritySemaphore, Rank
from arbiter.protocols.events import Entry, LimitMoved, LimitReason
from arbiter.protocols.ids import limit_id
from arbiter.protocols.ports import Generator, Journal, LimitController, ModelHandle, QueueDepth, Scorer

_POLL_SECONDS = 2.0  # between two reads of the server's queue

log = logging.getLogger("arbiter.actors.limiter")


class ConcurrencyLimiter:
    """The slots of a model. Their number is ``in_flight`` of its ``ModelHandle``, or that of its ``control``.

    If the handle ``pauses``, slots are granted in groups while requests wait. If it is ``adaptive``, a controller
    lowers the number while the server cannot serve as many requests. Each change is written to ``journal``. ``name`` is
    the model's configuration key after ``models.``.
    """

    def __init__(self, name: str, handle: ModelHandle[Generator] | ModelHandle[Scorer], journal: Journal) -> None:
        self.name = name
        self._journal = journal
        own = LimitControl(handle.in_flight) if handle.adaptive else None
        self._control: LimitController | None = handle.control or own
        self._slots = PrioritySemaphore(self._control.limit if self._control else handle.in_flight, handle.pauses)
        self._queue_depth: QueueDepth | None = handle.queue_depth if handle.adaptive else None
        if self._control:
            self._control.follow(self._slots.resize)
        self._moves = count()

    @property
    def occupancy(self) -> Occupancy:
        """How many slots are in use, and how many requests wait."""
        return self._slots.occupancy

    @property
    def load(self) -> float:
        """The share of the slots that are in use."""
        return self._slots.load

    @property
    def has_room(self) -> bool:
        """Whether a request would get a slot without waiting."""
        return self._slots.has_room

    def take_now(self) -> bool:
        """Take a slot without waiting, and keep it until ``give``. Return False if there is no room."""
        return self._slots.take_now()

    async def take(self, rank: Rank) -> None:
        """Wait for a slot, and keep it until ``give``."""
        await self._slots.take(rank)

    def ask(self) -> int:
        """Return the number of a request that has just got its slot."""
        return self._control.ask() if self._control else 0

    def give(self) -> None:
        """Return the slot, so that requests that wait can get it."""
        self._slots.give()

    def refused(self, number: int) -> None:
        """Record that the server temporarily refused request ``number``."""
        if self._control:
            self._apply(self._control.refused(number))

    def answered(self, number: int, seconds: float, tokens: int) -> None:
        """Record that request ``number`` was answered after ``seconds``, with ``tokens`` completion tokens."""
        if self._control:
            self._apply(self._control.answered(number, seconds, tokens, not self.has_room))

    async def watch(self) -> None:
        """Read the server's queue periodically, for ever. Return immediately if the server reports no queue."""
        while self._queue_depth and self._control:
            await anyio.sleep(_POLL_SECONDS)
            if self.load:
                self._apply(self._control.waits(await self._queue_depth.waiting()))

    def _apply(self, reason: LimitReason | None) -> None:
        """Apply the new limit, if it changed for a ``reason``."""
        if reason is None or self._control is None:
            return
        limit = self._control.limit
        self._slots.resize(limit)
        log.info("limit moved", extra={"model": self.name, "limit": limit, "reason": reason})
        if self._journal.kept:
            name = limit_id(self.name, next(self._moves))
            self._journal.note(Entry(name, "ring", LimitMoved(self.name, limit, reason)))
