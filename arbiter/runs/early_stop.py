"""Stop a run early if the first problems to end have all failed for one cause, for example a server that is down."""

import re

from arbiter.protocols.records import Solution

FIRST = 10
"""The number of problems that must fail before a run is stopped."""

_OF_THE_PROBLEM = ("ContextTooLongError:", "ConversationError:")
"""Errors of a problem, not of the run: such failures come first because they are found without a model's answer."""

_ACTOR = re.compile(r"[\w-]+(, step \d+)?: ")  # the actor that noticed the error
_DIFFERS = re.compile(r"(?<!\S)(?!https?://)\S*\d\S*")


class EarlyStop:
    """Watches the first ``FIRST`` problems of a session to end. If not ``enabled``, it never stops the run.

    Samples of a problem and points of a sweep count once. A question that a model cannot read does not count.
    """

    def __init__(self, enabled: bool = False) -> None:
        self._watching = enabled
        self._failed: set[str] = set()
        self._kind: str | None = None
        self.cause: str | None = None
        """The error of the last one of them, once all have failed for one cause."""

    def add(self, solution: Solution) -> bool:
        """Count a solution that ended. Return whether the run is to be stopped because of it."""
        error = solution.error
        if not self._watching or (error is not None and any(kind in error for kind in _OF_THE_PROBLEM)):
            return False
        kind = None if error is None else kind_of(error, solution.problem)
        if kind is None or self._kind not in (None, kind):
            self._watching = False
            return False
        self._kind = kind
        self._failed.add(solution.problem)
        if len(self._failed) < FIRST:
            return False
        self.cause, self._watching = error, False
        return True


def kind_of(error: str, problem: str) -> str:
    """Return an error without what differs between equal causes.

    These are the actor that noticed it, the problem's id, and words with digits, except addresses.
    """
    text = error[found.end() :] if (found := _ACTOR.match(error)) else error
    return _DIFFERS.sub("#", re.sub(rf"(?<!\w){re.escape(problem)}(?!\w)", "#", text))
