"""The ring: connects the five actors and their mailboxes, takes problems and returns solutions."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from arbiter.actors.actor import Actor, ActorContext
from arbiter.actors.assembler import Assembler
from arbiter.actors.controllers import Verify
from arbiter.actors.drafter import Drafter
from arbiter.actors.escalator import Escalator
from arbiter.actors.factories import ActorFactories
from arbiter.actors.future import Future
from arbiter.actors.journal import NoJournal
from arbiter.actors.mailboxes import Inboxes, Mailboxes, open_mailboxes
from arbiter.actors.registry import ProblemRegistry
from arbiter.actors.requests import RequestExecutor
from arbiter.actors.ring_setup import Models, RingSettings
from arbiter.actors.router import Router
from arbiter.actors.slots import Occupancy
from arbiter.actors.supervision import services
from arbiter.actors.transcripts import first_context
from arbiter.actors.verifier import Verifier
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.messages import StartProblem, Task
from arbiter.protocols.ports import Journal
from arbiter.protocols.records import Solution, StepRecord

_BUILT_IN = ActorFactories()
Watch = Callable[[StepRecord], None]


class Ring:
    """Solves problems. Made by ``open_ring``. Concurrent calls of ``solve`` share the actors and the limits.

    Example::

        async with open_ring(models) as ring:
            solution = await ring.solve(task)
    """

    def __init__(
        self,
        models: Models,
        factories: ActorFactories,
        mailboxes: Mailboxes,
        registry: ProblemRegistry,
        calls: RequestExecutor,
    ) -> None:
        self._models = models
        self._factories = factories
        self._mailboxes = mailboxes
        self._registry = registry
        self._calls = calls
        self._replies: dict[Task, Future[Solution]] = {}
        self._watches: dict[Task, Watch] = {}
        self._closed = False

    async def solve(self, task: Task, watch: Watch | None = None) -> Solution:
        """Solve one problem and return its solution. If the problem fails, the solution has the error.

        ``watch`` is called with each step when it is kept. It must not block; its error fails the problem. Cancelling
        the call cancels all work on the problem.

        Raises ``ConfigError`` if a model is missing. Raises ``ProblemError`` if a problem with the same id and sample
        is in the ring. Raises ``ClosedError`` if the ring is closed before the problem is solved.
        """
        self._models.require(task.policy, task.audit, self._factories.replaced_models)
        if self._closed:
            raise ClosedError(f"problem {task.id!r} was submitted after the ring was closed")
        task = msgspec.structs.replace(task)  # a copy: the caller may submit the same task again
        self._registry.open(task)
        reply = self._replies[task] = Future[Solution]()
        if watch is not None:
            self._watches[task] = watch
        try:
            start = StartProblem(context=first_context(task), cause=task.id)
            await self._mailboxes.to_assembler(start, "ring")
            return await reply.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ClosedError(f"the ring was closed before problem {task.id!r} entered it") from error
        finally:
            del self._replies[task]
            self._watches.pop(task, None)
            self._registry.close(task)

    @property
    def occupancy(self) -> dict[str, Occupancy]:
        """The slots of each model, by its configuration key after ``models.``."""
        return {limiter.name: limiter.occupancy for limiter in self._calls.limiters}

    def report_solution(self, task: Task, solution: Solution) -> None:
        """Deliver a solution to its caller. The Assembler calls this."""
        self._replies[task].set(solution)

    def report_step(self, task: Task, step: StepRecord) -> None:
        """Pass a kept step to the watch function of its caller. The Assembler calls this."""
        if task in self._watches:
            self._watches[task](step)

    def close(self) -> None:
        """Close all problems. Their callers get ``ClosedError``."""
        self._closed = True
        for task, reply in self._replies.items():
            self._registry.close(task)
            reply.fail(ClosedError(f"the ring was closed while problem {task.id!r} was in it"))


@asynccontextmanager
async def open_ring(
    models: Models,
    mailbox: int = 16,
    journal: Journal | None = None,
    lookahead: int | None = 0,
    verify: Verify = "off",
    salvage: bool = False,
    factories: ActorFactories = _BUILT_IN,
) -> AsyncGenerator[Ring]:
    """Start a ring and yield it. It is closed at the end of the block.

    - ``mailbox`` is the capacity of each actor's mailbox; 1 is enough (see ``arbiter.actors.actor``).
    - ``journal`` records everything that happens (see ``open_journal``); None for no log.
    - ``lookahead`` is the number of steps to draft ahead (see ``Drafter``); None leaves it to a controller.
    - ``verify`` says whether the target reads rejected drafts, to keep a prefix of them (see ``Escalator``).
    - ``salvage`` lets a draft that was written ahead be used in another context. Unlike ``lookahead`` and ``verify``,
      it can change transcripts.
    - ``factories`` make replacement actors.

    Raises what an actor's ``on_start`` raises.
    """
    journal, registry = journal or NoJournal(), ProblemRegistry()
    calls, settings = RequestExecutor(registry, journal), RingSettings(lookahead, verify, salvage)
    with open_mailboxes(mailbox, journal) as (mailboxes, inboxes):
        ring = Ring(models, factories, mailboxes, registry, calls)
        context = ActorContext(
            mailboxes, registry, calls, journal, models, settings, ring.report_solution, ring.report_step
        )
        actors = _actors(factories, inboxes, context)
        async with services() as tasks:
            for actor in actors:
                await tasks.start(actor.run)
            for limiter in calls.limiters:
                tasks.start_soon(limiter.watch)
            try:
                yield ring
            finally:
                ring.close()


def _actors(factories: ActorFactories, inboxes: Inboxes, context: ActorContext) -> list[Actor[Any]]:
    """Make the actors. A Drafter or an Escalator without a model is left out."""
    models = context.models
    actors: list[Actor[Any]] = [
        Assembler(inboxes.assembler, context),
        (factories.verifier or Verifier)(inboxes.verifier, context),
        (factories.router or Router)(inboxes.router, context),
    ]
    if factories.drafter or models.draft:
        actors.append((factories.drafter or Drafter)(inboxes.drafter, context))
    if factories.escalator or models.target or models.targets:
        actors.append((factories.escalator or Escalator)(inboxes.escalator, context))
    return actors


async def solve_all(
    ring: Ring, tasks: Iterable[Task], concurrency: int, done: Callable[[Solution], Awaitable[None]]
) -> None:
    """Solve ``tasks``, at most ``concurrency`` at a time. ``done`` receives each solution when its problem ends.

    A task is only taken from the iterable when it can start. The order is that of the iterable. Raises as
    ``Ring.solve``.
    """
    waiting: Iterator[Task] = iter(tasks)

    async def work() -> None:
        for task in waiting:
            await done(await ring.solve(task))

    async with anyio.create_task_group() as workers:
        for _ in range(concurrency):
            workers.start_soon(work)
