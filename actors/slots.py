"""The slots of a model, and which request gets the next one."""

import heapq
from itertools import count

import anyio
import msgspec

Rank = tuple[int, ...]
"""The priority of a request: smaller ranks go first."""


_GROUPS = 8  # in the limit


def group_of(limit: int) -> int:
    """Return the number of slots in a group, at a model with ``limit`` slots: an eighth, rounded down, at least 1."""
    return max(1, limit // _GROUPS)


def granted(free: int, waiting: int, group: int) -> int:
    """Return how many of the ``waiting`` requests get one of the ``free`` slots now.

    They get slots when a ``group`` of slots is free, or as many as requests wait. A group is at most as large as the
    limit. So slots are kept free only while others are in use, and the next ones that are returned complete the group.
    """
    return min(free, waiting) if free >= min(group, waiting) else 0


class Occupancy(msgspec.Struct, frozen=True):
    """The state of a model's slots: ``taken`` are in use, ``waiting`` requests wait for one, ``limit`` is the total."""

    taken: int
    waiting: int
    limit: int


class PrioritySemaphore:
    """A semaphore with ``total`` slots. Requests without a slot wait in the order of their ranks.

    Equal ranks are served in the order of arrival. If ``grouped``, slots are granted in groups while requests wait:
    a server that stops decoding in order to read then reads several prompts in one pass.
    """

    def __init__(self, total: int, grouped: bool = False) -> None:
        self._total = total
        self._grouped = grouped
        self._taken = 0
        self._waiting = 0
        self._queue: list[tuple[Rank, int, _Turn]] = []  # with those that were cancelled
        self._numbers = count()

    @property
    def load(self) -> float:
        """The share of the slots that are in use."""
        return self._taken / self._total

    @property
    def occupancy(self) -> Occupancy:
        """How many slots are in use, and how many requests wait."""
        return Occupancy(self._taken, self._waiting, self._total)

    @property
    def has_room(self) -> bool:
        """Whether a request would get a slot immediately: one is free, and no other request waits for it."""
        return self._taken < self._total and not self._waiting

    def take_now(self) -> bool:
        """Take a slot without waiting, and keep it until ``give``. Return False if there is no room."""
        if not self.has_room:
            return False
        self._taken += 1
        return True

    async def take(self, rank: Rank) -> None:
        """Wait for a slot, and keep it until ``give``."""
        if self.take_now():
            return
        turn = _Turn()
        heapq.heappush(self._queue, (rank, next(self._numbers), turn))
        self._waiting += 1  # never enough for a grant: either no slot is free, or too few for those that wait already
        try:
            await turn.granted.wait()
        except BaseException:
            if turn.granted.is_set():  # it got a slot and was cancelled before it could run
                self.give()
            else:
                turn.is_cancelled = True
                self._waiting -= 1
                self._grant()  # fewer requests wait: the slots that are free may be enough for them
            raise

    def give(self) -> None:
        """Return the slot. A request that waits gets it, or several get slots if it completes a group."""
        self._taken -= 1
        if self._waiting:
            self._grant()

    def resize(self, total: int) -> None:
        """Change the capacity. Slots in use are kept; while more are in use than ``total``, none is granted."""
        self._total = total
        self._grant()

    def _grant(self) -> None:
        group = group_of(self._total) if self._grouped else 1
        slots = granted(self._total - self._taken, self._waiting, group)
        while slots > 0:
            turn = heapq.heappop(self._queue)[2]
            if not turn.is_cancelled:
                self._taken += 1
                self._waiting -= 1
                turn.granted.set()
                slots -= 1
        if not self._waiting:
            self._queue.clear()  # only cancelled ones are left


class _Turn:
    def __init__(self) -> None:
        self.granted = anyio.Event()
        self.is_cancelled = False
