"""The Verifier owns the scoring models. It scores candidates and decides nothing."""

from typing import ClassVar, assert_never

import anyio
import msgspec

from arbiter.actors.actor import ActorContext, ConcurrentActor
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.requests import ModelRequest
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
from arbiter.protocols.records import AuditScores, Candidate, Model, Rating, ScoreKind


class Verifier(ConcurrentActor[VerifierMail]):
    """Scores candidates, with at most ``in_flight`` concurrent requests to each scoring model."""

    name: ClassVar[str] = "verifier"

    def __init__(self, inbox: Inbox[VerifierMail], context: ActorContext) -> None:
        super().__init__(inbox, context)
        calls, scorers = context.calls, context.models.scorers
        self._calls = calls
        self._scorers = {score_kind: handle.port for score_kind, handle in scorers.items()}
        self._limiters = {score_kind: calls.limiter(score_kind, handle) for score_kind, handle in scorers.items()}

    async def serve(self, message: VerifierMail) -> None:
        context, score_kind = message.context, message.context.task.policy.score_kind
        match message:
            case AuditStep(draft=draft, target=target):
                rewards = await self._rated(message, "prm", (draft, target), "audit")
                audit = AuditScores(draft=rewards[0].value, target=rewards[1].value)
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
        if score_kind is None:
            raise ProblemError(f"the policy {type(context.task.policy).__name__} sets no score_kind")
        ratings = await self._rated(message, score_kind, candidates, score_kind)
        scored = [
            msgspec.structs.replace(candidate, rating=rating)
            for candidate, rating in zip(candidates, ratings, strict=True)
        ]
        await self._mailboxes.to_router(StepScored(context, message.id, tuple(scored)), self.name)

    async def _rated(
        self, message: VerifierMail, score_kind: ScoreKind, candidates: tuple[Candidate, ...], model: Model
    ) -> list[Rating]:
        """Return a rating for each candidate, all requested concurrently."""
        if len(candidates) == 1:
            return [await self._rate(message, score_kind, candidates[0], model, 0)]
        ratings: dict[int, Rating] = {}

        async def rate(index: int) -> None:
            ratings[index] = await self._rate(message, score_kind, candidates[index], model, index)

        async with anyio.create_task_group() as tasks:
            for index in range(len(candidates)):
                tasks.start_soon(rate, index)
        return [ratings[index] for index in range(len(candidates))]

    async def _rate(
        self, message: VerifierMail, score_kind: ScoreKind, candidate: Candidate, model: Model, index: int
    ) -> Rating:
        context, call = message.context, ModelRequest(self.name, message, model, index)
        request = ScoreRequest(
            context.task.id,
            context.step,
            score_kind,
            context.transcript,
            candidate.text,
            candidate.author,
            context.task.separator,
            call.id,
            candidate.token_ids,
        )
        answer = await self._calls.score(call, self._scorers[score_kind], self._limiters[score_kind], request)
        return Rating(answer.value, answer.usage, answer.seconds, answer.estimates)
