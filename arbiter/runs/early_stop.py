"""Stop a run early if the first problems to end have all failed for one cause, for example a server that is down."""

import re

from arbiter.protocols.records import Solution

FIRST = 10
"""The number of solutions that must fail before a run is stopped."""

_ACTOR = re.compile(r"[\w-]+(, step \d+)?: ")  # the actor that noticed the error
_DIFFERS = re.compile(r"(?<!\S)(?!https?://)\S*\d\S*")


class EarlyStop:
    """Watches the first ``FIRST`` solutions of a session to end. If not ``enabled``, it never stops the run."""

    def __init__(self, enabled: bool = False) -> None:
        self._left = FIRST if enabled else 0
        self._kind: str | None = None
        self.cause: str | None = None
        """The error of the last one of them, once all have failed for one cause."""

    def add(self, solution: Solution) -> bool:
        """Count a solution that ended. Return whether the run is to be stopped because of it."""
        if self._left == 0:
            return False
        kind = None if solution.error is None else kind_of(solution.error, solution.problem)
        if solution.finish_reason != "failed" or kind is None or self._kind not in (None, kind):
            self._left = 0
            return False
        self._kind, self._left = kind, self._left - 1
        self.cause = solution.error if self._left == 0 else None
        return self._left == 0


def kind_of(error: str, problem: str) -> str:
    """Return an error without what differs between equal causes.

    These are the actor that noticed it, the problem's id, and words that have a digit.
    """
    text = error[found.end() :] if (found := _ACTOR.match(error)) else error
    return _DIFFERS.sub("#", re.sub(rf"(?<!\w){re.escape(problem)}(?!\w)", "#", text))
