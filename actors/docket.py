"""What is going on for each open problem: the tasks that work on it, and the requests made for it.

A problem is closed in one call, from any actor and without an await: all its work, in every actor, is
cancelled then (the requests at the models with it), and a message that arrives for it later is not served.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from protocols.errors import ProblemError
from protocols.records import Model, Tally, Usage


class Request:
    """A request that is being made; set ``usage`` once it is answered."""

    usage: Usage | None = None


class Docket:
    """The open problems, shared by the actors of one ring."""

    def __init__(self) -> None:
        self._open: dict[str, _Entry] = {}

    def open(self, problem: str) -> None:
        """Raises ``ProblemError`` if a problem of this id is open already."""
        if problem in self._open:
            raise ProblemError(f"problem {problem!r} is being solved already: give each problem an id of its own")
        self._open[problem] = _Entry()

    def close(self, problem: str) -> None:
        """Cancel all work on ``problem``; closing twice is allowed."""
        entry = self._open.pop(problem, None)
        for scope in tuple(entry.scopes) if entry else ():
            scope.cancel()

    def __contains__(self, problem: str) -> bool:
        return problem in self._open

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def work(self, problem: str) -> Generator[None]:
        """Run the block as work on ``problem``: it ends early, without an error, once the problem is closed."""
        with anyio.CancelScope() as scope:
            entry = self._open[problem]
            entry.scopes.add(scope)
            try:
                yield
            finally:
                entry.scopes.discard(scope)

    @contextmanager
    def request(self, problem: str, model: Model) -> Generator[Request]:
        """Count the block as one request to ``model``: answered, failed or cancelled."""
        entry, request = self._open[problem], Request()
        entry.running[model] += 1
        try:
            yield request
        except Exception:
            entry.add(model, Tally(requests=1, failed=1))
            raise
        except BaseException:
            entry.add(model, Tally(requests=1, cancelled=1))
            raise
        else:
            entry.add(model, Tally(requests=1, usage=request.usage or Usage()))
        finally:
            entry.running[model] -= 1

    def calls(self, problem: str) -> dict[Model, Tally]:
        """Requests made for ``problem`` so far, by model; those still running as cancelled, as closing will do."""
        entry = self._open[problem]
        calls = dict(entry.calls)
        for model, running in entry.running.items():
            if running:
                calls[model] = calls.get(model, Tally()) + Tally(requests=running, cancelled=running)
        return calls


class _Entry:
    def __init__(self) -> None:
        self.scopes: set[anyio.CancelScope] = set()
        self.calls: dict[Model, Tally] = {}
        self.running: Counter[Model] = Counter()

    def add(self, model: Model, tally: Tally) -> None:
        self.calls[model] = self.calls.get(model, Tally()) + tally
