"""Escalations gather: a target reads and decodes several together, instead of one after another.

``releases`` is the rule. It bounds the time for which an escalation is held. An escalation is held before it takes a
slot at its target, so only its own problem waits. Transcripts do not depend on it: only the start of a request moves.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from arbiter.actors.registry import ProblemRegistry
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Gather
from arbiter.protocols.records import Gathered


def releases(held: int, running: int, problems: int, age: float, bound: Gather) -> bool:
    """Whether the escalations that are held for a target go to it now.

    ``held`` of them wait, the oldest for ``age`` seconds. ``running`` others are at the target. ``problems`` are those
    that are at this target or could join it.

    They go when no other problem can join, when the share of ``bound`` is held, or when the oldest reached its seconds.
    """
    enough = bound.share is not None and held >= bound.share * running
    return enough or held + running >= problems or age >= bound.seconds


class _Visit:
    """An escalation at a target. ``released`` is set once it may go on, in a group of ``together``."""

    __slots__ = ("arrived", "released", "task", "together")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.arrived = anyio.current_time()
        self.released = anyio.Event()
        self.together = 0


class Gathering:
    """The escalations at one target: those that are held, and those that were released and have no answer yet.

    Made by ``Gatherings.gathering``.
    """

    def __init__(self, bound: Gather, everywhere: "Gatherings") -> None:
        self._bound = bound
        self._everywhere = everywhere
        self._held: dict[_Visit, None] = {}  # in the order of arrival
        self._running: set[_Visit] = set()
        self._visits: dict[Task, list[_Visit]] = {}

    @property
    def present(self) -> int:
        """How many escalations are held or running."""
        return len(self._held) + len(self._running)

    @asynccontextmanager
    async def joined(self, task: Task) -> AsyncGenerator[Gathered | None]:
        """Hold an escalation of ``task`` until it is released. It then counts as running until the block ends.

        Yield how it gathered; None if it neither waited nor was released with others.
        """
        visit = _Visit(task)
        self._held[visit] = None
        self._visits.setdefault(task, []).append(visit)
        try:
            self._everywhere.check()
            if not visit.released.is_set():
                with anyio.move_on_at(visit.arrived + self._bound.seconds):
                    await visit.released.wait()
                if not visit.released.is_set():  # it is the oldest, and has reached the bound
                    self._release()
            waited = round(anyio.current_time() - visit.arrived, 6)
            yield Gathered(waited, visit.together) if waited or visit.together > 1 else None
        finally:
            self._leave(visit)
            self._everywhere.check()

    def check(self, problems: int) -> None:
        """Release what is held if the rule says so. ``problems`` are those that could have an escalation here."""
        if not self._held:
            return
        age = anyio.current_time() - next(iter(self._held)).arrived
        if releases(len(self._held), len(self._running), problems, age, self._bound):
            self._release()

    def forget(self, task: Task) -> None:
        """Drop the escalations of a closed problem. Their cancelled work may run until its next await."""
        for visit in self._visits.pop(task, ()):
            self._drop(visit)

    def _release(self) -> None:
        for visit in self._held:
            visit.together = len(self._held)
            visit.released.set()
        self._running.update(self._held)
        self._held.clear()

    def _leave(self, visit: _Visit) -> None:
        self._drop(visit)
        visits = self._visits.get(visit.task, [])
        if visit in visits:  # its problem is not closed
            visits.remove(visit)
        if not visits:
            self._visits.pop(visit.task, None)

    def _drop(self, visit: _Visit) -> None:
        self._held.pop(visit, None)
        self._running.discard(visit)


class Gatherings:
    """The gatherings of all targets of a ring. A problem at one target cannot join at another one."""

    def __init__(self, registry: ProblemRegistry) -> None:
        self._registry = registry
        self._gatherings: list[Gathering] = []
        registry.after_close(self._closed)

    def gathering(self, bound: Gather) -> Gathering:
        """Return a gathering for one more target."""
        made = Gathering(bound, self)
        self._gatherings.append(made)
        return made

    def check(self) -> None:
        """Release what the rule releases, at every target."""
        present = sum(gathering.present for gathering in self._gatherings)
        for gathering in self._gatherings:
            gathering.check(self._registry.deciding - present + gathering.present)

    def _closed(self, task: Task) -> None:
        for gathering in self._gatherings:
            gathering.forget(task)
        self.check()
