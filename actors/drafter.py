"""The Drafter owns the draft model."""

from typing import ClassVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from actors.actor import Actor, Posts
from actors.docket import Docket
from actors.writing import write_candidate
from protocols.messages import DrafterMail, StepDrafted
from protocols.ports import Generator


class Drafter(Actor[DrafterMail]):
    """Writes the draft of a step; at most ``in_flight`` requests are at the model at once."""

    name: ClassVar[str] = "drafter"

    def __init__(
        self,
        inbox: MemoryObjectReceiveStream[DrafterMail],
        posts: Posts,
        docket: Docket,
        generator: Generator,
        in_flight: int,
    ) -> None:
        super().__init__(inbox, posts, docket)
        self._generator = generator
        self._limiter = anyio.CapacityLimiter(in_flight)

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
