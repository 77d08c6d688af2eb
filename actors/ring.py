"""The ring: connects the five actors, takes problems and returns solutions."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskGroup

from arbiter.actors.actor import Actor, ActorContext
from arbiter.actors.assembler import Assembler
from arbiter.actors.controllers import Verify
from arbiter.actors.delivery import DirectDelivery, Serve
from arbiter.actors.drafter import Drafter
from arbiter.actors.escalator import Escalator
from arbiter.actors.factories import ActorFactories
from arbiter.actors.future import Future
from arbiter.actors.journal import NoJournal
from arbiter.actors.mailboxes import Inboxes, Mailboxes, Routes, open_mailboxes
from arbiter.actors.registry import ProblemRegistry
from arbiter.actors.requests import RequestExecutor
from arbiter.actors.ring_setup import Models, RingSettings
from arbiter.actors.router import Router
from arbiter.actors.slots import Occupancy
from arbiter.actors.step_pieces import Listen
from arbiter.actors.supervision import services
from arbiter.actors.transcripts import first_context
from arbiter.actors.verifier import Verifier
from arbiter.protocols.errors import ClosedError, ConfigError
from arbiter.protocols.messages import StartProblem, Task
from arbiter.protocols.model_traits import HoldsProblems
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
        registry: ProblemRegistry,
        calls: RequestExecutor,
        delivery: DirectDelivery,
        mailboxes: Mailboxes,
    ) -> None:
        self._models = models
        self._factories = factories
        self._registry = registry
        self._calls = calls
        self._delivery = delivery
        self._mailboxes = mailboxes
        self._replies: dict[Task, Future[Solution]] = {}
        self._watches: dict[Task, Watch] = {}
        self._closed = False
        self._left = anyio.Event()

    async def solve(self, task: Task, watch: Watch | None = None, listen: Listen | None = None) -> Solution:
        """Solve one problem and return its solution. If the problem fails, the solution has the error.

        ``watch`` is called with each step when it is kept. It must not block; its error fails the problem. Cancelling
        the call cancels all work on the problem.

        ``listen`` is called with pieces of steps while they are written, where nothing can reject them
        (``can_stream``). It must not block or raise. A recorded step has no pieces.

        Raises ``ConfigError`` if a model is missing, or cannot write the answer that the task requests. Raises
        ``ProblemError`` if a problem with the same id and sample is in the ring. Raises ``ClosedError`` if the ring is
        closed before the problem is solved.
        """
        self._models.require(task.policy, task.audit, self._factories.replaced_models)
        self._models.require_answer(task)
        if self._closed:
            raise ClosedError(f"problem {task.id!r} was submitted after the ring was closed")
        task = msgspec.structs.replace(task)  # a copy: the caller may submit the same task again
        self._registry.open(task, listen)
        reply = self._replies[task] = Future[Solution]()
        if watch is not None:
            self._watches[task] = watch
        try:
            start = StartProblem(context=first_context(task), cause=task.id)
            with self._registry.work(task):
                await self._mailboxes.to_assembler(start, "ring")
                await self._delivery.drive(task)
            return await reply.wait()
        finally:
            del self._replies[task]
            self._watches.pop(task, None)
            self._registry.close(task)
            if self._closed and not self._replies:
                self._left.set()

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

    async def wait_until_left(self) -> None:
        """Wait until the work on all problems of a closed ring has ended, also that in the tasks of its callers."""
        if self._replies:
            with anyio.CancelScope(shield=True):
                await self._left.wait()


@asynccontextmanager
async def open_ring(
    models: Models,
    mailbox: int = 16,
    journal: Journal | None = None,
    lookahead: int | None = 0,
    verify: Verify = "off",
    salvage: bool = False,
    factories: ActorFactories = _BUILT_IN,
    block: int = 1,
) -> AsyncGenerator[Ring]:
    """Start a ring and yield it. It is closed at the end of the block.

    - ``mailbox`` is the capacity of each replacement actor's mailbox; 1 is enough (see ``arbiter.actors.actor``).
    - ``journal`` records everything that happens (see ``open_journal``); None for no log.
    - ``lookahead`` is the number of steps to draft ahead (see ``Drafter``); None leaves it to a controller.
    - ``verify`` says whether the target reads rejected drafts, to keep a prefix of them (see ``Escalator``).
    - ``salvage`` lets a draft that was written ahead be used in another context. Unlike ``lookahead`` and ``verify``,
      it can change transcripts.
    - ``factories`` make replacement actors.
    - ``block`` is the number of steps, 1 or more, that are drafted and scored together (see ``Drafter``). Above 1
      ``lookahead`` must be 0. Transcripts stay the same.

    Raises ``ConfigError`` if ``block`` does not fit, and what an actor's ``on_start`` raises.
    """
    if block < 1 or (block > 1 and (lookahead != 0 or salvage)):
        raise ConfigError(f"block must be 1 or more; above 1 without lookahead and salvage, but it is {block}")
    journal, registry = journal or NoJournal(), ProblemRegistry()
    calls, settings = RequestExecutor(registry, journal), RingSettings(lookahead, verify, salvage, block)
    for model in models.ports:
        if isinstance(model, HoldsProblems):
            registry.after_last(model.release)
    with open_mailboxes(mailbox) as (routes, inboxes):
        async with services() as tasks:
            delivery = DirectDelivery(registry, tasks)
            built_in, own = (
                Mailboxes(_routes(factories, routes, direct), journal, registry.digest, delivery.flush)
                for direct in (delivery.outbox, delivery.new_task)
            )
            ring = Ring(models, factories, registry, calls, delivery, built_in)
            context = ActorContext(
                built_in, registry, calls, journal, models, settings, ring.report_solution, ring.report_step
            )
            for name, actor in _built_in_actors(factories, inboxes, context, tasks).items():
                delivery.connect(name, actor.handle)
            for actor in _replacement_actors(factories, inboxes, msgspec.structs.replace(context, mailboxes=own)):
                await tasks.start(actor.run)
            for limiter in calls.limiters:
                tasks.start_soon(limiter.watch)
            try:
                yield ring
            finally:
                ring.close()
                await ring.wait_until_left()


def _routes(factories: ActorFactories, mailboxes: Routes, direct: Callable[[str], Serve]) -> Routes:
    """Return the routes to all actors: replacement actors have mailboxes, built-in ones get their messages directly."""
    return Routes(
        assembler=direct("assembler"),
        drafter=mailboxes.drafter if factories.drafter else direct("drafter"),
        verifier=mailboxes.verifier if factories.verifier else direct("verifier"),
        router=mailboxes.router if factories.router else direct("router"),
        escalator=mailboxes.escalator if factories.escalator else direct("escalator"),
    )


def _built_in_actors(
    factories: ActorFactories, inboxes: Inboxes, context: ActorContext, tasks: TaskGroup
) -> dict[str, Actor[Any]]:
    """Make the built-in actors that are not replaced. A Drafter or an Escalator without a model is left out."""
    models = context.models
    actors: dict[str, Actor[Any]] = {"assembler": Assembler(inboxes.assembler, context, tasks)}
    if not factories.verifier:
        actors["verifier"] = Verifier(inboxes.verifier, context)
    if not factories.router:
        actors["router"] = Router(inboxes.router, context)
    if not factories.drafter and models.draft:
        actors["drafter"] = Drafter(inboxes.drafter, context)
    if not factories.escalator and (models.target or models.targets):
        actors["escalator"] = Escalator(inboxes.escalator, context)
    return actors


def _replacement_actors(factories: ActorFactories, inboxes: Inboxes, context: ActorContext) -> list[Actor[Any]]:
    """Make the replacement actors."""
    actors: list[Actor[Any]] = []
    if factories.verifier:
        actors.append(factories.verifier(inboxes.verifier, context))
    if factories.router:
        actors.append(factories.router(inboxes.router, context))
    if factories.drafter:
        actors.append(factories.drafter(inboxes.drafter, context))
    if factories.escalator:
        actors.append(factories.escalator(inboxes.escalator, context))
    return actors


async def solve_all(
    ring: Ring,
    tasks: Iterable[Task],
    concurrency: int,
    done: Callable[[Solution], Awaitable[None]],
    kept: Callable[[str, int, StepRecord], None] | None = None,
) -> None:
    """Solve ``tasks``, at most ``concurrency`` at a time. ``done`` receives each solution when its problem ends.

    ``kept`` is called with the problem's id, its sample, and each step when it is kept. It must not block.

    A task is only taken from the iterable when it can start. The order is that of the iterable. Raises as
    ``Ring.solve``.
    """
    waiting: Iterator[Task] = iter(tasks)

    async def work() -> None:
        for task in waiting:
            watch = None if kept is None else partial(kept, task.id, task.sample)
            await done(await ring.solve(task, watch))

    async with anyio.create_task_group() as workers:
        for _ in range(concurrency):
            workers.start_soon(work)
