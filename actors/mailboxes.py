"""Messages between actors. Each is recorded in the journal before it is delivered.

A message between two built-in actors is delivered directly (``arbiter.actors.delivery``). A replacement actor receives
its messages from a bounded mailbox.
"""

from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from arbiter.actors.journal import AnyMail, message_entry
from arbiter.protocols.messages import (
    AssemblerMail,
    Context,
    DrafterMail,
    EscalatorMail,
    RouterMail,
    Task,
    VerifierMail,
)
from arbiter.protocols.ports import Journal

Mail = TypeVar("Mail")

Inbox = MemoryObjectReceiveStream
"""The receiving end of an actor's mailbox, with the union of its messages: ``Inbox[VerifierMail]``."""

Deliver = Callable[[Mail], Awaitable[None]]
"""Delivers a message to one actor, and waits for room if it has a mailbox."""


class Inboxes(msgspec.Struct, frozen=True):
    """The receiving ends of the five mailboxes."""

    assembler: Inbox[AssemblerMail]
    drafter: Inbox[DrafterMail]
    verifier: Inbox[VerifierMail]
    router: Inbox[RouterMail]
    escalator: Inbox[EscalatorMail]


class Routes(msgspec.Struct, frozen=True):
    """How a message is delivered to each of the five actors."""

    assembler: Deliver[AssemblerMail]
    drafter: Deliver[DrafterMail]
    verifier: Deliver[VerifierMail]
    router: Deliver[RouterMail]
    escalator: Deliver[EscalatorMail]


class Mailboxes:
    """Sends messages to the five actors. Each message is recorded in the journal first.

    The methods take the message and the name of the sending actor, and wait for room in the journal and in a mailbox.
    A message is served at the latest when ``serve`` of its sender returns. A sender that does other work after it calls
    ``flush``.
    """

    def __init__(
        self,
        routes: Routes,
        journal: Journal,
        digest: Callable[[Context], str],
        flush: Callable[[Task], None],
    ) -> None:
        self._routes = routes
        self._journal = journal
        self._digest = digest
        self._flush = flush

    async def to_assembler(self, message: AssemblerMail, sender: str) -> None:
        await self._record(message, sender, "assembler")
        await self._routes.assembler(message)

    async def to_drafter(self, message: DrafterMail, sender: str) -> None:
        await self._record(message, sender, "drafter")
        await self._routes.drafter(message)

    async def to_verifier(self, message: VerifierMail, sender: str) -> None:
        await self._record(message, sender, "verifier")
        await self._routes.verifier(message)

    async def to_router(self, message: RouterMail, sender: str) -> None:
        await self._record(message, sender, "router")
        await self._routes.router(message)

    async def to_escalator(self, message: EscalatorMail, sender: str) -> None:
        await self._record(message, sender, "escalator")
        await self._routes.escalator(message)

    async def _record(self, message: AnyMail, sender: str, to: str) -> None:
        if self._journal.kept:
            await self._journal.write(message_entry(message, sender, to, self._digest))

    def flush(self, task: Task) -> None:
        """Have the messages of ``task`` that were sent so far served now, while their sender does other work."""
        self._flush(task)


@contextmanager
def open_mailboxes(capacity: int) -> Generator[tuple[Routes, Inboxes]]:
    """Open five mailboxes of the given ``capacity``. They are closed at the end of the block."""
    with ExitStack() as stack:
        to_assembler, assembler = _mailbox(stack, anyio.create_memory_object_stream[AssemblerMail](capacity))
        to_drafter, drafter = _mailbox(stack, anyio.create_memory_object_stream[DrafterMail](capacity))
        to_verifier, verifier = _mailbox(stack, anyio.create_memory_object_stream[VerifierMail](capacity))
        to_router, router = _mailbox(stack, anyio.create_memory_object_stream[RouterMail](capacity))
        to_escalator, escalator = _mailbox(stack, anyio.create_memory_object_stream[EscalatorMail](capacity))
        routes = Routes(to_assembler, to_drafter, to_verifier, to_router, to_escalator)
        yield routes, Inboxes(assembler, drafter, verifier, router, escalator)


def _mailbox(
    stack: ExitStack, ends: tuple[MemoryObjectSendStream[Mail], MemoryObjectReceiveStream[Mail]]
) -> tuple[Deliver[Mail], Inbox[Mail]]:
    """Return how to send to a mailbox, and its receiving end; ``stack`` closes both ends."""
    for end in ends:
        stack.enter_context(end)
    address, inbox = ends

    async def send(message: Mail) -> None:
        try:
            address.send_nowait(message)  # usually there is room, and this costs a tenth of ``send``
        except anyio.WouldBlock:
            await address.send(message)

    return send, inbox
