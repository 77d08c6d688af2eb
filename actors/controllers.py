"""Controllers: how far to draft ahead, whether to verify drafts, how many requests to make, which threshold to use.

A controller only has numbers; it uses no clock and makes no request. Controllers change the cost of transcripts, not
the transcripts. The exception is ``BudgetControl``, which moves the threshold of decisions; it is only used if a budget
is configured.
"""

from collections.abc import Callable
from typing import Literal

from arbiter.protocols.events import LimitReason

Verify = Literal["auto", "on", "off"]
"""Whether the target reads rejected drafts: if that has saved time so far (``auto``), always, or never."""

_MAX_DEPTH = 3  # steps: drafts further ahead are rarely used and hide no more time
_MIN_CHANCE = 0.3  # of being used: below it, even an idle server starts no draft ahead
_ACCEPTANCE_MEMORY = 1 / 64  # the weight of one step
_TIME_MEMORY = 1 / 32  # the weight of one escalation
_MIN_OBSERVED = 8  # escalations of each kind before the two are compared
_RETRY_EVERY = 16  # escalations: every 16th one uses the slower kind


_MIN_LIMIT = 1 / 8  # of the configured limit
_DECREASE = 0.7  # factor of the limit, when there are too many requests
_LONG_QUEUE = 1 / 4  # of the limit
_SLOW = 4.0  # times the shortest time per token
_PACE_MEMORY = 1 / 16  # the weight of one answer
_FORGETTING = 1.001  # factor of the shortest time per answer: loads and contexts change


_BUDGET_STEP = 0.05  # of a threshold in [0, 1]: 20 escalations move it from one end to the other


def lookahead_depth(acceptance: float, load: float) -> int:
    """Return how many steps to draft ahead, 0 to 3.

    A draft ``depth`` steps ahead is used if all steps before it are accepted. Its chance is ``acceptance ** depth``,
    where ``acceptance`` is the acceptance rate. It is started if this chance is above ``load``, the share of the
    model's slots that are in use: drafting ahead must not take capacity from a busy model.
    """
    min_chance = max(load, _MIN_CHANCE)
    return next((depth for depth in range(_MAX_DEPTH, 0, -1) if acceptance**depth > min_chance), 0)


class LookaheadControl:
    """Sets how many steps to draft ahead: ``pinned``, or from the acceptance rate and the load."""

    def __init__(self, pinned: int | None) -> None:
        self._pinned = pinned
        self.acceptance = 0.5  # until steps are observed

    def observe(self, accepted: bool) -> None:
        """Record a decision."""
        self.acceptance += _ACCEPTANCE_MEMORY * (accepted - self.acceptance)

    def depth(self, load: float) -> int:
        """Return how many steps to draft ahead; ``load`` is in [0, 1]."""
        return lookahead_depth(self.acceptance, load) if self._pinned is None else self._pinned


class VerifyControl:
    """Decides for each escalation whether the target reads the draft.

    ``auto`` alternates at first. Then it uses the kind of escalation that took less time per token so far. Now and then
    it uses the other kind, because loads change.
    """

    def __init__(self, mode: Verify) -> None:
        self._mode: Verify = mode
        self._escalations = 0
        self._observed = {True: 0, False: 0}
        self._seconds = {True: 0.0, False: 0.0}
        self._tokens = {True: 0.0, False: 0.0}

    def shows(self) -> bool:
        """Return whether the target reads the draft at the next escalation."""
        if self._mode != "auto":
            return self._mode == "on"
        self._escalations += 1
        if min(self._observed.values()) < _MIN_OBSERVED:
            return self._escalations % 2 == 1
        return self._is_faster() != (self._escalations % _RETRY_EVERY == 0)

    def observe(self, shown: bool, tokens: int, seconds: float) -> None:
        """Record an escalation with ``tokens`` completion tokens. ``shown`` is True if the target read the draft."""
        self._observed[shown] += 1
        self._seconds[shown] += _TIME_MEMORY * (seconds - self._seconds[shown])
        self._tokens[shown] += _TIME_MEMORY * (tokens - self._tokens[shown])

    def _is_faster(self) -> bool:
        """Whether escalations that show the draft took less time per token."""
        return self._seconds[True] * self._tokens[False] < self._seconds[False] * self._tokens[True]


class BudgetControl:
    """Moves a threshold on scores in [0, 1] so that a share ``budget`` of the steps is escalated, whatever the scores.

    With ``above``, a step is escalated if its score is above the threshold, else if its score is below it. An
    escalation moves the threshold by ``_BUDGET_STEP * (1 - budget)``, towards fewer escalations. A kept draft moves it
    by ``_BUDGET_STEP * budget``, towards more. This tracks a quantile with a constant step, so it follows a drift of
    the scores. The threshold turns back as soon as it leaves [0, 1]. Therefore, after n steps of any scores, the number
    of escalations differs from ``budget`` · n by at most ``slack``.
    """

    slack = 1 / _BUDGET_STEP + 2
    """The bound, in escalations. The error of the count is the distance that the threshold moved, in units of
    ``_BUDGET_STEP``. The threshold stays within one such unit of [0, 1].
    """

    def __init__(self, budget: float, threshold: float, above: bool) -> None:
        self._budget = budget
        self._above = above
        self.threshold = threshold

    def observe(self, score: float) -> float:
        """Record that a step of this score was decided with ``threshold``. Return the threshold of the next step."""
        escalated = score > self.threshold if self._above else score < self.threshold
        move = _BUDGET_STEP * (escalated - self._budget)
        self.threshold += move if self._above else -move
        return self.threshold


class LimitControl:
    """Sets how many requests may be in flight at a server: additive increase, multiplicative decrease.

    The limit starts at ``most``. It is never above ``most``, and never below an eighth of ``most`` or 1. It grows by
    one per round of requests while all slots are in use and the server keeps up. It is multiplied by 0.7 in these
    cases:

    - ``refused``: the server temporarily refuses a request (429, 503).
    - ``queue``: more than a quarter of the limit waits in the server's own queue, where older problems cannot go first.
    - ``slow``: the server does not report its queue, and with all slots in use a token takes more than four times the
      shortest time so far.

    Requests that were made before a decrease do not cause another one, so requests that fail together count once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._requests = 0
        self._last_decrease = 0
        self._waiting: int | None = None
        self._pace: float | None = None
        self._best = 0.0

    @property
    def limit(self) -> int:
        """The number of requests that may be in flight."""
        return int(self._limit)

    def follow(self, resize: Callable[[int], None]) -> None:
        """Do nothing: the limit changes only within calls that return the reason."""

    def ask(self) -> int:
        """Record a new request. Return its number."""
        self._requests += 1
        return self._requests

    def refused(self, number: int) -> LimitReason | None:
        """Record that the server temporarily refused request ``number``. Return the reason if the limit changed."""
        return self._decrease("refused") if number > self._last_decrease else None

    def answered(self, number: int, seconds: float, tokens: int, full: bool) -> LimitReason | None:
        """Record that request ``number`` was answered in ``seconds``. Return the reason if the limit changed.

        ``tokens`` is the number of completion tokens. ``full`` is True if no slot was free.
        """
        if not full:
            return None
        pace = seconds / max(1, tokens)
        self._pace = pace if self._pace is None else self._pace + _PACE_MEMORY * (pace - self._pace)
        self._best = min(self._best * _FORGETTING, self._pace) or self._pace
        if self._waiting is None and self._pace > _SLOW * self._best and number > self._last_decrease:
            return self._decrease("slow")
        if self._waiting or self._limit >= self._most:
            return None
        before = self.limit
        self._limit = min(float(self._most), self._limit + 1 / self._limit)
        return "room" if self.limit > before else None

    def waits(self, requests: int | None) -> LimitReason | None:
        """Record the length of the server's queue, None if unknown. Return the reason if the limit changed."""
        self._waiting = requests
        too_many = requests is not None and requests > max(1.0, _LONG_QUEUE * self._limit)
        return self._decrease("queue") if too_many else None

    def _decrease(self, reason: LimitReason) -> LimitReason | None:
        before, self._last_decrease = self.limit, self._requests
        self._limit = max(1.0, _MIN_LIMIT * self._most, _DECREASE * self._limit)
        return reason if self.limit < before else None
