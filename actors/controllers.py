"""Pure: when it pays to draft ahead, and to show the target a rejected draft; how many requests a server bears; where a
threshold has to be for a budget.

A controller holds numbers, and no clock or client. It changes no transcript, only what that costs and when it is there;
but for ``BudgetControl``, which moves the very threshold that decides, and is off unless it is asked for.
"""

from typing import Literal

from arbiter.protocols.events import LimitReason

Verify = Literal["auto", "on", "off"]
"""Whether the target is shown rejected drafts: where it has paid so far (``auto``), always, or never."""

_MOST = 3  # steps: beyond, what is drafted ahead is rarely used and hides nothing that is left
_LEAST_CHANCE = 0.3  # of being used, below which a pre-draft is not begun even by an idle server
_ACCEPTANCE_MEMORY = 1 / 64  # the weight of one step
_TIME_MEMORY = 1 / 32  # the weight of one escalation
_FIRST = 8  # escalations of each kind before the two are compared
_LOOK_AGAIN = 16  # every so many escalations the other kind has its turn


_FEWEST = 1 / 8  # of the places that are configured
_LESS = 0.7  # of the places, once there are too many
_LONG_QUEUE = 1 / 4  # of the places
_SLOW = 4.0  # times the least time a token
_PACE_MEMORY = 1 / 16  # the weight of one answer
_FORGETTING = 1.001  # the least time grows with each answer: loads change, and contexts


_BUDGET_STEP = 0.05  # of a threshold on scores in [0, 1]: 20 escalations move it from end to end


def lookahead_depth(acceptance: float, load: float) -> int:
    """How many steps to draft ahead.

    A pre-draft ``depth`` steps ahead is used if as many steps are accepted, with a chance of ``acceptance ** depth``.
    It is begun if that chance is above the model's ``load``, the share of its places that are taken: an idle model has
    nothing better to do, and a full one has.
    """
    least = max(load, _LEAST_CHANCE)
    return next((depth for depth in range(_MOST, 0, -1) if acceptance**depth > least), 0)


class LookaheadControl:
    """Sets the depth from the acceptance rate and the load, or has it ``pinned``."""

    def __init__(self, pinned: int | None) -> None:
        self._pinned = pinned
        self.acceptance = 0.5  # nothing is known yet

    def observe(self, accepted: bool) -> None:
        """A step was decided."""
        self.acceptance += _ACCEPTANCE_MEMORY * (accepted - self.acceptance)

    def depth(self, load: float) -> int:
        return lookahead_depth(self.acceptance, load) if self._pinned is None else self._pinned


class VerifyControl:
    """Says for each escalation whether to show the target the draft.

    In ``auto`` both ways have turns at first; then the one whose tokens took less time so far, and now and then the
    other, since loads change.
    """

    def __init__(self, mode: Verify) -> None:
        self._mode: Verify = mode
        self._turns = 0
        self._seen = {True: 0, False: 0}
        self._seconds = {True: 0.0, False: 0.0}
        self._tokens = {True: 0.0, False: 0.0}

    def shows(self) -> bool:
        """Whether the next escalation shows the draft."""
        if self._mode != "auto":
            return self._mode == "on"
        self._turns += 1
        if min(self._seen.values()) < _FIRST:
            return self._turns % 2 == 1
        return self._pays() != (self._turns % _LOOK_AGAIN == 0)

    def observe(self, shown: bool, tokens: int, seconds: float) -> None:
        """An escalated step of so many ``tokens`` was there after ``seconds``."""
        self._seen[shown] += 1
        self._seconds[shown] += _TIME_MEMORY * (seconds - self._seconds[shown])
        self._tokens[shown] += _TIME_MEMORY * (tokens - self._tokens[shown])

    def _pays(self) -> bool:
        return self._seconds[True] * self._tokens[False] < self._seconds[False] * self._tokens[True]


class BudgetControl:
    """Moves a threshold on scores in [0, 1] so that a share ``budget`` of the steps is escalated, whatever the scores.

    A step is escalated if its score is above the threshold, or, unless ``above``, below it. Each escalation moves the
    threshold a step away from more of them, each kept draft back by as much less as the budget allows more keeping
    (tracking of a quantile with a constant step, so that it follows a drift). Since the threshold turns back as soon as
    it leaves [0, 1], after n steps of any scores the escalations are within ``slack`` of ``budget`` · n.
    """

    slack = 1 / _BUDGET_STEP + 2
    """Steps. (The threshold stays within one step of [0, 1], and its way is what the count is off, in steps.)"""

    def __init__(self, budget: float, threshold: float, above: bool) -> None:
        self._budget = budget
        self._above = above
        self.threshold = threshold

    def observe(self, score: float) -> float:
        """A step of this score was decided by ``threshold``; the threshold for the next one."""
        escalated = score > self.threshold if self._above else score < self.threshold
        move = _BUDGET_STEP * (escalated - self._budget)
        self.threshold += move if self._above else -move
        return self.threshold


class LimitControl:
    """How many requests may be at a server at once: one more with each round while all goes well, and a share of them
    when it does not (additive increase, multiplicative decrease). The limit stays within an eighth of ``most``, at
    least 1, and ``most``, where it begins.

    Too many are there when the server refuses one for now (429, 503), when it lets more than a quarter of the limit
    wait in its own queue, where nobody can put an older problem first, or, where it does not tell that, when a token
    takes four times as long as it took at best with the limit used up. What was asked before a decrease says nothing
    more about what came of it: requests that fail together count once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._asked = 0
        self._lessened = 0
        self._waiting: int | None = None
        self._pace: float | None = None
        self._best = 0.0

    @property
    def limit(self) -> int:
        return int(self._limit)

    def ask(self) -> int:
        """A request is made; its number."""
        self._asked += 1
        return self._asked

    def refused(self, number: int) -> LimitReason | None:
        """The server refused the request ``number`` for now. The reason, if the limit moved."""
        return self._lessen("refused") if number > self._lessened else None

    def answered(self, number: int, seconds: float, tokens: int, full: bool) -> LimitReason | None:
        """The request was answered, with so many ``tokens`` written; ``full``: no more could have been asked then."""
        if not full:
            return None
        pace = seconds / max(1, tokens)
        self._pace = pace if self._pace is None else self._pace + _PACE_MEMORY * (pace - self._pace)
        self._best = min(self._best * _FORGETTING, self._pace) or self._pace
        if self._waiting is None and self._pace > _SLOW * self._best and number > self._lessened:
            return self._lessen("slow")
        if self._waiting or self._limit >= self._most:
            return None
        before = self.limit
        self._limit = min(float(self._most), self._limit + 1 / self._limit)
        return "room" if self.limit > before else None

    def waits(self, requests: int | None) -> LimitReason | None:
        """So many requests wait in the server's queue; None if it does not tell."""
        self._waiting = requests
        too_many = requests is not None and requests > max(1.0, _LONG_QUEUE * self._limit)
        return self._lessen("queue") if too_many else None

    def _lessen(self, reason: LimitReason) -> LimitReason | None:
        before, self._lessened = self.limit, self._asked
        self._limit = max(1.0, _FEWEST * self._most, _LESS * self._limit)
        return reason if self.limit < before else None
