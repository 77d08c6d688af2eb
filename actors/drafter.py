"""The Drafter owns the draft model."""

from typing import ClassVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from actors.actor import Actor, Posts
from actors.docket import Docket
from actors.writing import write_candidate
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
        model: Seat[Generator],
    ) -> None:
        super().__init__(inbox, posts, docket)
        self._generator = model.port
        self._limiter = anyio.CapacityLimiter(model.in_flight)

    async def serve(self, message: DrafterMail) -> None:
        context, policy = message.context, message.context.task.policy
        draft = await write_candidate(self._generator, self._limiter, self._docket, context, "draft")
        drafted = StepDrafted(context=context, cause=message.id, draft=draft)
        if policy.scale is not None:
            await self._posts.verifier.send(drafted)
        elif policy.decides:
            await self._posts.router.send(drafted)
        else:
            await self._posts.assembler.send(drafted)
