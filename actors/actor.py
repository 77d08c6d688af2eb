"""What every actor is: a bounded mailbox that is emptied at all times.

A ``ConcurrentActor`` serves each message in a task of its own, which may wait for a model, and goes on receiving. A
``SequentialActor`` serves one message after another, and waits for nothing but room in mailboxes.

The ring cannot deadlock, whatever the capacity of its mailboxes. Concurrent actors always receive. The Assembler sends
to concurrent actors alone, and so it always comes to receive. The Router sends to the Assembler as well, and so it
always comes to receive, too. And no problem ever waits for another one's step.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar, Generic, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from arbiter.actors.error_text import format_error
from arbiter.actors.mailboxes import Inbox, Mailboxes
from arbiter.actors.registry import ProblemRegistry
from arbiter.actors.requests import RequestExecutor
from arbiter.actors.ring_setup import Models, RingSettings
from arbiter.protocols.errors import DivergedError
from arbiter.protocols.messages import Message, StepFailed, Task
from arbiter.protocols.ports import Journal
from arbiter.protocols.records import Solution, StepRecord

Mail = TypeVar("Mail", bound=Message)

STOP_SECONDS = 5.0
"""How long ``on_stop`` may take; it is cancelled then."""

log = logging.getLogger("arbiter.actors")

_SPARE = 16  # tasks that receive though nothing is there for them


class ActorContext(msgspec.Struct, frozen=True):
    """What the actors of a ring share.

    ``mailboxes`` sends messages to the other actors, ``registry`` knows the open problems, ``calls`` makes requests to
    models, and ``journal`` records what happens. ``models`` and ``settings`` are those of the ring. The Assembler calls
    ``report_step`` with each kept step and ``report_solution`` with each solution; neither may block.
    """

    mailboxes: Mailboxes
    registry: ProblemRegistry
    calls: RequestExecutor
    journal: Journal
    models: Models
    settings: RingSettings
    report_solution: Callable[[Task, Solution], None]
    report_step: Callable[[Task, StepRecord], None]


class Actor(ABC, Generic[Mail]):
    """Receives messages until it is cancelled, or its mailbox is closed. Subclasses serve one message.

    An actor is made with its inbox and the ``ActorContext``. Its life, in this order:

    1. ``on_start`` runs. No message is received before it has ended, and the ring opens only when all actors have
       started. Its error comes out of opening the ring as itself; the actors that have started before are stopped.
    2. Messages are served.
    3. ``on_stop`` runs, once, if ``on_start`` had ended without an error: when the ring closes, when the actor is
       cancelled and when it crashes. Messages are no longer served. A cancellation does not reach it, but after
       ``STOP_SECONDS`` it is cancelled. Its error is logged, and changes nothing else.
    """

    name: ClassVar[str]

    def __init__(self, inbox: Inbox[Mail], context: ActorContext) -> None:
        self._inbox = inbox
        self._context = context
        self._mailboxes = context.mailboxes
        self._registry = context.registry

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start, receive and serve, and stop; ``started`` is reported once mail is received."""
        await self.on_start()
        try:
            async with self._inbox, anyio.create_task_group() as tasks:
                task_status.started()
                await self._receive(tasks)
        finally:
            await self._stop()

    async def on_start(self) -> None:
        """Open what the actor needs; does nothing by default."""

    async def on_stop(self) -> None:
        """Close what the actor has opened; does nothing by default."""

    @abstractmethod
    async def serve(self, message: Mail) -> None:
        """Do what ``message`` asks for."""

    @abstractmethod
    async def _receive(self, tasks: TaskGroup) -> None:
        """Serve what comes; whatever goes wrong with a message fails its problem, and nothing else."""

    async def _stop(self) -> None:
        with anyio.move_on_after(STOP_SECONDS, shield=True) as scope:
            try:
                await self.on_stop()
            except Exception:
                log.exception("on_stop failed", extra={"actor": self.name})
        if scope.cancelled_caught:
            log.warning("on_stop was cancelled: it took too long", extra={"actor": self.name, "seconds": STOP_SECONDS})

    async def _fail(self, message: Mail, error: BaseException) -> None:
        task = message.context.task
        if task not in self._registry:  # it was closed meanwhile, and nobody waits for it
            return
        fields = {"problem": task.id, "actor": self.name, "cause": message.id}
        log.debug("step failed", exc_info=error, extra=fields)
        failed_kind = str(type(message).__struct_config__.tag)
        with suppress(DivergedError):
            await self._tell(StepFailed(message.context, message.id, self.name, failed_kind, format_error(error)))

    async def _tell(self, failed: StepFailed) -> None:
        await self._mailboxes.to_assembler(failed, self.name)


class ConcurrentActor(Actor[Mail]):
    """Serves each message in a task of its own, and always has one more that receives.

    A task that has served its message receives again: to begin one anew for each message would cost more than most of
    what else a message costs. The work on a message is cancelled when its problem is closed.
    """

    _receiving = 0

    async def _receive(self, tasks: TaskGroup) -> None:
        self._receiving += 1
        while True:
            try:
                message = await self._inbox.receive()
            except anyio.EndOfStream:
                return
            self._receiving -= 1
            if not self._receiving:
                tasks.start_soon(self._receive, tasks)
            await self._serve(message)
            if self._receiving >= _SPARE:
                return
            self._receiving += 1

    async def _serve(self, message: Mail) -> None:
        task = message.context.task
        if task not in self._registry:
            return
        with self._registry.work(task):
            try:
                await self.serve(message)
            except* DivergedError:
                pass
            # The one place where a foreign error of a model becomes a problem's result. It may come in a group, and
            # together with a cancellation, which goes its own way.
            except* Exception as error:
                await self._fail(message, error)


class SequentialActor(Actor[Mail]):
    """Serves one message after another: with next to no cost, since it waits for nothing that takes time."""

    async def _receive(self, tasks: TaskGroup) -> None:
        async for message in self._inbox:
            await self._serve(message, tasks)
            with suppress(anyio.WouldBlock, anyio.EndOfStream):
                while True:  # what is there already is had for less
                    await self._serve(self._inbox.receive_nowait(), tasks)

    async def _serve(self, message: Mail, tasks: TaskGroup) -> None:
        if message.context.task not in self._registry:
            return
        try:
            await self.serve(message)
        except DivergedError:
            pass
        except Exception as error:  # of a policy, or of somebody who watches
            await self._fail(message, error)
