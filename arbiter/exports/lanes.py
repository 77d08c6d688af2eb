"""Intervals side by side: those that overlap never share a lane."""

import math


class Lanes:
    """Gives each interval the first lane that is free when it begins.

    Two intervals on a lane do not even touch, so that no reader has to know which of two ends comes first.
    """

    def __init__(self) -> None:
        self._free_after: list[float] = []

    def take(self, begin: float) -> int:
        """The lane of an interval that begins now; nothing else gets it until it is released."""
        for lane, end in enumerate(self._free_after):
            if end < begin:
                self._free_after[lane] = math.inf
                return lane
        self._free_after.append(math.inf)
        return len(self._free_after) - 1

    def release(self, lane: int, end: float) -> None:
        """The interval on ``lane`` is over."""
        self._free_after[lane] = end

    def __len__(self) -> int:
        return len(self._free_after)
