"""The Escalator owns the target model, or several of them."""

from typing import ClassVar

import anyio

from arbiter.actors.actor import ActorContext, ConcurrentActor
from arbiter.actors.controllers import Verify, VerifyControl
from arbiter.actors.generation import StepGenerator
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.policies import target_names
from arbiter.protocols.messages import EscalatorMail, StepRegenerated
from arbiter.protocols.ports import Generator, ModelHandle, Proposal
from arbiter.protocols.records import Candidate


class Escalator(ConcurrentActor[EscalatorMail]):
    """Has a target write a step, as often as the task asks for; at most ``in_flight`` requests are at each at once.

    ``models.target`` is the one that policies ask which know a single target, ``models.targets`` are the others', by
    name. At temperature 0 a rejected draft may go along as a proposal, as ``settings.verify`` says: what the target
    would have written itself it then need not write.
    """

    name: ClassVar[str] = "escalator"

    def __init__(self, inbox: Inbox[EscalatorMail], context: ActorContext) -> None:
        super().__init__(inbox, context)
        model, targets = context.models.target, context.models.targets
        self._calls = context.calls
        self._seats = targets
        self._verify: Verify = context.settings.verify
        known = {**targets} if model is None else {"": model, **targets}
        self._targets = {name: self._at(name, handle) for name, handle in known.items()}

    async def serve(self, message: EscalatorMail) -> None:
        context, policy = message.context, message.context.task.policy
        judged = policy.score_kind is not None and "target" in policy.proposers
        if message.draft is not None and context.task.sampling.temperature == 0:
            targets = (await self._rewrite(message, message.draft),)
        elif message.draft is not None:
            targets = await self._write(message, (message.target,), 1)
        else:
            samples = context.task.sampling.target_samples if judged else 1
            targets = await self._write(message, target_names(policy.targets) or ("",), samples)
        regenerated = StepRegenerated(context=context, cause=message.id, targets=targets, draft=message.draft)
        if judged:
            await self._mailboxes.to_verifier(regenerated, self.name)
        else:
            await self._mailboxes.to_assembler(regenerated, self.name)

    async def _rewrite(self, message: EscalatorMail, draft: Candidate) -> Candidate:
        target = self._target(message.target)
        proposal = Proposal(draft.text, draft.stop_reason) if target.control.shows() else None
        written = await target.writer.candidate(message, proposal=proposal)
        target.control.observe(written.prefix_match is not None, written.usage.completion_tokens, written.seconds)
        return written

    async def _write(self, message: EscalatorMail, names: tuple[str, ...], samples: int) -> tuple[Candidate, ...]:
        """All samples of all targets at the same time, in their order."""
        asked = [(name, sample) for name in names for sample in range(samples)]
        if len(asked) == 1:
            return (await self._target(names[0]).writer.candidate(message),)
        written: dict[int, Candidate] = {}

        async def write(index: int, name: str, sample: int) -> None:
            written[index] = await self._target(name).writer.candidate(message, sample, index=index)

        async with anyio.create_task_group() as tasks:
            for index, (name, sample) in enumerate(asked):
                tasks.start_soon(write, index, name, sample)
        return tuple(written[index] for index in range(len(asked)))

    def _target(self, name: str) -> "_Target":
        if name not in self._targets:  # of a recorded run, which knows no names before they are asked
            self._targets[name] = self._at(name, self._seats[name])
        return self._targets[name]

    def _at(self, name: str, handle: ModelHandle[Generator]) -> "_Target":
        return _Target(StepGenerator("target", self.name, handle, self._calls, name), VerifyControl(self._verify))


class _Target:
    """A target: who asks it, and whether it is shown rejected drafts, which pays for one and not for another."""

    def __init__(self, writer: StepGenerator, control: VerifyControl) -> None:
        self.writer = writer
        self.control = control
