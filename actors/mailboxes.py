"""The mailboxes of the five actors. Each message is recorded in the journal before it is sent."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from arbiter.actors.journal import AnyMail, message_entry
from arbiter.protocols.messages import AssemblerMail, DrafterMail, EscalatorMail, RouterMail, VerifierMail
from arbiter.protocols.ports import Journal

AnyM = TypeVar("AnyM", bound=AnyMail)
Mail = TypeVar("Mail")

Inbox = MemoryObjectReceiveStream
"""The receiving end of an actor's mailbox, with the union of its messages: ``Inbox[VerifierMail]``."""


class Inboxes(msgspec.Struct, frozen=True):
    """The receiving ends of the five mailboxes."""

    assembler: Inbox[AssemblerMail]
    drafter: Inbox[DrafterMail]
    verifier: Inbox[VerifierMail]
    router: Inbox[RouterMail]
    escalator: Inbox[EscalatorMail]


class Mailboxes:
    """Sends messages to the five actors. Each message is recorded in the journal first.

    The methods take the message and the name of the sending actor, and wait for room in the mailbox.
    """

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
            address.send_nowait(message)  # usually there is room, and this costs a tenth of ``send``
        except anyio.WouldBlock:
            await address.send(message)


@contextmanager
def open_mailboxes(capacity: int, journal: Journal) -> Generator[tuple[Mailboxes, Inboxes]]:
    """Open five mailboxes of the given ``capacity``. They are closed at the end of the block."""
    with ExitStack() as stack:
        to_assembler, assembler = _both(stack, anyio.create_memory_object_stream[AssemblerMail](capacity))
        to_drafter, drafter = _both(stack, anyio.create_memory_object_stream[DrafterMail](capacity))
        to_verifier, verifier = _both(stack, anyio.create_memory_object_stream[VerifierMail](capacity))
        to_router, router = _both(stack, anyio.create_memory_object_stream[RouterMail](capacity))
        to_escalator, escalator = _both(stack, anyio.create_memory_object_stream[EscalatorMail](capacity))
        mailboxes = Mailboxes(to_assembler, to_drafter, to_verifier, to_router, to_escalator, journal)
        yield mailboxes, Inboxes(assembler, drafter, verifier, router, escalator)


def _both(
    stack: ExitStack, ends: tuple[MemoryObjectSendStream[Mail], MemoryObjectReceiveStream[Mail]]
) -> tuple[MemoryObjectSendStream[Mail], MemoryObjectReceiveStream[Mail]]:
    """Return both ends of a mailbox; ``stack`` closes them."""
    for end in ends:
        stack.enter_context(end)
    return ends
