"""Limit the number of open problems, and estimate when a refused client may try again."""

import math
from contextlib import AsyncExitStack

from arbiter.protocols.errors import RequestError
from arbiter.protocols.records import Solution

_SMOOTHING = 0.1  # of the mean seconds per problem, from which ``retry-after`` is computed


class Admission:
    """Admit at most ``most`` open problems: ``at_once`` in the ring, the others waiting to enter it.

    Further problems are refused with 429.
    """

    def __init__(self, most: int, at_once: int) -> None:
        self.most = most
        self.open = 0
        self._at_once = at_once
        self._seconds = 1.0

    def check(self, problems: int = 1) -> None:
        """Raise ``RequestError`` (429) if the remaining capacity is too small for ``problems`` problems."""
        if self.open + problems > self.most:
            raise RequestError(
                f"the endpoint is at capacity ({self.most} problems): try again later",
                status=429,
                code="at_capacity",
                retry_after=self._until_room(),
            )

    def enter(self, after: AsyncExitStack, problems: int = 1) -> None:
        """Reserve capacity for ``problems`` problems, and release it when ``after`` closes.

        Raises ``RequestError`` (429) if the remaining capacity is too small.
        """
        self.check(problems)
        self.open += problems
        after.callback(self._release, problems)

    def enter_rest(self, after: AsyncExitStack, answers: int) -> None:
        """Reserve capacity for all ``answers`` of a request except the first, which has it already.

        Raises ``RequestError``: 400 if the request has more answers than the endpoint may have open problems, or 429.
        """
        if answers > self.most:
            raise RequestError(f"the request has {answers} answers; at most {self.most} are allowed")
        self.enter(after, answers - 1)

    def solved(self, solution: Solution) -> None:
        """Include a solved problem in the mean seconds per problem."""
        self._seconds += _SMOOTHING * (solution.seconds - self._seconds)

    def _release(self, problems: int) -> None:
        self.open -= problems

    def _until_room(self) -> int:
        waves = self.open / max(1, self._at_once)
        return max(1, math.ceil(self._seconds * max(1.0, waves - 1)))
