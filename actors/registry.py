"""The open problems: for each, the tasks that work on it, and the requests made for it.

Any actor can close a problem in one call, without an await. This cancels all its work in every actor, including the
requests at the models. Messages that arrive for it later are not served.
"""

from collections.abc import Callable, Iterator
from itertools import count
from types import TracebackType

import anyio

from arbiter.protocols.errors import ClosedError, ProblemError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import LookaheadStats, Model, RequestCounts, Usage

_Key = tuple[Model, str]  # the model, and the name of the target if there are several


class ProblemRegistry:
    """The open problems, shared by the actors of one ring."""

    def __init__(self) -> None:
        self._open: dict[Task, _Entry] = {}
        self._ids: set[tuple[str, int]] = set()
        self._numbers = count()
        self._after_close: list[Callable[[Task], object]] = []

    def open(self, task: Task) -> None:
        """Open a problem. Raises ``ProblemError`` if one with the same id and sample is already open."""
        if (task.id, task.sample) in self._ids:
            raise ProblemError(f"problem {task.id!r} is already being solved: give each problem a unique id")
        self._open[task] = _Entry(next(self._numbers))
        self._ids.add((task.id, task.sample))

    def close(self, task: Task) -> None:
        """Close a problem and cancel all its work. Closing it again does nothing."""
        entry = self._open.pop(task, None)
        if entry is None:
            return
        self._ids.discard((task.id, task.sample))
        for scope in tuple(entry.scopes):
            scope.cancel()
        for forget in (*entry.forget, *self._after_close):
            forget(task)

    def __contains__(self, task: Task) -> bool:
        return task in self._open

    def __len__(self) -> int:
        return len(self._open)

    def when_closed(self, task: Task, forget: Callable[[Task], object]) -> None:
        """Call ``forget(task)`` when ``task`` is closed, so that an actor can drop its state."""
        known = self._entry(task).forget
        if forget not in known:
            known.append(forget)

    def after_close(self, forget: Callable[[Task], object]) -> None:
        """Call ``forget(task)`` after each close of a problem, for an actor that waits for all problems together."""
        self._after_close.append(forget)

    def number(self, task: Task) -> int:
        """Return how many problems were opened before ``task``."""
        return self._entry(task).number

    def work(self, task: Task) -> "_Work":
        """Run the block as work on ``task``. Closing the problem ends the block early, without an error."""
        return _Work(self._entry(task).scopes)

    def request(self, task: Task, model: Model, target: str = "") -> "RequestCounter":
        """Count the block as one request to ``model``: answered, failed or cancelled.

        ``target`` is the name of the target, if there are several.
        """
        return RequestCounter(self._entry(task), (model, target))

    def request_counts(self, task: Task) -> dict[Model, RequestCounts]:
        """Return the requests for ``task`` by model. Running requests count as cancelled: closing will cancel them."""
        counts_by_model: dict[Model, RequestCounts] = {}
        for (model, _), counts in self._entry(task).request_counts():
            counts_by_model[model] = counts_by_model.get(model, RequestCounts()) + counts
        return counts_by_model

    def target_counts(self, task: Task) -> dict[str, RequestCounts]:
        """Return the requests for ``task`` to targets with names, by name."""
        targets: dict[str, RequestCounts] = {}
        for (_, target), counts in self._entry(task).request_counts():
            if target:
                targets[target] = targets.get(target, RequestCounts()) + counts
        return targets

    def add_lookahead(self, task: Task, more: LookaheadStats) -> None:
        """Add ``more`` to the drafting-ahead statistics of ``task``."""
        entry = self._entry(task)
        entry.lookahead = entry.lookahead + more

    def lookahead(self, task: Task) -> LookaheadStats:
        """Return the drafting-ahead statistics of ``task``."""
        return self._entry(task).lookahead

    def _entry(self, task: Task) -> "_Entry":
        """Raises ``ClosedError`` if the problem is closed: cancelled work may run until its next await."""
        if task not in self._open:
            raise ClosedError(f"problem {task.id!r} is closed")
        return self._open[task]


class RequestCounter:
    """Counts one request. Set ``usage`` when the request is answered."""

    __slots__ = ("_entry", "_key", "usage")

    def __init__(self, entry: "_Entry", key: "_Key") -> None:
        self._entry = entry
        self._key = key
        self.usage: Usage | None = None

    def __enter__(self) -> "RequestCounter":
        running = self._entry.running
        running[self._key] = running.get(self._key, 0) + 1
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
        self._entry.add(self._key, counts)
        self._entry.running[self._key] -= 1


class _Work:
    """A cancel scope that is registered with its problem while its block runs."""

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
    __slots__ = ("calls", "forget", "lookahead", "number", "running", "scopes")

    def __init__(self, number: int) -> None:
        self.number = number
        self.forget: list[Callable[[Task], object]] = []
        self.scopes: set[anyio.CancelScope] = set()
        self.calls: dict[_Key, RequestCounts] = {}
        self.running: dict[_Key, int] = {}
        self.lookahead = LookaheadStats()

    def add(self, key: _Key, counts: RequestCounts) -> None:
        self.calls[key] = self.calls.get(key, RequestCounts()) + counts

    def request_counts(self) -> Iterator[tuple[_Key, RequestCounts]]:
        yield from self.calls.items()
        for key, running in self.running.items():
            if running:
                yield key, RequestCounts(requests=running, cancelled=running)
