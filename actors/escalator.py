"""The Escalator owns the target model."""

from typing import ClassVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from actors.actor import Posts, Working
from actors.calls import Calls
from actors.controllers import VerifyControl
from actors.docket import Docket
from actors.writing import Writer
from protocols.messages import EscalatorMail, StepRegenerated
from protocols.ports import Generator, Proposal, Seat
from protocols.records import Candidate


class Escalator(Working[EscalatorMail]):
    """Has the target write a step, as often as the task asks for; at most ``model.in_flight`` requests at once.

    At temperature 0 a rejected draft may go along as a proposal, where ``control`` says so: what the target would have
    written itself it then need not write.
    """

    name: ClassVar[str] = "escalator"

    def __init__(
        self,
        inbox: MemoryObjectReceiveStream[EscalatorMail],
        posts: Posts,
        docket: Docket,
        calls: Calls,
        model: Seat[Generator],
        control: VerifyControl,
    ) -> None:
        super().__init__(inbox, posts, docket)
        self._writer = Writer("target", self.name, model, calls)
        self._control = control

    async def serve(self, message: EscalatorMail) -> None:
        context, policy = message.context, message.context.task.policy
        judged = policy.scale is not None and "target" in policy.proposers
        if message.draft is not None and context.task.sampling.temperature == 0:
            targets = (await self._rewrite(message, message.draft),)
        else:
            targets = await self._write(message, context.task.sampling.target_samples if judged else 1)
        regenerated = StepRegenerated(context=context, cause=message.id, targets=targets, draft=message.draft)
        if judged:
            await self._posts.to_verifier(regenerated, self.name)
        else:
            await self._posts.to_assembler(regenerated, self.name)

    async def _rewrite(self, message: EscalatorMail, draft: Candidate) -> Candidate:
        proposal = Proposal(draft.text, draft.ending) if self._control.shows() else None
        written = await self._writer.candidate(message, proposal=proposal)
        self._control.observe(written.agreement is not None, written.usage.completion_tokens, written.seconds)
        return written

    async def _write(self, message: EscalatorMail, samples: int) -> tuple[Candidate, ...]:
        """All samples at the same time, in their order."""
        if samples == 1:
            return (await self._writer.candidate(message),)
        written: dict[int, Candidate] = {}

        async def write(sample: int) -> None:
            written[sample] = await self._writer.candidate(message, sample)

        async with anyio.create_task_group() as tasks:
            for sample in range(samples):
                tasks.start_soon(write, sample)
        return tuple(written[sample] for sample in range(samples))
