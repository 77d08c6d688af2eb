"""The places at a model, and who gets the next one."""

import heapq
from itertools import count

import anyio
import msgspec

Rank = tuple[int, ...]
"""Who goes first: the smaller one."""


class Occupancy(msgspec.Struct, frozen=True):
    """Of a model's places: how many are ``taken``, how many requests are ``waiting`` for one, and the ``limit``."""

    taken: int
    waiting: int
    limit: int


class PrioritySemaphore:
    """So many requests may be at a model at once. Whoever finds no place waits for one, in the order of ranks.

    Equal ranks wait in the order in which they came.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._waiting: list[tuple[Rank, int, _Turn]] = []
        self._numbers = count()

    @property
    def load(self) -> float:
        """The share of places that are taken."""
        return self._taken / self._total

    @property
    def occupancy(self) -> Occupancy:
        """How many places are taken, and how many wait for one."""
        waiting = sum(not turn.is_over for _, _, turn in self._waiting)
        return Occupancy(self._taken, waiting, self._total)

    @property
    def has_room(self) -> bool:
        """Whether a place would be had at once."""
        return self._taken < self._total

    async def take(self, rank: Rank) -> None:
        """Have a place, until ``give``."""
        if self._taken < self._total:
            self._taken += 1
            return
        turn = _Turn()
        heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
        try:
            await turn.come.wait()
        except BaseException:
            if turn.come.is_set():  # it was given the place in the moment in which it was cancelled
                self.give()
            turn.is_over = True
            raise

    def give(self) -> None:
        """Leave the place to whoever is next."""
        self._taken -= 1
        self._hand_out()

    def resize(self, total: int) -> None:
        """From now on there are so many places. Nobody loses one: until enough are given back, no more are had."""
        self._total = total
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._taken < self._total:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.is_over:
                self._taken += 1
                turn.come.set()


class _Turn:
    def __init__(self) -> None:
        self.come = anyio.Event()
        self.is_over = False
