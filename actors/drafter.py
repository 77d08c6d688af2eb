"""The Drafter owns the draft model."""

from typing import ClassVar

from anyio.streams.memory import MemoryObjectReceiveStream

from actors.actor import Actor, Posts
from actors.calls import Calls
from actors.docket import Docket
from actors.writing import Writer
from protocols.messages import DrafterMail, StepDrafted
from protocols.ports import Generator, Seat


class Drafter(Actor[DrafterMail]):
    """Writes the draft of a step; at most ``model.in_flight`` requests are at the model at once."""

    name: ClassVar[str] = "drafter"

    def __init__(
        self,
        inbox: MemoryObjectReceiveStream[DrafterMail],
        posts: Posts,
        docket: Docket,
        calls: Calls,
        model: Seat[Generator],
    ) -> None:
        super().__init__(inbox, posts, docket)
        self._writer = Writer("draft", self.name, model, calls)

    async def serve(self, message: DrafterMail) -> None:
        context, policy = message.context, message.context.task.policy
        draft = await self._writer.candidate(message)
        drafted = StepDrafted(context=context, cause=message.id, draft=draft)
        if policy.scale is not None:
            await self._posts.to_verifier(drafted, self.name)
        elif policy.decides:
            await self._posts.to_router(drafted, self.name)
        else:
            await self._posts.to_assembler(drafted, self.name)
