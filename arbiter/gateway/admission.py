"""How many problems may be open at once; what is refused is told when to come again."""

import math
from contextlib import AsyncExitStack

from arbiter.protocols.errors import RequestError
from arbiter.protocols.records import Solution

_SMOOTHING = 0.1  # of the mean seconds of problems, from which a refused client is told when to come again


class Admission:
    """At most ``most`` problems are open, ``at_once`` of them in the ring, the others waiting for room in it.

    More are refused with 429.
    """

    def __init__(self, most: int, at_once: int) -> None:
        self.most = most
        self.open = 0
        self._at_once = at_once
        self._seconds = 1.0

    def enter(self, after: AsyncExitStack, problems: int = 1) -> None:
        """Take places for that many problems, and give them back when ``after`` closes.

        Raises ``RequestError`` (429) if not that many are left.
        """
        if self.open + problems > self.most:
            raise RequestError(
                f"all {self.most} places are taken: try again later",
                status=429,
                code="at_capacity",
                retry_after=self._until_room(),
            )
        self.open += problems
        after.callback(self._leave, problems)

    def solved(self, solution: Solution) -> None:
        """Include a solved problem in the mean seconds of problems."""
        self._seconds += _SMOOTHING * (solution.seconds - self._seconds)

    def _leave(self, problems: int) -> None:
        self.open -= problems

    def _until_room(self) -> int:
        waves = self.open / max(1, self._at_once)
        return max(1, math.ceil(self._seconds * max(1.0, waves - 1)))
