"""What every actor is: a bounded mailbox, and a task of its own for each message.

The receiving loop never waits for anything but mail, so every mailbox is emptied at all times, and no
problem ever waits for another one's step. It follows that the ring cannot deadlock, whatever the
capacity of its mailboxes: a send can only wait for a loop that is about to receive.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from actors.docket import Docket
from actors.journal import AnyMail, message_entry
from actors.logs import logger
from actors.telling import told
from protocols.messages import AssemblerMail, DrafterMail, EscalatorMail, Message, RouterMail, StepFailed, VerifierMail
from protocols.ports import Journal

Mail = TypeVar("Mail", bound=Message)
AnyM = TypeVar("AnyM", bound=AnyMail)

log = logger("arbiter.actors")


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
        await self._journal.write(message_entry(message, sender, to))
        await address.send(message)


class Actor(ABC, Generic[Mail]):
    """Serves its mailbox until it is cancelled. Subclasses say what to do with one message."""

    name: ClassVar[str]

    def __init__(self, inbox: MemoryObjectReceiveStream[Mail], posts: Posts, docket: Docket) -> None:
        self._inbox = inbox
        self._posts = posts
        self._docket = docket

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Receive and serve; ``started`` is reported once mail is received."""
        async with self._inbox, anyio.create_task_group() as tasks:
            task_status.started()
            async for message in self._inbox:
                tasks.start_soon(self._serve, message)

    async def _serve(self, message: Mail) -> None:
        """Serve one message; whatever goes wrong fails its problem, and nothing else."""
        task = message.context.task
        if task not in self._docket:
            return
        with self._docket.work(task):
            try:
                await self.serve(message)
            # The one place where a foreign error becomes a problem's result. It may come in a group, and
            # together with a cancellation, which goes its own way.
            except* Exception as error:
                if task in self._docket:  # else it was closed meanwhile, and nobody waits for it
                    await self._fail(message, error)

    async def _fail(self, message: Mail, error: BaseException) -> None:
        task = message.context.task
        log.debug("step failed", problem=task.id, actor=self.name, cause=message.id, exc_info=error)
        unserved = str(type(message).__struct_config__.tag)
        failed = StepFailed(message.context, message.id, self.name, unserved, told(error))
        await self._posts.to_assembler(failed, self.name)

    @abstractmethod
    async def serve(self, message: Mail) -> None:
        """Do what ``message`` asks for. Runs in a task of its own, cancelled when its problem is closed."""
