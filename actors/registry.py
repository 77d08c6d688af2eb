"""The open problems: for each, the tasks that work on it, and the requests made for it.

Any actor can close a problem in one call, without an await. This cancels all its work in every actor, including the
requests at the models. Messages that arrive for it later are not served.
"""

from collections.abc import Awaitable, Callable
from itertools import count
from types import TracebackType
from typing import Any

import anyio

from arbiter.actors.step_pieces import Listen
from arbiter.protocols.errors import ClosedError, ProblemError
from arbiter.protocols.messages import Context, Task
from arbiter.protocols.records import LookaheadStats, Model, RequestCounts, Usage
from arbiter.protocols.transcript_digest import TranscriptDigest

_Key = tuple[Model, str]  # the model, and the name of the target if there are several
_Delivery = tuple[Callable[[Any], Awaitable[None]], Any]  # what serves a message, and the message

_NO_LOOKAHEAD = LookaheadStats()


class ProblemRegistry:
    """The open problems, shared by the actors of one ring.

    ``deciding`` is the number of those whose policies decide, so that their steps may be escalated.
    """

    def __init__(self) -> None:
        self._open: dict[Task, OpenProblem] = {}
        self._samples: dict[str, set[int]] = {}  # of the open problems, by their ids
        self.deciding = 0
        self._numbers = count()
        self._after_close: list[Callable[[Task], object]] = []
        self._after_last: list[Callable[[str], object]] = []

    def open(self, task: Task, listen: Listen | None = None) -> None:
        """Open a problem. ``listen`` takes the pieces of its steps, if they are wanted.

        Raises ``ProblemError`` if one with the same id and sample is already open.
        """
        if task.sample in self._samples.get(task.id, ()):
            raise ProblemError(f"problem {task.id!r} is already being solved: give each problem a unique id")
        self._open[task] = OpenProblem(next(self._numbers), listen)
        self._samples.setdefault(task.id, set()).add(task.sample)
        self.deciding += task.policy.decides

    def close(self, task: Task) -> None:
        """Close a problem and cancel all its work. Closing it again does nothing."""
        entry = self._open.pop(task, None)
        if entry is None:
            return
        samples = self._samples[task.id]
        samples.discard(task.sample)
        self.deciding -= task.policy.decides
        entry.outbox.clear()
        for scope in tuple(entry.scopes):
            scope.cancel()
        for forget in (*entry.forget, *self._after_close):
            forget(task)
        if not samples:
            del self._samples[task.id]
            for release in self._after_last:
                release(task.id)

    def __contains__(self, task: Task) -> bool:
        return task in self._open

    def when_closed(self, task: Task, forget: Callable[[Task], object]) -> None:
        """Call ``forget(task)`` when ``task`` is closed, so that an actor can drop its state."""
        known = self._entry(task).forget
        if forget not in known:
            known.append(forget)

    def after_close(self, forget: Callable[[Task], object]) -> None:
        """Call ``forget(task)`` after each close of a problem, for an actor that waits for all problems together."""
        self._after_close.append(forget)

    def after_last(self, release: Callable[[str], object]) -> None:
        """Call ``release`` with a problem's id after each close of its last open sample. It must not block or raise."""
        self._after_last.append(release)

    def find(self, task: Task) -> "OpenProblem | None":
        """Return an open problem; None if it is closed."""
        return self._open.get(task)

    def digest(self, context: Context) -> str:
        """Return ``context.digest``. For an open problem each step is read once."""
        problem = self._open.get(context.task)
        if problem is None:
            return context.digest
        if problem.digest is None:
            problem.digest = TranscriptDigest()
        return problem.digest.of(context.transcript)

    def number(self, task: Task) -> int:
        """Return how many problems were opened before ``task``."""
        return self._entry(task).number

    def listener(self, task: Task) -> Listen | None:
        """Return what takes the pieces of the steps of ``task``; None if they are not wanted."""
        return self._entry(task).listen

    def work(self, task: Task) -> "Work":
        """Run the block as work on ``task``. Closing the problem ends the block early, without an error."""
        return Work(self._entry(task).scopes)

    def request(self, task: Task, model: Model, target: str = "") -> "RequestCounter":
        """Count the block as one request to ``model``: answered, failed or cancelled.

        ``target`` is the name of the target, if there are several.
        """
        return RequestCounter(self._entry(task).counts(model, target))

    def request_counts(self, task: Task) -> dict[Model, RequestCounts]:
        """Return the requests for ``task`` by model. Running requests count as cancelled: closing will cancel them."""
        counts_by_model: dict[Model, RequestCounts] = {}
        for (model, _), counts in self._entry(task).calls.items():
            counts_by_model[model] = counts_by_model.get(model, RequestCounts()) + counts.total
        return counts_by_model

    def target_counts(self, task: Task) -> dict[str, RequestCounts]:
        """Return the requests for ``task`` to targets with names, by name."""
        targets: dict[str, RequestCounts] = {}
        for (_, target), counts in self._entry(task).calls.items():
            if target:
                targets[target] = targets.get(target, RequestCounts()) + counts.total
        return targets

    def add_lookahead(self, task: Task, more: LookaheadStats) -> None:
        """Add ``more`` to the drafting-ahead statistics of ``task``."""
        entry = self._entry(task)
        entry.lookahead = entry.lookahead + more

    def lookahead(self, task: Task) -> LookaheadStats:
        """Return the drafting-ahead statistics of ``task``."""
        return self._entry(task).lookahead

    def _entry(self, task: Task) -> "OpenProblem":
        """Raises ``ClosedError`` if the problem is closed: cancelled work may run until its next await."""
        problem = self._open.get(task)
        if problem is None:
            raise ClosedError(f"problem {task.id!r} is closed")
        return problem


class RequestCounter:
    """Counts one request. Set ``usage`` when the request is answered."""

    __slots__ = ("_counts", "usage")

    def __init__(self, counts: "_Counts") -> None:
        self._counts = counts
        self.usage: Usage | None = None

    def __enter__(self) -> "RequestCounter":
        self._counts.running += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        counts = self._counts
        counts.running -= 1
        counts.ended += 1
        if kind is None:
            if (usage := self.usage) is not None:
                counts.prompt_tokens += usage.prompt_tokens
                counts.completion_tokens += usage.completion_tokens
                counts.cached_tokens += usage.cached_tokens
        elif issubclass(kind, Exception):
            counts.failed += 1
        else:
            counts.cancelled += 1


class _Counts:
    """The requests of one problem to one model. It is changed for each request, which new records would slow down."""

    __slots__ = ("cached_tokens", "cancelled", "completion_tokens", "ended", "failed", "prompt_tokens", "running")

    def __init__(self) -> None:
        self.running = self.ended = self.failed = self.cancelled = 0
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0

    @property
    def total(self) -> RequestCounts:
        """All requests. Running ones count as cancelled."""
        usage = Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)
        return RequestCounts(self.ended + self.running, self.failed, self.cancelled + self.running, usage)


class Work:
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


class OpenProblem:
    """An open problem: its work, the messages that wait to be served (``outbox``), and its requests."""

    __slots__ = ("calls", "digest", "forget", "listen", "lookahead", "number", "outbox", "scopes")

    def __init__(self, number: int, listen: Listen | None) -> None:
        self.number = number
        self.listen = listen
        self.forget: list[Callable[[Task], object]] = []
        self.scopes: set[anyio.CancelScope] = set()
        self.outbox: list[_Delivery] = []
        self.calls: dict[_Key, _Counts] = {}
        self.lookahead = _NO_LOOKAHEAD
        self.digest: TranscriptDigest | None = None

    def counts(self, model: Model, target: str) -> _Counts:
        counts = self.calls.get((model, target))
        if counts is None:
            counts = self.calls[model, target] = _Counts()
        return counts
