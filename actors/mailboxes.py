"""The way from one actor to another: what is sent is in the journal before."""

from typing import TypeVar

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from actors.journal import AnyMail, message_entry
from protocols.messages import AssemblerMail, DrafterMail, EscalatorMail, RouterMail, VerifierMail
from protocols.ports import Journal

AnyM = TypeVar("AnyM", bound=AnyMail)


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
