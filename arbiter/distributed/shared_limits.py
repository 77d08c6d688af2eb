"""The limits of a run's servers, divided among its workers: together they make as many requests as one process would.

One controller for each server moves its limit (``arbiter.actors.controllers``). The workers only report what they see.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from arbiter.actors.controllers import LimitControl
from arbiter.protocols.events import LimitMoved, LimitReason
from arbiter.protocols.records import Record


class ServerLimit(NamedTuple):
    """The configured limit of a server, and whether a controller may lower it."""

    most: int
    adaptive: bool


class Answered(Record, frozen=True):
    """An answer that a worker got. The fields are as in ``LimitControl.answered``."""

    number: int
    seconds: float
    tokens: int
    full: bool


class LoadReport(Record, frozen=True):
    """What a worker saw of a server since its last report.

    ``taken`` requests are in flight, and ``waiting`` ones wait for a slot of the worker. ``refused`` has the numbers of
    requests that the server refused, and ``queue`` the length of the server's own queue, None if it is not known.
    """

    taken: int = 0
    waiting: int = 0
    refused: tuple[int, ...] = ()
    answered: tuple[Answered, ...] = ()
    queue: int | None = None


class Share(Record, frozen=True):
    """The number of requests that a worker may have in flight, and the number of requests that it makes from now on."""

    limit: int
    number: int = 0


def divided(total: int, wanted: Sequence[int]) -> list[int]:
    """Divide ``total`` among workers that want this much each: no worker gets more while another one lacks it.

    What no worker wants is divided as well. The sum is ``total``.
    """
    shares = [0] * len(wanted)
    open_ones = list(range(len(wanted)))
    left = total
    while open_ones and left >= len(open_ones):
        level = left // len(open_ones)
        sated = [one for one in open_ones if wanted[one] <= level]
        if not sated:
            break
        for one in sated:
            shares[one] = wanted[one]
            left -= wanted[one]
        open_ones = [one for one in open_ones if one not in sated]
    receivers = open_ones or list(range(len(wanted)))
    for place, one in enumerate(receivers):
        shares[one] += left // len(receivers) + (place < left % len(receivers))
    return shares


class _Server:
    """One server: its controller, and what each worker may do and does."""

    def __init__(self, limit: ServerLimit, workers: Sequence[str]) -> None:
        self._control = LimitControl(limit.most) if limit.adaptive else None
        self._most = limit.most
        self._granted = dict(zip(workers, divided(limit.most, [limit.most] * len(workers)), strict=True))
        self._loads: dict[str, LoadReport] = {}

    @property
    def total(self) -> int:
        """The requests that may be in flight. It is never below the number of workers, so that each may make one."""
        return max(len(self._granted), self._control.limit if self._control else self._most)

    def observe(self, worker: str, load: LoadReport) -> LimitReason | None:
        self._loads[worker] = load
        if self._control is None:
            return None
        reason = self._control.waits(load.queue)
        for number in load.refused:
            reason = self._control.refused(number) or reason
        for answer in load.answered:
            reason = self._control.answered(answer.number, answer.seconds, answer.tokens, answer.full) or reason
        return reason

    def share(self, worker: str) -> Share:
        """Return what ``worker`` may do now. A larger share waits until others have returned what they lose."""
        names = list(self._granted)
        loads = [self._loads.get(name, LoadReport()) for name in names]
        wanted = [load.taken + load.waiting for load in loads]
        fair = dict(zip(names, divided(self.total - len(names), wanted), strict=True))
        others = sum(self._in_use(name) for name in names if name != worker)
        self._granted[worker] = max(1, min(fair[worker] + 1, self.total - others))
        return Share(self._granted[worker], self._control.ask() if self._control else 0)

    def forget(self, worker: str) -> None:
        """Take back what a worker that has died could use."""
        self._loads.pop(worker, None)
        self._granted[worker] = 1

    def _in_use(self, name: str) -> int:
        return max(self._granted[name], self._loads.get(name, LoadReport()).taken)


class SharedLimits:
    """Divides the ``limits``, by the model's key after ``models.``, among ``workers``.

    Each worker may have at least one request in flight at each server.
    """

    def __init__(self, limits: Mapping[str, ServerLimit], workers: Sequence[str]) -> None:
        self._servers = {name: _Server(limit, workers) for name, limit in limits.items()}

    def report(self, worker: str, loads: Mapping[str, LoadReport]) -> tuple[dict[str, Share], list[LimitMoved]]:
        """Take a worker's report. Return its shares by model, and the limits that moved."""
        moved: list[LimitMoved] = []
        for name, load in loads.items():
            server = self._servers[name]
            reason = server.observe(worker, load)
            if reason is not None:
                moved.append(LimitMoved(name, server.total, reason))
        return {name: server.share(worker) for name, server in self._servers.items()}, moved

    def forget(self, worker: str) -> None:
        """Take back what a worker that has died could use."""
        for server in self._servers.values():
            server.forget(worker)


class LimitShare:
    """A worker's share of a server's limit. It collects what the controller of the run must know.

    The ring uses it as the controller of the model (``ModelHandle.control``).
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._refused: list[int] = []
        self._answered: list[Answered] = []
        self._queue: int | None = None
        self._resize: Callable[[int], None] | None = None

    @property
    def limit(self) -> int:
        """The number of requests that may be in flight."""
        return self._share.limit

    def follow(self, resize: Callable[[int], None]) -> None:
        """Call ``resize`` with each new limit."""
        self._resize = resize

    def ask(self) -> int:
        """Return the number of a request that has just got its slot."""
        return self._share.number

    def refused(self, number: int) -> LimitReason | None:
        """Record that the server temporarily refused request ``number``. The limit does not move here."""
        self._refused.append(number)
        return None

    def answered(self, number: int, seconds: float, tokens: int, full: bool) -> LimitReason | None:
        """Record an answer, as ``LimitControl.answered`` does. The limit does not move here."""
        self._answered.append(Answered(number, seconds, tokens, full))
        return None

    def waits(self, requests: int | None) -> LimitReason | None:
        """Record the length of the server's queue. The limit does not move here."""
        self._queue = requests
        return None

    def report(self, taken: int, waiting: int) -> LoadReport:
        """Return what was recorded since the last call, for a model with these requests."""
        load = LoadReport(taken, waiting, tuple(self._refused), tuple(self._answered), self._queue)
        self._refused.clear()
        self._answered.clear()
        return load

    def update(self, share: Share) -> None:
        """Apply a new share."""
        changed = share.limit != self._share.limit
        self._share = share
        if changed and self._resize is not None:
            self._resize(share.limit)
