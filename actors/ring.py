"""The wiring: five actors, their mailboxes, and the door through which problems go in and solutions come out."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from actors.actor import Actor
from actors.assembler import Assembler
from actors.calls import Calls
from actors.contexts import first_context
from actors.controllers import LookaheadControl, Verify
from actors.docket import Docket
from actors.drafter import Drafter
from actors.escalator import Escalator
from actors.factories import Cast, Stage
from actors.journal import NoJournal
from actors.later import Later
from actors.mailboxes import Posts
from actors.places import Occupancy
from actors.policies import called_models, check_policy, target_names
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
from protocols.ports import Generator, Journal, Policy, Scorer, Seat
from protocols.records import Model, Scale, Solution, StepRecord

Mail = TypeVar("Mail")
_OWN = Cast()
Watch = Callable[[StepRecord], None]


class Models(msgspec.Struct, frozen=True):
    """The models of a ring; a policy can be used if the models that it calls are there.

    ``targets`` are those of policies that know several, by name.
    """

    draft: Seat[Generator] | None = None
    target: Seat[Generator] | None = None
    scorers: Mapping[Scale, Seat[Scorer]] = {}
    targets: Mapping[str, Seat[Generator]] = {}

    def require(self, policy: Policy, audit: float = 0.0, besides: Collection[Model] = ()) -> None:
        """Raises ``ConfigError`` if ``policy`` lacks a member, or naming the first model that it or its audit calls and
        that is not there.

        Those ``besides`` are there in another way.
        """
        check_policy(policy)
        there = {"draft": self.draft, "target": self.target, **self.scorers}
        names = () if "target" in besides else target_names(policy.targets)
        for model in called_models(policy, audit):
            if there.get(model) is None and model not in besides and not (model == "target" and names):
                raise ConfigError(
                    f"the run calls the {model} model, and none is configured: add a table [models.{model}]"
                )
        for name in names:
            if name not in self.targets:
                raise ConfigError(
                    f"the run calls the target {name!r}, and it is not there: add a table [models.targets.{name}]"
                )


class Ring:
    """Solves problems; made by ``open_ring``. Many calls of ``solve`` share the actors and their limits."""

    def __init__(self, models: Models, stage: Stage, cast: Cast) -> None:
        self._models = models
        self._cast = cast
        self._posts = stage.posts
        self._docket = stage.docket
        self._calls = stage.calls
        self._replies: dict[Task, Later[Solution]] = {}
        self._watches: dict[Task, Watch] = {}
        self._closed = False

    async def solve(self, task: Task, watch: Watch | None = None) -> Solution:
        """Solve one problem. What goes wrong with it is told in its solution; a cancelled call leaves nothing behind.

        ``watch`` is called with each step when it is chosen, and must not block; its error fails the problem.

        Raises ``ConfigError`` if a model is missing, ``ProblemError`` if a problem of the same id is in the
        ring, ``ClosedError`` if the ring is closed before the problem is solved.
        """
        self._models.require(task.policy, task.audit, self._cast.brings)
        if self._closed:
            raise ClosedError(f"problem {task.id!r} came after the ring was closed")
        task = msgspec.structs.replace(task)  # a task of its own: the caller may give the same one again
        self._docket.open(task)
        reply = self._replies[task] = Later[Solution]()
        if watch is not None:
            self._watches[task] = watch
        try:
            start = StartProblem(context=first_context(task), cause=task.id)
            await self._posts.to_assembler(start, "ring")
            return await reply.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ClosedError(f"the ring was closed before problem {task.id!r} was in it") from error
        finally:
            del self._replies[task]
            self._watches.pop(task, None)
            self._docket.close(task)

    @property
    def occupancy(self) -> dict[str, Occupancy]:
        """The places at each model, by its key behind ``models.``."""
        return {flow.name: flow.occupancy for flow in self._calls.flows}

    def answer(self, task: Task, solution: Solution) -> None:
        """Called by the Assembler."""
        self._replies[task].set(solution)

    def chosen(self, task: Task, step: StepRecord) -> None:
        """Called by the Assembler."""
        if task in self._watches:
            self._watches[task](step)

    def close(self) -> None:
        """Answer whoever still waits with ``ClosedError``."""
        self._closed = True
        for task, reply in self._replies.items():
            self._docket.close(task)
            reply.fail(ClosedError(f"the ring was closed while problem {task.id!r} was in it"))


@asynccontextmanager
async def open_ring(
    models: Models,
    mailbox: int = 16,
    journal: Journal | None = None,
    lookahead: int | None = 0,
    verify: Verify = "off",
    salvage: bool = False,
    cast: Cast = _OWN,
) -> AsyncGenerator[Ring]:
    """A running ring. ``mailbox`` is the capacity of each actor's mailbox; 1 is enough (see ``actors.actor``).

    Up to ``lookahead`` steps are drafted ahead while a step is scored or regenerated (``actors.drafter``); None leaves
    their number to a controller. ``verify`` says whether the target is shown rejected drafts, so that it writes only
    what it would not have written itself (``actors.escalator``). Neither changes a transcript; to ``salvage`` what was
    drafted ahead for another context does. ``cast`` has actors of one's own, in the places of the ring's.
    Everything that happens is written into ``journal``, if one is given (``arbiter.log.open_journal``).
    """
    journal = journal or NoJournal()
    with ExitStack() as stack:
        to_assembler, assembler_inbox = _mailbox(stack, anyio.create_memory_object_stream[AssemblerMail](mailbox))
        to_drafter, drafter_inbox = _mailbox(stack, anyio.create_memory_object_stream[DrafterMail](mailbox))
        to_verifier, verifier_inbox = _mailbox(stack, anyio.create_memory_object_stream[VerifierMail](mailbox))
        to_router, router_inbox = _mailbox(stack, anyio.create_memory_object_stream[RouterMail](mailbox))
        to_escalator, escalator_inbox = _mailbox(stack, anyio.create_memory_object_stream[EscalatorMail](mailbox))
        posts, docket = Posts(to_assembler, to_drafter, to_verifier, to_router, to_escalator, journal), Docket()
        calls = Calls(docket, journal)
        stage = Stage(posts, docket, calls, journal)
        ring = Ring(models, stage, cast)
        scorers = models.scorers
        actors: list[Actor[Any]] = [
            Assembler(assembler_inbox, posts, docket, journal, ring.answer, ring.chosen),
            cast.verifier(verifier_inbox, stage)
            if cast.verifier
            else Verifier(verifier_inbox, posts, docket, calls, scorers),
            cast.router(router_inbox, stage) if cast.router else Router(router_inbox, posts, docket, journal),
        ]
        if cast.drafter:
            actors.append(cast.drafter(drafter_inbox, stage))
        elif models.draft:
            control = LookaheadControl(lookahead)
            actors.append(Drafter(drafter_inbox, posts, docket, calls, journal, models.draft, control, salvage))
        if cast.escalator:
            actors.append(cast.escalator(escalator_inbox, stage))
        elif models.target or models.targets:
            actors.append(Escalator(escalator_inbox, posts, docket, calls, models.target, models.targets, verify))
        async with services() as tasks:
            for actor in actors:
                await tasks.start(actor.run)
            for flow in calls.flows:
                tasks.start_soon(flow.watch)
            try:
                yield ring
            finally:
                ring.close()


def _mailbox(
    stack: ExitStack, ends: tuple[MemoryObjectSendStream[Mail], MemoryObjectReceiveStream[Mail]]
) -> tuple[MemoryObjectSendStream[Mail], MemoryObjectReceiveStream[Mail]]:
    """Both ends of a mailbox, closed with ``stack``."""
    for end in ends:
        stack.enter_context(end)
    return ends


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
