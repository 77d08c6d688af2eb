"""The Drafter owns the draft model. It drafts what it is asked for, and ahead of that what may be asked for next."""

from typing import ClassVar

import anyio

from arbiter.actors.actor import ActorContext, ConcurrentActor
from arbiter.actors.controllers import LookaheadControl
from arbiter.actors.future import Future
from arbiter.actors.generation import StepGenerator
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.transcripts import context_after, finish_reason
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import Entry, Predrafted
from arbiter.protocols.ids import call_id
from arbiter.protocols.messages import Context, DrafterMail, StepDrafted, Task
from arbiter.protocols.records import Candidate, LookaheadStats


class Drafter(ConcurrentActor[DrafterMail]):
    """Writes the draft of a step; at most ``in_flight`` requests of its seat are at the model at once.

    While its draft is scored, or the target writes another one, it drafts as many next steps on top of it as
    ``settings.lookahead`` says, as if it will be kept. Such a pre-draft is used for exactly the request that it
    answers, so that transcripts are the same as without; one that cannot be used any more is cancelled. Pre-drafts
    yield: none is begun unless there is room at the model, and when a draft that somebody waits for finds no room, a
    pre-draft gives way.

    To ``salvage`` is lossy: where another step was kept than a pre-draft was written for, it is offered all the same,
    as the draft of its step in the new context, and the policy decides about it there.
    """

    name: ClassVar[str] = "drafter"

    def __init__(self, inbox: Inbox[DrafterMail], context: ActorContext) -> None:
        super().__init__(inbox, context)
        model = context.models.draft
        if model is None:
            raise ConfigError("a Drafter needs a draft model, and the ring has none")
        self._writer = StepGenerator("draft", self.name, model, context.calls)
        self._journal = context.journal
        self._annotated = model.annotated
        self._control = LookaheadControl(context.settings.lookahead)
        self._salvage = context.settings.salvage
        self._ahead: dict[Task, list[_Predraft]] = {}

    async def serve(self, message: DrafterMail) -> None:
        context, policy = message.context, message.context.task.policy
        is_known = self._journal.recall(call_id(message.id, "draft", 0)) is not None
        draft = await (self._writer.candidate(message) if is_known else self._draft(message))
        drafted = StepDrafted(context=context, cause=message.id, draft=draft)
        if policy.score_kind is not None:
            await self._mailboxes.to_verifier(drafted, self.name)
        elif policy.decides:
            await self._mailboxes.to_router(drafted, self.name)
        else:
            await self._mailboxes.to_assembler(drafted, self.name)
        if policy.decides and not is_known:  # what comes next is known as well, or soon will be
            depth = self._control.depth(self._writer.load)
            if depth:
                await self._look_ahead(message, draft, depth)

    async def _draft(self, message: DrafterMail) -> Candidate:
        """The draft for ``message``, written ahead or now."""
        predraft, stale = self._take(message.context)
        if message.context.step and message.context.task.policy.decides:
            hits = predraft is not None and not stale  # as it does if the target writes the same step, too
            self._control.observe(hits or message.context.transcript.steps[-1].author == "draft")
        if predraft is not None:
            draft = await predraft.answer.wait()
            if draft is not None and (not stale or _fits(draft, predraft.context, message.context)):
                self._use(message, predraft, draft, stale)
                return draft
        self._make_room()
        return await self._writer.candidate(message)

    def _use(self, message: DrafterMail, predraft: "_Predraft", draft: Candidate, stale: bool) -> None:
        context, task = message.context, message.context.task
        if self._journal.kept:
            used = Predrafted(predraft.call, stale)
            name = call_id(message.id, "draft", 0)
            entry = Entry(name, self.name, used, message.id, task.id, task.sample, context.step)
            self._journal.note(entry)
        tokens = -draft.usage.completion_tokens
        self._registry.add_lookahead(task, LookaheadStats(hits=not stale, wasted_tokens=tokens, salvaged=stale))

    def _take(self, context: Context) -> "tuple[_Predraft | None, bool]":
        """The pre-draft for ``context``, and whether it is one for another context of the same step.

        All that cannot be used any more are dropped.
        """
        ahead = self._ahead.get(context.task, [])
        for predraft in ahead:
            if predraft.answers(context, self._annotated):
                predraft.take()
                return predraft, False
        stale = next((one for one in ahead if self._salvage and one.context.step == context.step and one.is_left), None)
        for predraft in ahead:
            if predraft is not stale:
                predraft.drop()
        if stale is not None:
            stale.take()
        return stale, True

    def _make_room(self) -> None:
        """If a draft that somebody waits for finds no room, a pre-draft at the model gives way."""
        if self._ahead and not self._writer.has_room:
            running = [one for ahead in self._ahead.values() for one in ahead if one.is_running and not one.taken]
            if running:
                running[-1].drop()

    async def _look_ahead(self, message: DrafterMail, draft: Candidate, most: int) -> None:
        """Draft next steps on top of ``draft``; lives until all of them are used, dropped, or the problem is closed."""
        task, context = message.context.task, message.context
        mine: list[_Predraft] = []
        try:
            for depth in range(1, most + 1):
                if finish_reason(context, draft) is not None:
                    break
                context = context_after(context, draft)
                known = (one for one in self._ahead.get(task, []) if one.answers(context, self._annotated))
                predraft = next(known, None)
                if predraft is None:
                    if not self._writer.has_room:
                        break
                    predraft = _Predraft(context, call_id(message.id, "draft", depth))
                    mine.append(predraft)
                    self._ahead.setdefault(task, []).append(predraft)
                    await self._write_ahead(message, predraft, depth)
                written = await predraft.answer.wait()
                if written is None:
                    break
                draft = written
            for predraft in mine:
                await predraft.over.wait()
        finally:
            self._forget(task, mine)

    async def _write_ahead(self, message: DrafterMail, predraft: "_Predraft", depth: int) -> None:
        """A pre-draft that fails is as if it had never been begun: its step is asked for in its turn."""
        task = message.context.task
        with predraft.scope:
            try:
                draft = await self._writer.candidate_ahead(message, predraft.context, depth)
            except Exception:  # the log has its cause
                predraft.answer.set(None)
            else:
                self._registry.add_lookahead(task, LookaheadStats(wasted_tokens=draft.usage.completion_tokens))
                predraft.answer.set(draft)
        if predraft.scope.cancelled_caught:
            predraft.drop()

    def _forget(self, task: Task, predrafts: "list[_Predraft]") -> None:
        left = [one for one in self._ahead.get(task, []) if one not in predrafts]
        if left:
            self._ahead[task] = left
        else:
            self._ahead.pop(task, None)


class _Predraft:
    """A draft that nobody has asked for yet; its ``answer`` is None if it failed or was dropped.

    ``over`` is set once it was taken, or dropped.
    """

    def __init__(self, context: Context, call: str) -> None:
        self.context = context
        self.call = call
        self.answer = Future[Candidate | None]()
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.taken = False

    def answers(self, context: Context, annotated: bool) -> bool:
        """Whether its request is the one that ``context`` leads to; authors count if the model is told them."""
        mine = self.context
        if annotated:
            return mine == context
        return (mine.step, mine.max_tokens) == (context.step, context.max_tokens) and _texts(mine) == _texts(context)

    @property
    def is_running(self) -> bool:
        return not self.answer.is_there

    @property
    def is_left(self) -> bool:
        """Whether it can still be used."""
        return not self.over.is_set()

    def take(self) -> None:
        """It is used, or will be once it is there."""
        self.taken = True
        self.over.set()

    def drop(self) -> None:
        """It cannot be used any more, or has to give way."""
        self.scope.cancel()
        self.answer.set(None)
        self.over.set()


def _texts(context: Context) -> list[str]:
    return [step.text for step in context.transcript.steps]


def _fits(draft: Candidate, written_for: Context, context: Context) -> bool:
    """Whether ``draft`` keeps the limits of ``context``, and was not cut by narrower ones."""
    if draft.stop_reason == "limit":
        return written_for.max_tokens == context.max_tokens
    return draft.usage.completion_tokens <= context.max_tokens
