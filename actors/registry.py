"""What is going on for each open problem: the tasks that work on it, and the requests made for it.

A problem is closed in one call, from any actor and without an await: all its work, in every actor, is
cancelled then (the requests at the models with it), and a message that arrives for it later is not served.
"""

from collections.abc import Callable, Iterator
from itertools import count
from types import TracebackType

import anyio

from arbiter.protocols.errors import ClosedError, ProblemError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import LookaheadStats, Model, RequestCounts, Usage

_Asked = tuple[Model, str]  # and its name, of several targets


class ProblemRegistry:
    """The open problems, shared by the actors of one ring."""

    def __init__(self) -> None:
        self._open: dict[Task, _Entry] = {}
        self._ids: set[tuple[str, int]] = set()
        self._numbers = count()

    def open(self, task: Task) -> None:
        """Raises ``ProblemError`` if this sample of a problem of this id is open already."""
        if (task.id, task.sample) in self._ids:
            raise ProblemError(f"problem {task.id!r} is being solved already: give each problem an id of its own")
        self._open[task] = _Entry(next(self._numbers))
        self._ids.add((task.id, task.sample))

    def close(self, task: Task) -> None:
        """Cancel all work on ``task``; closing twice is allowed."""
        entry = self._open.pop(task, None)
        if entry is None:
            return
        self._ids.discard((task.id, task.sample))
        for scope in tuple(entry.scopes):
            scope.cancel()
        for forget in entry.forget:
            forget(task)

    def __contains__(self, task: Task) -> bool:
        return task in self._open

    def __len__(self) -> int:
        return len(self._open)

    def when_closed(self, task: Task, forget: Callable[[Task], object]) -> None:
        """Call ``forget(task)`` when ``task`` is closed: for what an actor knows of it."""
        known = self._entry(task).forget
        if forget not in known:
            known.append(forget)

    def number(self, task: Task) -> int:
        """How many problems were opened before ``task``."""
        return self._entry(task).number

    def work(self, task: Task) -> "_Work":
        """Run the block as work on ``task``: it ends early, without an error, once the problem is closed."""
        return _Work(self._entry(task).scopes)

    def request(self, task: Task, model: Model, target: str = "") -> "RequestCounter":
        """Count the block as one request to ``model``: answered, failed or cancelled.

        ``target`` is its name, where there are several of them.
        """
        return RequestCounter(self._entry(task), (model, target))

    def request_counts(self, task: Task) -> dict[Model, RequestCounts]:
        """Requests made for ``task`` so far, by model; those still running as cancelled, as closing will do."""
        calls: dict[Model, RequestCounts] = {}
        for (model, _), counts in self._entry(task).request_counts():
            calls[model] = calls.get(model, RequestCounts()) + counts
        return calls

    def target_counts(self, task: Task) -> dict[str, RequestCounts]:
        """Of ``calls`` those to targets that have names, by these."""
        targets: dict[str, RequestCounts] = {}
        for (_, target), counts in self._entry(task).request_counts():
            if target:
                targets[target] = targets.get(target, RequestCounts()) + counts
        return targets

    def add_lookahead(self, task: Task, more: LookaheadStats) -> None:
        """Add to what was drafted ahead for ``task``."""
        entry = self._entry(task)
        entry.predrafts = entry.predrafts + more

    def lookahead(self, task: Task) -> LookaheadStats:
        """What was drafted ahead for ``task`` so far."""
        return self._entry(task).predrafts

    def _entry(self, task: Task) -> "_Entry":
        """Raises ``ClosedError`` if the problem was closed: its work is cancelled, and may not have felt it yet."""
        if task not in self._open:
            raise ClosedError(f"problem {task.id!r} is closed")
        return self._open[task]


class RequestCounter:
    """A request that is being made; set ``usage`` once it is answered."""

    __slots__ = ("_asked", "_entry", "usage")

    def __init__(self, entry: "_Entry", asked: "_Asked") -> None:
        self._entry = entry
        self._asked = asked
        self.usage: Usage | None = None

    def __enter__(self) -> "RequestCounter":
        running = self._entry.running
        running[self._asked] = running.get(self._asked, 0) + 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            counts = RequestCounts(requests=1, usage=self.usage or Usage())
        elif issubclass(kind, Exception):
            counts = RequestCounts(requests=1, failed=1)
        else:
            counts = RequestCounts(requests=1, cancelled=1)
        self._entry.add(self._asked, counts)
        self._entry.running[self._asked] -= 1


class _Work:
    """A cancel scope that is among those of its problem while its block runs."""

    __slots__ = ("_scope", "_scopes")

    def __init__(self, scopes: set[anyio.CancelScope]) -> None:
        self._scope = anyio.CancelScope()
        self._scopes = scopes

    def __enter__(self) -> None:
        self._scopes.add(self._scope)
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._scopes.discard(self._scope)
        return bool(self._scope.__exit__(kind, error, trace))


class _Entry:
    __slots__ = ("calls", "forget", "number", "predrafts", "running", "scopes")

    def __init__(self, number: int) -> None:
        self.number = number
        self.forget: list[Callable[[Task], object]] = []
        self.scopes: set[anyio.CancelScope] = set()
        self.calls: dict[_Asked, RequestCounts] = {}
        self.running: dict[_Asked, int] = {}
        self.predrafts = LookaheadStats()

    def add(self, asked: _Asked, counts: RequestCounts) -> None:
        self.calls[asked] = self.calls.get(asked, RequestCounts()) + counts

    def request_counts(self) -> Iterator[tuple[_Asked, RequestCounts]]:
        yield from self.calls.items()
        for asked, running in self.running.items():
            if running:
                yield asked, RequestCounts(requests=running, cancelled=running)
