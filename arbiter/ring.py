"""The wiring: five actors, their mailboxes, and the door through which problems go in and solutions come out."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio
import msgspec

from actors.actor import Posts
from actors.assembler import Assembler, next_context
from actors.docket import Docket
from actors.drafter import Drafter
from actors.escalator import Escalator
from actors.later import Later
from actors.policies import called_models
from actors.router import Router
from actors.supervision import services
from actors.verifier import Verifier
from protocols.errors import ClosedError, ConfigError
from protocols.messages import (
    AssemblerMail,
    DrafterMail,
    EscalatorMail,
    RouterMail,
    StartProblem,
    Task,
    VerifierMail,
)
from protocols.ports import Generator, Policy, Scorer
from protocols.records import Scale, Solution

Port = TypeVar("Port", Generator, Scorer, covariant=True)


class Seat(msgspec.Struct, Generic[Port], frozen=True):
    """A model in the ring: its port, and how many requests may be at it at once."""

    port: Port
    in_flight: int = 64


class Models(msgspec.Struct, frozen=True):
    """The models of a ring; a policy can be used if the models that it calls are there."""

    draft: Seat[Generator] | None = None
    target: Seat[Generator] | None = None
    scorers: Mapping[Scale, Seat[Scorer]] = {}

    def require(self, policy: Policy, audit: float = 0.0) -> None:
        """Raises ``ConfigError`` naming the first model that ``policy``, or its audit, calls and that is not there."""
        there = {"draft": self.draft, "target": self.target, **self.scorers}
        for model in called_models(policy, audit):
            if there.get(model) is None:
                raise ConfigError(
                    f"the run calls the {model} model, and none is configured: add a table [models.{model}]"
                )


class Ring:
    """Solves problems; made by ``open_ring``. Many calls of ``solve`` share the actors and their limits."""

    def __init__(self, models: Models, posts: Posts, docket: Docket) -> None:
        self._models = models
        self._posts = posts
        self._docket = docket
        self._replies: dict[str, Later[Solution]] = {}
        self._closed = False

    async def solve(self, task: Task) -> Solution:
        """Solve one problem. What goes wrong with it is told in its solution; a cancelled call leaves nothing behind.

        Raises ``ConfigError`` if a model is missing, ``ProblemError`` if a problem of the same id is in the
        ring, ``ClosedError`` if the ring is closed before the problem is solved.
        """
        self._models.require(task.policy, task.audit)
        if self._closed:
            raise ClosedError(f"problem {task.id!r} came after the ring was closed")
        self._docket.open(task.id)
        reply = self._replies[task.id] = Later[Solution]()
        try:
            first = next_context(task, task.transcript, [])
            await self._posts.assembler.send(StartProblem(context=first, cause=task.id))
            return await reply.wait()
        finally:
            del self._replies[task.id]
            self._docket.close(task.id)

    def answer(self, solution: Solution) -> None:
        """Called by the Assembler."""
        self._replies[solution.problem].set(solution)

    def close(self) -> None:
        """Answer whoever still waits with ``ClosedError``."""
        self._closed = True
        for problem, reply in self._replies.items():
            self._docket.close(problem)
            reply.fail(ClosedError(f"the ring was closed while problem {problem!r} was in it"))


@asynccontextmanager
async def open_ring(models: Models, mailbox: int = 16) -> AsyncGenerator[Ring]:
    """A running ring. ``mailbox`` is the capacity of each actor's mailbox; 1 is enough (see ``actors.actor``)."""
    to_assembler, assembler_inbox = anyio.create_memory_object_stream[AssemblerMail](mailbox)
    to_drafter, drafter_inbox = anyio.create_memory_object_stream[DrafterMail](mailbox)
    to_verifier, verifier_inbox = anyio.create_memory_object_stream[VerifierMail](mailbox)
    to_router, router_inbox = anyio.create_memory_object_stream[RouterMail](mailbox)
    to_escalator, escalator_inbox = anyio.create_memory_object_stream[EscalatorMail](mailbox)
    posts, docket = Posts(to_assembler, to_drafter, to_verifier, to_router, to_escalator), Docket()
    ring = Ring(models, posts, docket)
    scorers: dict[Scale, Scorer] = {scale: seat.port for scale, seat in models.scorers.items()}
    in_flight: dict[Scale, int] = {scale: seat.in_flight for scale, seat in models.scorers.items()}
    async with services() as tasks:
        await tasks.start(Assembler(assembler_inbox, posts, docket, ring.answer).run)
        await tasks.start(Router(router_inbox, posts, docket).run)
        await tasks.start(Verifier(verifier_inbox, posts, docket, scorers, in_flight).run)
        if models.draft:
            await tasks.start(Drafter(drafter_inbox, posts, docket, models.draft.port, models.draft.in_flight).run)
        if models.target:
            await tasks.start(
                Escalator(escalator_inbox, posts, docket, models.target.port, models.target.in_flight).run
            )
        try:
            yield ring
        finally:
            ring.close()


async def solve_all(
    ring: Ring, tasks: Iterable[Task], concurrency: int, done: Callable[[Solution], Awaitable[None]]
) -> None:
    """Solve ``tasks`` with at most ``concurrency`` of them in the ring; ``done`` gets each as it ends.

    Tasks are taken from the iterable only when there is room for them, in its order.
    """
    waiting: Iterator[Task] = iter(tasks)

    async def work() -> None:
        for task in waiting:
            await done(await ring.solve(task))

    async with anyio.create_task_group() as workers:
        for _ in range(concurrency):
            workers.start_soon(work)
