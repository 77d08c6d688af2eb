"""What every actor is: a bounded mailbox, and a task of its own for each message.

The receiving loop never waits for anything but mail, so every mailbox is emptied at all times, and no
problem ever waits for another one's step. It follows that the ring cannot deadlock, whatever the
capacity of its mailboxes: a send can only wait for a loop that is about to receive.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar, cast

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from actors.docket import Docket
from actors.logs import logger
from protocols.messages import AssemblerMail, DrafterMail, EscalatorMail, Message, RouterMail, StepFailed, VerifierMail

Mail = TypeVar("Mail", bound=Message)

log = logger("arbiter.actors")


class Posts:
    """The addresses of the five actors: a send stream each."""

    def __init__(
        self,
        assembler: MemoryObjectSendStream[AssemblerMail],
        drafter: MemoryObjectSendStream[DrafterMail],
        verifier: MemoryObjectSendStream[VerifierMail],
        router: MemoryObjectSendStream[RouterMail],
        escalator: MemoryObjectSendStream[EscalatorMail],
    ) -> None:
        self.assembler = assembler
        self.drafter = drafter
        self.verifier = verifier
        self.router = router
        self.escalator = escalator


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
                log.debug("step failed", problem=task.id, actor=self.name, cause=message.id, exc_info=error)
                unserved = str(type(message).__struct_config__.tag)
                await self._posts.assembler.send(
                    StepFailed(message.context, message.id, self.name, unserved, told(error))
                )

    @abstractmethod
    async def serve(self, message: Mail) -> None:
        """Do what ``message`` asks for. Runs in a task of its own, cancelled when its problem is closed."""


def told(error: BaseException) -> str:
    """An error and its causes in one line, the outermost first; a cause that adds no text is left out."""
    parts: list[str] = []
    cause: BaseException | None = _innermost(error)
    while cause is not None:
        text = " ".join(str(cause).split())
        if not parts or (text and text not in parts[-1]):
            parts.append(f"{type(cause).__name__}: {text}".rstrip(": "))
        cause = _innermost(cause.__cause__)
    return ", caused by ".join(parts)


def _innermost(error: BaseException | None) -> BaseException | None:
    """Of requests made at the same time, the first that failed tells what went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
