"""The Verifier owns the scoring models. It scores candidates and decides nothing."""

from typing import ClassVar, assert_never

import anyio
import msgspec

from arbiter.actors.actor import ActorContext, ConcurrentActor
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.requests import ModelRequest
from arbiter.protocols.errors import ProblemError
from arbiter.protocols.events import CallScored, Entry, Prescored
from arbiter.protocols.ids import call_id
from arbiter.protocols.messages import (
    AuditStep,
    Context,
    StepAudited,
    StepDrafted,
    StepRegenerated,
    StepScored,
    Task,
    VerifierMail,
)
from arbiter.protocols.model_traits import ScoresBlocks
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import AuditScores, Candidate, Model, Rating, ScoreKind


class Verifier(ConcurrentActor[VerifierMail]):
    """Scores candidates, with at most ``in_flight`` concurrent requests to each scoring model.

    The drafts of a block are scored in one request by a model that can (``ScoresBlocks``). Each of these scores is only
    used for exactly the request that it answers, so transcripts do not change. If the request for a block fails, its
    first draft is scored alone.
    """

    name: ClassVar[str] = "verifier"

    def __init__(self, inbox: Inbox[VerifierMail], context: ActorContext) -> None:
        super().__init__(inbox, context)
        calls, scorers = context.calls, context.models.scorers
        self._calls = calls
        self._journal = context.journal
        self._blocks: dict[Task, list[tuple[ScoreRequest, Prescored, Rating]]] = {}
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
        rating = await self._rated_together(message, score_kind) if isinstance(message, StepDrafted) else None
        ratings = [rating] if rating else await self._rated(message, score_kind, candidates, score_kind)
        scored = [
            msgspec.structs.replace(candidate, rating=rating)
            for candidate, rating in zip(candidates, ratings, strict=True)
        ]
        await self._mailboxes.to_router(StepScored(context, message.id, tuple(scored)), self.name)

    async def _rated_together(self, message: StepDrafted, score_kind: ScoreKind) -> Rating | None:
        """Return the rating of a draft from the request for its block; None if it has none."""
        task, own = message.context.task, call_id(message.id, score_kind, 0)
        if self._journal.kept and self._journal.recall(own) is not None:
            return None
        if message.following:
            await self._rate_block(message, score_kind)
        request = _request(message.context, message.draft, score_kind)
        for scored, used, rating in self._blocks.get(task, ()):
            if scored == request:
                if self._journal.kept:
                    step = message.context.step
                    self._journal.note(
                        Entry(own, self.name, used, message.id, task.id, task.sample, step, derived=True)
                    )
                return rating
        return None

    async def _rate_block(self, message: StepDrafted, score_kind: ScoreKind) -> None:
        """Score the drafts of a block in one request, if the scorer can. Replaces the scores of the block before it."""
        scorer, call = self._scorers[score_kind], ModelRequest(self.name, message, score_kind, 1)
        if not isinstance(scorer, ScoresBlocks) or not scorer.scores_blocks:
            return
        drafts = ((message.context, message.draft), *message.following)
        requests = tuple(_request(context, draft, score_kind) for context, draft in drafts)
        sent = tuple(msgspec.structs.replace(request, call=call.id) for request in requests)
        try:
            answer = await self._calls.score_block(call, scorer, self._limiters[score_kind], sent)
        except Exception:  # the log has the error
            return
        self._registry.when_closed(message.context.task, self._forget)
        self._blocks[message.context.task] = [
            (request, Prescored(call.id, score_kind, index), _rating(answer.at(index)))
            for index, request in enumerate(requests)
        ]

    def _forget(self, task: Task) -> None:
        self._blocks.pop(task, None)

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
        call = ModelRequest(self.name, message, model, index)
        request = msgspec.structs.replace(_request(message.context, candidate, score_kind), call=call.id)
        return _rating(await self._calls.score(call, self._scorers[score_kind], self._limiters[score_kind], request))


def _request(context: Context, candidate: Candidate, score_kind: ScoreKind) -> ScoreRequest:
    task = context.task
    return ScoreRequest(
        task.id,
        context.step,
        score_kind,
        context.transcript,
        candidate.text,
        candidate.author,
        task.separator,
        token_ids=candidate.token_ids,
    )


def _rating(answer: CallScored) -> Rating:
    return Rating(answer.value, answer.usage, answer.seconds, answer.estimates)
