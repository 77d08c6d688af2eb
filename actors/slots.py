"""The slots of a model, and which request gets the next one."""

import heapq
from itertools import count

import anyio
import msgspec

Rank = tuple[int, ...]
"""The priority of a request: smaller ranks go first."""


class Occupancy(msgspec.Struct, frozen=True):
    """The state of a model's slots: ``taken`` are in use, ``waiting`` requests wait for one, ``limit`` is the total."""

    taken: int
    waiting: int
    limit: int


class PrioritySemaphore:
    """A semaphore with ``total`` slots. Requests without a slot wait in the order of their ranks.

    Equal ranks are served in the order of arrival.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._waiting: list[tuple[Rank, int, _Turn]] = []
        self._numbers = count()

    @property
    def load(self) -> float:
        """The share of the slots that are in use."""
        return self._taken / self._total

    @property
    def occupancy(self) -> Occupancy:
        """How many slots are in use, and how many requests wait."""
        waiting = sum(not turn.is_cancelled for _, _, turn in self._waiting)
        return Occupancy(self._taken, waiting, self._total)

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        return self._taken < self._total

    def take_now(self) -> bool:
        """Take a free slot, and keep it until ``give``. Return False if none is free."""
        if self._taken < self._total:  # then no request waits: a slot that is given goes to the next one at once
            self._taken += 1
            return True
        return False

    async def take(self, rank: Rank) -> None:
        """Wait for a slot, and keep it until ``give``."""
        if self.take_now():
            return
        turn = _Turn()
        heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
        try:
            await turn.granted.wait()
        except BaseException:
            if turn.granted.is_set():  # it got a slot and was cancelled before it could run
                self.give()
            turn.is_cancelled = True
            raise

    def give(self) -> None:
        """Return the slot; the next request gets it."""
        self._taken -= 1
        if self._waiting:
            self._grant()

    def resize(self, total: int) -> None:
        """Change the capacity. Slots in use are kept; while more are in use than ``total``, none is granted."""
        self._total = total
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._taken < self._total:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.is_cancelled:
                self._taken += 1
                turn.granted.set()


class _Turn:
    def __init__(self) -> None:
        self.granted = anyio.Event()
        self.is_cancelled = False
