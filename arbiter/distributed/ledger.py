"""The ledger of a run: which worker has which problem, until when, and what is done.

It is a table without a clock, a file or a network of its own, so that it can be tested alone.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_EPOCH = 1 << 40
"""The number of tokens of one life of the ledger. A ledger that starts again must never repeat a token."""


class Grant(NamedTuple):
    """A task that a worker gets: its number in the run's list, and the token under which the worker has it.

    ``begun`` is True if another worker or an earlier session may have written about it.
    """

    task: int
    token: int
    begun: bool


class _Held(NamedTuple):
    task: int
    worker: str
    until: float


class Ledger:
    """Hands out the tasks ``0`` to ``tasks - 1``, in this order. Times are in seconds of any clock that only grows.

    Each task has one worker at most, which must renew it within ``lease`` seconds. ``begun`` are the tasks that earlier
    sessions began. ``epoch`` counts the ledgers of the session before this one.
    """

    def __init__(self, tasks: int, lease: float, begun: Iterable[int] = (), epoch: int = 0) -> None:
        self._lease = lease
        self._waiting = deque(range(tasks))
        self._begun = set(begun)
        self._held: dict[int, _Held] = {}
        self._token_of: dict[int, int] = {}
        self._owners: dict[int, str] = {}
        self._left = set(range(tasks))
        self._next_token = epoch * _EPOCH + 1

    @property
    def is_over(self) -> bool:
        """Whether all tasks are done."""
        return not self._left

    @property
    def has_work(self) -> bool:
        """Whether a worker would get a task now."""
        return bool(self._waiting)

    def restore(self, granted: Iterable[tuple[int, int, str]], done: Iterable[int], now: float) -> None:
        """Take over what an earlier ledger of the session granted, as task, token and worker, and what is done.

        Each of these tasks stays at the worker that got it last, for one lease from ``now`` on.
        """
        for task, token, worker in sorted(granted, key=lambda grant: grant[1]):
            self._drop(task)
            self._begun.add(task)
            self._hold(task, token, worker, now)
        for task in done:
            self._drop(task)
            self._left.discard(task)
        self._waiting = deque(task for task in self._waiting if task in self._left and task not in self._token_of)

    def claim(self, worker: str, places: int, holding: Sequence[int], now: float) -> list[Grant]:
        """Grant ``worker`` up to ``places`` tasks. ``holding`` are the tokens of those that it has.

        What the ledger granted it besides those never arrived, and is granted again.
        """
        self._expire(now)
        kept = set(holding)
        self._put_back([token for token, held in self._held.items() if held.worker == worker and token not in kept])
        grants: list[Grant] = []
        while self._waiting and len(grants) < places:
            task, token = self._waiting.popleft(), self._next_token
            self._next_token += 1
            grants.append(Grant(task, token, task in self._begun))
            self._begun.add(task)
            self._hold(task, token, worker, now)
        return grants

    def renew(self, tokens: Iterable[int], now: float) -> list[int]:
        """Extend the leases of these tokens. Return those that are stale: their tasks are another worker's, or done."""
        self._expire(now)
        stale: list[int] = []
        for token in tokens:
            held = self._held.get(token)
            if held is None:
                stale.append(token)
            else:
                self._held[token] = held._replace(until=now + self._lease)
        return stale

    def finish(self, token: int) -> bool:
        """Record that the task of ``token`` is done. Return False, and record nothing, if the token is stale."""
        held = self._held.get(token)
        if held is None:
            return False
        self._drop(held.task)
        self._left.discard(held.task)
        return True

    def owner(self, task: int) -> str | None:
        """Return the worker that has ``task``, or that finished it. None if no worker has it."""
        return self._owners.get(task)

    def release(self, worker: str) -> int:
        """Take all tasks back from a worker that has died. Return their number."""
        tokens = [token for token, held in self._held.items() if held.worker == worker]
        self._put_back(tokens)
        return len(tokens)

    def _hold(self, task: int, token: int, worker: str, now: float) -> None:
        self._held[token] = _Held(task, worker, now + self._lease)
        self._token_of[task] = token
        self._owners[task] = worker

    def _drop(self, task: int) -> None:
        token = self._token_of.pop(task, None)
        if token is not None:
            del self._held[token]

    def _expire(self, now: float) -> None:
        self._put_back([token for token, held in self._held.items() if held.until <= now])

    def _put_back(self, tokens: Sequence[int]) -> None:
        """Put the tasks of ``tokens`` before all others: they were handed out first."""
        tasks = sorted((self._held[token].task for token in tokens), reverse=True)
        for task in tasks:
            self._drop(task)
            del self._owners[task]
            self._waiting.appendleft(task)
