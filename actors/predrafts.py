"""Drafts that are written before their steps are requested: one by one while a step is decided, or in blocks."""

from collections.abc import Sequence

import anyio

from arbiter.actors.future import Future
from arbiter.actors.generation import StepGenerator
from arbiter.actors.registry import ProblemRegistry
from arbiter.actors.transcripts import context_after, finish_reason
from arbiter.protocols.ids import call_id
from arbiter.protocols.messages import Context, DraftStep
from arbiter.protocols.records import Candidate, LookaheadStats


class Predraft:
    """A draft that was started ahead. ``answer`` is None if it failed or was dropped.

    ``index`` counts the steps that the request ``call`` wrote. ``done`` is set when the pre-draft is taken or dropped.
    """

    def __init__(self, context: Context, call: str, index: int = 0) -> None:
        self.context = context
        self.call = call
        self.index = index
        self.answer = Future[Candidate | None]()
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.taken = False

    def answers(self, context: Context, annotated: bool) -> bool:
        """Whether its request is the same as the one for ``context``. Authors count if the prompt names them."""
        own = self.context
        if annotated:
            return own.request == context.request
        return (own.step, own.max_tokens) == (context.step, context.max_tokens) and _texts(own) == _texts(context)

    @property
    def is_running(self) -> bool:
        return not self.answer.is_there

    @property
    def is_usable(self) -> bool:
        """Whether it can still be taken."""
        return not self.done.is_set()

    def take(self) -> None:
        """Use it, now or when its answer arrives."""
        self.taken = True
        self.done.set()

    def drop(self) -> None:
        """Cancel it: it cannot be used any more, or its slot is needed."""
        self.scope.cancel()
        self.answer.set(None)
        self.done.set()


def _texts(context: Context) -> list[str]:
    return [step.text for step in context.transcript.steps]


def fits(draft: Candidate, written_for: Context, context: Context) -> bool:
    """Whether ``draft`` respects the limits of ``context``, and was not cut by smaller ones.

    One that was checked against the rules of the answer fits only where it was written: the steps before it count.
    """
    if draft.valid is not None:
        return False
    if draft.stop_reason == "limit":
        return written_for.max_tokens == context.max_tokens
    return draft.usage.completion_tokens <= context.max_tokens


Block = list[tuple[Predraft, Candidate]]
"""The drafts of a block after the first one, in the order of their steps."""


async def write_block(
    writer: StepGenerator, registry: ProblemRegistry, message: DraftStep, steps: int
) -> tuple[Candidate, Block]:
    """Return the draft for ``message``, and up to ``steps`` − 1 drafts after it, as if each will be kept.

    The block ends early with a draft that ends the problem or breaks the rules of the answer, before a step that the
    policy gives to the target, and where a request ahead fails. Raises only if the first draft fails.
    """
    if not writer.writes_blocks(message.context.task):
        return await _write_one_by_one(writer, registry, message, steps)
    first, *others = await writer.block(message, steps)
    return first, block_of(registry, message, first, others)


def block_of(registry: ProblemRegistry, message: DraftStep, first: Candidate, others: Sequence[Candidate]) -> Block:
    """Return the drafts that the request for ``first`` wrote after it, as if each before them will be kept."""
    block, context, last = Block(), message.context, first
    for index, draft in enumerate(others, 1):
        registry.add_lookahead(context.task, LookaheadStats(1, wasted_tokens=draft.usage.completion_tokens))
        if len(block) < index - 1 or not _goes_on(context, last):
            continue  # an earlier one does not fit, so that nothing after it is of use
        context = context_after(context, last)
        if draft.calls or fits(draft, message.context, context):  # calls were checked for just this place
            block.append((_written(Predraft(context, call_id(message.id, "draft", 0), index), draft), draft))
            last = draft
    return block


async def _write_one_by_one(
    writer: StepGenerator, registry: ProblemRegistry, message: DraftStep, steps: int
) -> tuple[Candidate, Block]:
    first, *others = await writer.candidates(message)
    if others:
        return first, block_of(registry, message, first, others)
    last, block, context = first, Block(), message.context
    for depth in range(1, steps):
        if not _goes_on(context, last):
            break
        context = context_after(context, last)
        try:
            draft = await writer.candidate_ahead(message, context, depth)
        except Exception:  # the log has the error; the step is drafted when it is requested
            break
        registry.add_lookahead(context.task, LookaheadStats(wasted_tokens=draft.usage.completion_tokens))
        block.append((_written(Predraft(context, call_id(message.id, "draft", depth)), draft), draft))
        last = draft
    return first, block


def _goes_on(context: Context, draft: Candidate) -> bool:
    """Whether the draft model writes the step after ``draft``, if it is kept."""
    has_next = draft.valid is not False and finish_reason(context, draft) is None
    return has_next and "draft" in context.task.policy.proposes(context.step + 1)


def _written(predraft: Predraft, draft: Candidate) -> Predraft:
    predraft.answer.set(draft)
    return predraft
