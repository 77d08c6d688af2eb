"""Assign intervals to lanes, so that overlapping intervals never share a lane."""

import math


class Lanes:
    """Assign each interval to the first lane that is free when it begins.

    Two intervals on a lane do not touch either, so that the order of events at the same time does not matter.
    """

    def __init__(self) -> None:
        self._free_after: list[float] = []

    def take(self, begin: float) -> int:
        """Return the lane for an interval that starts at ``begin``. It stays reserved until ``release``."""
        for lane, end in enumerate(self._free_after):
            if end < begin:
                self._free_after[lane] = math.inf
                return lane
        self._free_after.append(math.inf)
        return len(self._free_after) - 1

    def release(self, lane: int, end: float) -> None:
        """Free ``lane``, whose interval ends at ``end``."""
        self._free_after[lane] = end

    def __len__(self) -> int:
        return len(self._free_after)
