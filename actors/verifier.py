"""The Verifier owns the scoring models. It turns candidates into scores and decides nothing."""

from typing import ClassVar, assert_never

import anyio
import msgspec

from arbiter.actors.actor import ActorContext, ConcurrentActor
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.requests import Call
from arbiter.protocols.errors import ProblemError
from arbiter.protocols.messages import (
    AuditStep,
    StepAudited,
    StepDrafted,
    StepRegenerated,
    StepScored,
    VerifierMail,
)
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import Audit, Candidate, Model, Rating, Scale


class Verifier(ConcurrentActor[VerifierMail]):
    """Scores candidates; at most ``in_flight`` of a scale's seat are at its model at once."""

    name: ClassVar[str] = "verifier"

    def __init__(self, inbox: Inbox[VerifierMail], context: ActorContext) -> None:
        super().__init__(inbox, context)
        calls, scorers = context.calls, context.models.scorers
        self._calls = calls
        self._scorers = {scale: seat.port for scale, seat in scorers.items()}
        self._flows = {scale: calls.flow(scale, seat) for scale, seat in scorers.items()}

    async def serve(self, message: VerifierMail) -> None:
        context, scale = message.context, message.context.task.policy.scale
        match message:
            case AuditStep(draft=draft, target=target):
                rewards = await self._rated(message, "prm", (draft, target), "audit")
                audit = Audit(draft=rewards[0].value, target=rewards[1].value)
                await self._mailboxes.to_assembler(
                    StepAudited(context=context, cause=message.id, audit=audit), self.name
                )
                return
            case StepDrafted(draft=draft):
                candidates: tuple[Candidate, ...] = (draft,)
            case StepRegenerated(targets=targets):
                candidates = targets
            case _:
                assert_never(message)
        if scale is None:
            raise ProblemError(f"the policy {type(context.task.policy).__name__} names no scale to score on")
        ratings = await self._rated(message, scale, candidates, scale)
        scored = tuple(
            msgspec.structs.replace(candidate, rating=rating)
            for candidate, rating in zip(candidates, ratings, strict=True)
        )
        await self._mailboxes.to_router(StepScored(context=context, cause=message.id, candidates=scored), self.name)

    async def _rated(
        self, message: VerifierMail, scale: Scale, candidates: tuple[Candidate, ...], model: Model
    ) -> list[Rating]:
        """A rating for each candidate, all asked for at the same time."""
        calls = [Call(self.name, message, model, index) for index in range(len(candidates))]
        if len(calls) == 1:
            return [await self._rate(message, scale, candidates[0], calls[0])]
        ratings: dict[int, Rating] = {}

        async def rate(index: int) -> None:
            ratings[index] = await self._rate(message, scale, candidates[index], calls[index])

        async with anyio.create_task_group() as tasks:
            for index in range(len(candidates)):
                tasks.start_soon(rate, index)
        return [ratings[index] for index in range(len(candidates))]

    async def _rate(self, message: VerifierMail, scale: Scale, candidate: Candidate, call: Call) -> Rating:
        context = message.context
        request = ScoreRequest(
            problem=context.task.id,
            step=context.step,
            scale=scale,
            transcript=context.transcript,
            candidate=candidate.text,
            author=candidate.author,
            separator=context.task.separator,
            call=call.id,
        )
        made = await self._calls.score(call, self._scorers[scale], self._flows[scale], request)
        return Rating(value=made.value, usage=made.usage, seconds=made.seconds, estimates=made.estimates)
