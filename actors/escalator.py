"""The Escalator owns the target model or models."""

from typing import ClassVar, assert_never

import anyio

from arbiter.actors.actor import ActorContext, ConcurrentActor
from arbiter.actors.controllers import Verify, VerifyControl
from arbiter.actors.gathering import Gathering, Gatherings
from arbiter.actors.generation import StepGenerator
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.policies import target_names
from arbiter.protocols.messages import Context, EscalateStep, EscalatorMail, GlimpseStep, StepGlimpsed, StepRegenerated
from arbiter.protocols.ports import Gather, Generator, ModelHandle, Proposal
from arbiter.protocols.records import Candidate

_AT_ONCE = Gather(0.0)


class Escalator(ConcurrentActor[EscalatorMail]):
    """Has a target write the samples of a step, with at most ``in_flight`` concurrent requests to each target.

    ``models.target`` is for policies with a single target, and ``models.targets`` for policies that name several. At
    temperature 0 the target may get a rejected draft as a proposal, as ``settings.verify`` says. It then keeps the
    prefix that it would have written itself.

    Requests that replace a rejected draft gather at a target whose ``ModelHandle`` says so (``gather``).
    """

    name: ClassVar[str] = "escalator"

    def __init__(self, inbox: Inbox[EscalatorMail], context: ActorContext) -> None:
        super().__init__(inbox, context)
        model, targets = context.models.target, context.models.targets
        self._calls = context.calls
        self._handles = targets
        self._models = context.models
        self._verify: Verify = context.settings.verify
        self._gatherings = Gatherings(context.registry)
        known = {**targets} if model is None else {"": model, **targets}
        self._gathers = any(handle.gather is not None for handle in known.values())
        self._targets = {name: self._make_target(name, handle) for name, handle in known.items()}

    async def serve(self, message: EscalatorMail) -> None:
        match message:
            case GlimpseStep():
                name = next(iter(target_names(message.context.task.policy.targets)), "")
                glimpse = await self._target(name).writer.glimpse(message)
                await self._mailboxes.to_router(StepGlimpsed(message.context, message.id, glimpse), self.name)
            case EscalateStep():
                await self._serve_step(message)
            case _:
                assert_never(message)

    async def _serve_step(self, message: EscalateStep) -> None:
        context, policy = message.context, message.context.task.policy
        as_usual = policy.proposes(context.step) == policy.proposers
        judged = policy.score_kind is not None and "target" in policy.proposers and as_usual
        if message.draft is not None and context.task.can_verify and _is_plain(context, message.draft):
            targets = (await self._rewrite(message, message.draft),)
        elif message.draft is not None or message.glimpse is not None:
            target = self._target(message.target)
            targets = (await target.writer.candidate(message, gathering=target.gathering),)
        else:
            samples = context.task.sampling.target_samples if judged else 1
            targets = await self._write(message, target_names(policy.targets) or ("",), samples)
        regenerated = StepRegenerated(context, message.id, targets, message.draft, message.glimpse)
        if judged:
            await self._mailboxes.to_verifier(regenerated, self.name)
        else:
            await self._mailboxes.to_assembler(regenerated, self.name)

    async def _rewrite(self, message: EscalateStep, draft: Candidate) -> Candidate:
        target = self._target(message.target)
        proposal = Proposal(draft.text, draft.stop_reason) if target.control.shows() else None
        written = await target.writer.candidate(message, proposal=proposal, gathering=target.gathering)
        target.control.observe(written.prefix_match is not None, written.usage.completion_tokens, written.seconds)
        return written

    async def _write(self, message: EscalateStep, names: tuple[str, ...], samples: int) -> tuple[Candidate, ...]:
        """Write all samples of all targets concurrently. Return them in order."""
        requested = [(name, sample) for name in names for sample in range(samples)]
        if len(requested) == 1:
            return (await self._target(names[0]).writer.candidate(message),)
        written: dict[int, Candidate] = {}

        async def write(index: int, name: str, sample: int) -> None:
            written[index] = await self._target(name).writer.candidate(message, sample, index=index)

        async with anyio.create_task_group() as tasks:
            for index, (name, sample) in enumerate(requested):
                tasks.start_soon(write, index, name, sample)
        return tuple(written[index] for index in range(len(requested)))

    def _target(self, name: str) -> "_Target":
        if name not in self._targets:  # a recorded run adds the names only when they are used
            self._targets[name] = self._make_target(name, self._handles[name])
        return self._targets[name]

    def _make_target(self, name: str, handle: ModelHandle[Generator]) -> "_Target":
        writer = StepGenerator("target", self.name, handle, self._calls, self._models, name)
        # where one target gathers, those that wait for another one count as problems that cannot join
        gathering = self._gatherings.gathering(handle.gather or _AT_ONCE) if self._gathers else None
        return _Target(writer, VerifyControl(self._verify), gathering)


def _is_plain(context: Context, draft: Candidate) -> bool:
    """Whether the text of ``draft`` is what its model wrote. Models write calls in different forms."""
    before = context.transcript.steps
    return not draft.calls and draft.valid is not False and not (before and before[-1].calls)


class _Target:
    """A target, with its own controller: verifying drafts can save time with one target and not with another."""

    def __init__(self, writer: StepGenerator, control: VerifyControl, gathering: Gathering | None) -> None:
        self.writer = writer
        self.control = control
        self.gathering = gathering
