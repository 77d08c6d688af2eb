"""The Drafter owns the draft model. It writes the requested drafts, and drafts ahead what may be requested next."""

from typing import ClassVar, assert_never

from arbiter.actors.actor import ActorContext, ConcurrentActor
from arbiter.actors.controllers import LookaheadControl
from arbiter.actors.generation import StepGenerator
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.predrafts import Block, Predraft, block_of, fits, write_block
from arbiter.actors.transcripts import context_after, finish_reason
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import Entry, Predrafted
from arbiter.protocols.ids import call_id
from arbiter.protocols.messages import Context, DrafterMail, DraftStep, GlimpseStep, StepDrafted, StepGlimpsed, Task
from arbiter.protocols.records import Candidate, LookaheadStats


class Drafter(ConcurrentActor[DrafterMail]):
    """Writes the draft of a step, with at most ``in_flight`` concurrent requests to the model.

    While a draft is scored or replaced, the Drafter writes up to ``settings.lookahead`` further steps after it, as if
    it will be kept. Such a pre-draft is only used for exactly the request that it answers, so transcripts do not
    change. A pre-draft that cannot be used any more is cancelled. Pre-drafts yield to other requests: none is started
    without a free slot, and one is cancelled if a requested draft finds no free slot.

    With a ``settings.block`` above 1 it writes so many steps before it sends the first of them, so that they are scored
    together. A model that can (``WritesBlocks``) writes them in one request. Each is used as a pre-draft is, and so is
    each further call of an answer with several.

    ``settings.salvage`` can change transcripts. With it, a pre-draft is also used if a different step was kept than it
    was written for. It becomes the draft in the new context, and the policy decides about it. One that has calls, or
    ends an answer that must fit a schema, is not used: it was checked together with the steps before it.
    """

    name: ClassVar[str] = "drafter"

    def __init__(self, inbox: Inbox[DrafterMail], context: ActorContext) -> None:
        super().__init__(inbox, context)
        model = context.models.draft
        if model is None:
            raise ConfigError("a Drafter needs a draft model, but the ring has none")
        self._writer = StepGenerator("draft", self.name, model, context.calls, context.models)
        self._journal = context.journal
        self._annotated = model.annotated
        self._control = LookaheadControl(context.settings.lookahead)
        self._salvage = context.settings.salvage
        self._block = context.settings.block
        self._ahead: dict[Task, list[Predraft]] = {}

    async def serve(self, message: DrafterMail) -> None:
        match message:
            case GlimpseStep():
                glimpse = await self._writer.glimpse(message)
                await self._mailboxes.to_router(StepGlimpsed(message.context, message.id, glimpse), self.name)
            case DraftStep():
                await self._serve_draft(message)
            case _:
                assert_never(message)

    async def _serve_draft(self, message: DraftStep) -> None:
        context, policy = message.context, message.context.task.policy
        is_known = self._journal.kept and self._journal.recall(call_id(message.id, "draft", 0)) is not None
        in_blocks = self._block > 1 and policy.decides and policy.proposers == ("draft",) and message.glimpse is None
        if in_blocks and not is_known:
            await self._serve_block(message)
            return
        draft, *others = [await self._writer.candidate(message)] if is_known else await self._draft(message)
        if others:
            await self._send_block(message, draft, block_of(self._registry, message, draft, others))
            return
        goes_on = await self._send(message, draft)
        if goes_on and not is_known:  # after a recorded draft the next one is usually recorded, too
            depth = self._control.depth(self._writer.load)
            if depth:
                self._mailboxes.flush(context.task)
                await self._look_ahead(message, draft, depth)

    async def _send(
        self, message: DraftStep, draft: Candidate, following: tuple[tuple[Context, Candidate], ...] = ()
    ) -> bool:
        """Send a draft on. Return whether it is still to be decided whether it is kept."""
        policy = message.context.task.policy
        drafted = StepDrafted(message.context, message.id, draft, message.glimpse, following)
        is_rejected = draft.valid is False and policy.decides  # the policy is not asked, so no score is needed
        is_decided = not policy.decides or message.glimpse is not None
        if policy.score_kind is not None and not is_rejected:
            await self._mailboxes.to_verifier(drafted, self.name)
        elif is_rejected or not is_decided:
            await self._mailboxes.to_router(drafted, self.name)
        else:
            await self._mailboxes.to_assembler(drafted, self.name)
        return not is_decided and not is_rejected  # after a glimpse, the next step needs one before its draft

    async def _serve_block(self, message: DraftStep) -> None:
        """Send a draft of the current block, or write the next block and send its first draft.

        Returns when all of the block is used or dropped; closing the problem cancels it.
        """
        predraft, _ = self._take(message.context)
        draft = None if predraft is None else await predraft.answer.wait()
        if predraft is not None and draft is not None:
            self._use(message, predraft, draft, False)
            await self._send(message, draft)
            return
        await self._send_block(message, *await write_block(self._writer, self._registry, message, self._block))

    async def _send_block(self, message: DraftStep, draft: Candidate, block: Block) -> None:
        """Send a draft on, with those after it, which are scored together if blocks are.

        Returns when all of the block is used or dropped.
        """
        task, predrafts = message.context.task, [one for one, _ in block]
        following = tuple((one.context, written) for one, written in block) if self._block > 1 else ()
        self._ahead.setdefault(task, []).extend(predrafts)
        try:
            if await self._send(message, draft, following) and block:
                self._mailboxes.flush(task)
                for predraft in predrafts:
                    await predraft.done.wait()
        finally:
            self._forget(task, predrafts)

    async def _draft(self, message: DraftStep) -> list[Candidate]:
        """Return the draft for ``message``: one that was drafted ahead, or a new one with those that follow it."""
        predraft, stale = self._take(message.context)
        if message.context.step and message.context.task.policy.decides and message.glimpse is None:
            hits = predraft is not None and not stale  # a hit, too, if the target wrote the same step as the draft
            self._control.observe(hits or message.context.transcript.steps[-1].author == "draft")
        if predraft is not None:
            draft = await predraft.answer.wait()
            if draft is not None and (not stale or fits(draft, predraft.context, message.context)):
                self._use(message, predraft, draft, stale)
                return [draft]
        self._make_room()
        return await self._writer.candidates(message)

    def _use(self, message: DraftStep, predraft: Predraft, draft: Candidate, stale: bool) -> None:
        context, task = message.context, message.context.task
        if self._journal.kept:
            used = Predrafted(predraft.call, stale, predraft.index)
            name = call_id(message.id, "draft", 0)
            entry = Entry(name, self.name, used, message.id, task.id, task.sample, context.step, derived=True)
            self._journal.note(entry)
        tokens = -draft.usage.completion_tokens
        self._registry.add_lookahead(task, LookaheadStats(hits=not stale, wasted_tokens=tokens, salvaged=stale))

    def _take(self, context: Context) -> tuple[Predraft | None, bool]:
        """Return the pre-draft to use for ``context``, and whether it was written for another context of the same step.

        Pre-drafts that cannot be used any more are dropped.
        """
        ahead = self._ahead.get(context.task, [])
        for predraft in ahead:
            if predraft.answers(context, self._annotated):
                predraft.take()
                return predraft, False
        stale = next(
            (one for one in ahead if self._salvage and one.context.step == context.step and one.is_usable), None
        )
        for predraft in ahead:
            if predraft is not stale:
                predraft.drop()
        if stale is not None:
            stale.take()
        return stale, True

    def _make_room(self) -> None:
        """Cancel a running pre-draft if the model has no free slot for a requested draft."""
        if self._ahead and not self._writer.has_room:
            running = [one for ahead in self._ahead.values() for one in ahead if one.is_running and not one.taken]
            if running:
                running[-1].drop()

    async def _look_ahead(self, message: DraftStep, draft: Candidate, most: int) -> None:
        """Draft the steps after ``draft``. Returns when all are used or dropped; closing the problem cancels it."""
        task, context = message.context.task, message.context
        started: list[Predraft] = []
        try:
            for depth in range(1, most + 1):
                if finish_reason(context, draft) is not None:
                    break
                context = context_after(context, draft)
                if "draft" not in task.policy.proposes(context.step):
                    break
                known = (one for one in self._ahead.get(task, []) if one.answers(context, self._annotated))
                predraft = next(known, None)
                if predraft is None:
                    if not self._writer.has_room:
                        break
                    predraft = Predraft(context, call_id(message.id, "draft", depth))
                    started.append(predraft)
                    self._ahead.setdefault(task, []).append(predraft)
                    await self._write_ahead(message, predraft, depth)
                written = await predraft.answer.wait()
                if written is None:
                    break
                draft = written
            for predraft in started:
                await predraft.done.wait()
        finally:
            self._forget(task, started)

    async def _write_ahead(self, message: DraftStep, predraft: Predraft, depth: int) -> None:
        """Write one pre-draft. If it fails, its step is drafted when it is requested."""
        task = message.context.task
        with predraft.scope:
            try:
                draft = await self._writer.candidate_ahead(message, predraft.context, depth)
            except Exception:  # the log has the error
                predraft.answer.set(None)
            else:
                self._registry.add_lookahead(task, LookaheadStats(wasted_tokens=draft.usage.completion_tokens))
                predraft.answer.set(draft)
        if predraft.scope.cancelled_caught:
            predraft.drop()

    def _forget(self, task: Task, predrafts: list[Predraft]) -> None:
        left = [one for one in self._ahead.get(task, []) if one not in predrafts]
        if left:
            self._ahead[task] = left
        else:
            self._ahead.pop(task, None)
