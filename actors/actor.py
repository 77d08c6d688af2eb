"""What every actor is: a bounded mailbox that is emptied at all times.

Some actors work: they serve each message in a task of its own, which may wait for a model, and go on receiving. The
others decide: they serve one message after another, and wait for nothing but room in mailboxes.

The ring cannot deadlock, whatever the capacity of its mailboxes. Those who work always receive. The Assembler sends to
nobody else, and so it always comes to receive; the Router sends to the Assembler as well, and so it does, too. And no
problem ever waits for another one's step.
"""

import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import ClassVar, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from actors.docket import Docket
from actors.journal import AnyMail, message_entry
from actors.telling import told
from protocols.errors import LeftError
from protocols.messages import AssemblerMail, DrafterMail, EscalatorMail, Message, RouterMail, StepFailed, VerifierMail
from protocols.ports import Journal

Mail = TypeVar("Mail", bound=Message)
AnyM = TypeVar("AnyM", bound=AnyMail)

log = logging.getLogger("arbiter.actors")

_SPARE = 16  # tasks that receive though nothing is there for them


class Posts:
    """The addresses of the five actors; what is sent to one of them is in the journal before."""

    def __init__(
        self,
        assembler: MemoryObjectSendStream[AssemblerMail],
        drafter: MemoryObjectSendStream[DrafterMail],
        verifier: MemoryObjectSendStream[VerifierMail],
        router: MemoryObjectSendStream[RouterMail],
        escalator: MemoryObjectSendStream[EscalatorMail],
        journal: Journal,
    ) -> None:
        self._assembler = assembler
        self._drafter = drafter
        self._verifier = verifier
        self._router = router
        self._escalator = escalator
        self._journal = journal

    async def to_assembler(self, message: AssemblerMail, sender: str) -> None:
        await self._send(self._assembler, message, sender, "assembler")

    async def to_drafter(self, message: DrafterMail, sender: str) -> None:
        await self._send(self._drafter, message, sender, "drafter")

    async def to_verifier(self, message: VerifierMail, sender: str) -> None:
        await self._send(self._verifier, message, sender, "verifier")

    async def to_router(self, message: RouterMail, sender: str) -> None:
        await self._send(self._router, message, sender, "router")

    async def to_escalator(self, message: EscalatorMail, sender: str) -> None:
        await self._send(self._escalator, message, sender, "escalator")

    async def _send(self, address: MemoryObjectSendStream[AnyM], message: AnyM, sender: str, to: str) -> None:
        if self._journal.kept:
            await self._journal.write(message_entry(message, sender, to))
        try:
            address.send_nowait(message)  # most of the time there is room, and this is a tenth of the other's price
        except anyio.WouldBlock:
            await address.send(message)


class Actor(ABC, Generic[Mail]):
    """Receives messages until it is cancelled. Subclasses say what to do with one."""

    name: ClassVar[str]

    def __init__(self, inbox: MemoryObjectReceiveStream[Mail], posts: Posts, docket: Docket) -> None:
        self._inbox = inbox
        self._posts = posts
        self._docket = docket

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Receive and serve; ``started`` is reported once mail is received."""
        async with self._inbox, anyio.create_task_group() as tasks:
            task_status.started()
            await self._receive(tasks)

    @abstractmethod
    async def serve(self, message: Mail) -> None:
        """Do what ``message`` asks for."""

    @abstractmethod
    async def _receive(self, tasks: TaskGroup) -> None:
        """Serve what comes; whatever goes wrong with a message fails its problem, and nothing else."""

    async def _fail(self, message: Mail, error: BaseException) -> None:
        task = message.context.task
        if task not in self._docket:  # it was closed meanwhile, and nobody waits for it
            return
        fields = {"problem": task.id, "actor": self.name, "cause": message.id}
        log.debug("step failed", exc_info=error, extra=fields)
        unserved = str(type(message).__struct_config__.tag)
        with suppress(LeftError):
            await self._tell(StepFailed(message.context, message.id, self.name, unserved, told(error)))

    async def _tell(self, failed: StepFailed) -> None:
        await self._posts.to_assembler(failed, self.name)


class Working(Actor[Mail]):
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
        if task not in self._docket:
            return
        with self._docket.work(task):
            try:
                await self.serve(message)
            except* LeftError:
                pass
            # The one place where a foreign error of a model becomes a problem's result. It may come in a group, and
            # together with a cancellation, which goes its own way.
            except* Exception as error:
                await self._fail(message, error)


class Deciding(Actor[Mail]):
    """Serves one message after another: with next to no cost, since it waits for nothing that takes time."""

    async def _receive(self, tasks: TaskGroup) -> None:
        async for message in self._inbox:
            await self._serve(message, tasks)
            with suppress(anyio.WouldBlock, anyio.EndOfStream):
                while True:  # what is there already is had for less
                    await self._serve(self._inbox.receive_nowait(), tasks)

    async def _serve(self, message: Mail, tasks: TaskGroup) -> None:
        if message.context.task not in self._docket:
            return
        try:
            await self.serve(message)
        except LeftError:
            pass
        except Exception as error:  # of a policy, or of somebody who watches
            await self._fail(message, error)
