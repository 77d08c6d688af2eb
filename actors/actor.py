"""The base classes of actors. A replacement actor has a bounded mailbox and never stops receiving from it.

A ``ConcurrentActor`` serves each message in its own task, which may wait for a model, and continues to receive
meanwhile. A ``SequentialActor`` serves one message after another, and waits only for room in mailboxes.

Built-in actors have no mailbox: their messages are served in the task of the problem's caller, or in a new task
(``arbiter.actors.delivery``). The ring cannot deadlock, whatever the capacity of its mailboxes:

- A message to a built-in actor never waits for room.
- Concurrent actors always receive.
- A sequential actor in the Router's place sends to the Escalator, which is built-in or always receives, and to the
  Assembler, which is built-in. So it always receives again.
- No problem waits for a step of another problem.
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
"""Seconds after which ``on_stop`` is cancelled."""

log = logging.getLogger("arbiter.actors")

_MAX_IDLE = 16  # tasks of an actor that may wait for messages


class ActorContext(msgspec.Struct, frozen=True):
    """What the actors of a ring share.

    - ``mailboxes`` sends messages to the other actors.
    - ``registry`` has the open problems.
    - ``calls`` makes requests to models.
    - ``journal`` records what happens.
    - ``models`` and ``settings`` are those of the ring.
    - ``report_step`` receives each kept step from the Assembler, ``report_solution`` each solution. Neither may block.
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
    """Receives messages until it is cancelled or its mailbox is closed. Subclasses implement ``serve``.

    Derive an actor from ``ConcurrentActor`` or ``SequentialActor``. An actor is made with its inbox and the
    ``ActorContext``. A built-in actor is not run: the ring calls ``handle`` with its messages. The phases of an actor
    that is run, in this order:

    1. ``on_start`` runs. No message is received before it ends, and the ring opens only after all actors have started.
       Opening the ring raises its error unchanged; the actors that have already started are stopped.
    2. Messages are served.
    3. ``on_stop`` runs once, if ``on_start`` ended without an error: when the ring closes, or the actor is cancelled or
       crashes. Messages are no longer served. ``on_stop`` is shielded from cancellation, but cancelled after
       ``STOP_SECONDS``. Its error is logged and changes nothing else.

    ``name`` is the actor's name in messages and logs.
    """

    name: ClassVar[str]

    def __init__(self, inbox: Inbox[Mail], context: ActorContext) -> None:
        self._inbox = inbox
        self._context = context
        self._mailboxes = context.mailboxes
        self._registry = context.registry

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run all phases of the actor. ``task_status.started`` is called when the actor receives messages."""
        await self.on_start()
        try:
            async with self._inbox, anyio.create_task_group() as tasks:
                task_status.started()
                await self._receive(tasks)
        finally:
            await self._stop()

    async def on_start(self) -> None:
        """Open what the actor needs. Does nothing by default."""

    async def on_stop(self) -> None:
        """Close what the actor opened. Does nothing by default."""

    @abstractmethod
    async def serve(self, message: Mail) -> None:
        """Serve one message. An error fails the problem of the message, and no other."""

    async def handle(self, message: Mail) -> None:
        """Serve a message of an open problem. Its error becomes the result of the problem."""
        try:
            await self.serve(message)
        except* DivergedError:
            pass
        # Only here does an error of a model, a policy or a watch function become the result of a problem. The error can
        # be in a group together with a cancellation, which must propagate.
        except* Exception as error:
            await self._fail(message, error)

    @abstractmethod
    async def _receive(self, tasks: TaskGroup) -> None:
        """Receive and serve messages. An error with a message only fails its problem."""

    async def _stop(self) -> None:
        with anyio.move_on_after(STOP_SECONDS, shield=True) as scope:
            try:
                await self.on_stop()
            except Exception:
                log.exception("on_stop failed", extra={"actor": self.name})
        if scope.cancelled_caught:
            log.warning("on_stop took too long and was cancelled", extra={"actor": self.name, "seconds": STOP_SECONDS})

    async def _fail(self, message: Mail, error: BaseException) -> None:
        task = message.context.task
        if task not in self._registry:  # it was closed meanwhile: nothing waits for it
            return
        fields = {"problem": task.id, "actor": self.name, "cause": message.id}
        log.debug("step failed", exc_info=error, extra=fields)
        failed_kind = str(type(message).__struct_config__.tag)
        with suppress(DivergedError):
            await self._send_failure(
                StepFailed(message.context, message.id, self.name, failed_kind, format_error(error))
            )

    async def _send_failure(self, failed: StepFailed) -> None:
        await self._mailboxes.to_assembler(failed, self.name)


class ConcurrentActor(Actor[Mail]):
    """An actor that serves each message in its own task, and always receives in another one.

    The work on a message is cancelled when its problem is closed. Use this base if ``serve`` waits for something::

        class EchoVerifier(ConcurrentActor[VerifierMail]):
            name: ClassVar[str] = "verifier"

            async def serve(self, message: VerifierMail) -> None:
                ...

    ``examples/own_actor.py`` is a complete actor.
    """

    # A task that has served its message receives again: starting a new task for each message would be expensive.

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
            if self._receiving >= _MAX_IDLE:
                return
            self._receiving += 1

    async def _serve(self, message: Mail) -> None:
        task = message.context.task
        if task in self._registry:
            with self._registry.work(task):
                await self.handle(message)


class SequentialActor(Actor[Mail]):
    """An actor that serves one message after another. ``serve`` must only wait for room in mailboxes."""

    async def _receive(self, tasks: TaskGroup) -> None:
        async for message in self._inbox:
            await self._serve(message)
            with suppress(anyio.WouldBlock, anyio.EndOfStream):
                while True:  # messages that are already there are cheaper to receive without waiting
                    await self._serve(self._inbox.receive_nowait())

    async def _serve(self, message: Mail) -> None:
        if message.context.task in self._registry:
            await self.handle(message)
