"""What the actors tell the journal: their messages, by reference."""

import hashlib
from typing import Any, assert_never

import msgspec

from arbiter.protocols import events
from arbiter.protocols.messages import (
    AssemblerMail,
    AuditStep,
    DrafterMail,
    DraftStep,
    EscalateStep,
    EscalatorMail,
    RouterMail,
    StartProblem,
    StepAccepted,
    StepAudited,
    StepDrafted,
    StepFailed,
    StepRegenerated,
    StepScored,
    Task,
    VerifierMail,
)
from arbiter.protocols.records import Transcript

AnyMail = AssemblerMail | DrafterMail | VerifierMail | RouterMail | EscalatorMail


class NoJournal:
    """The ``Journal`` of a ring that keeps none."""

    kept = False
    threshold: float | None = None

    async def write(self, entry: events.Entry) -> None:
        """Forget it."""

    def note(self, entry: events.Entry) -> None:
        """Forget it."""

    def recall(self, call: str) -> None:
        """Nothing."""

    def decided(self, place: str) -> float | None:
        """Nothing."""

    def spent(self, start: str) -> float:
        return 0.0


def message_entry(message: AnyMail, actor: str, to: str) -> events.Entry:
    """The entry of a message that ``actor`` sends ``to`` another one."""
    context = message.context
    return events.Entry(
        id=message.id,
        actor=actor,
        payload=_payload(message),
        cause=message.cause,
        problem=context.task.id,
        sample=context.task.sample,
        step=context.step,
        to=to,
    )


def context_digest(transcript: Transcript) -> str:
    """Names a context in 16 digits: equal contexts have equal names."""
    parts = [part for turn in transcript.turns for part in (turn.role, turn.text)]
    parts.append(transcript.question)
    for step in transcript.steps:
        parts += step.author, step.text
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _payload(message: AnyMail) -> events.MessageEvent:
    match message:
        case StartProblem():
            return _start(message.context.task)
        case DraftStep(context=context):
            return events.DraftStep(context_digest(context.transcript), context.max_tokens)
        case EscalateStep(context=context, draft=draft, target=target, threshold=threshold):
            digest = context_digest(context.transcript)
            return events.EscalateStep(digest, context.max_tokens, draft is not None, target, threshold)
        case StepDrafted():
            return events.StepDrafted()
        case StepRegenerated():
            return events.StepRegenerated()
        case StepScored(candidates=candidates):
            return events.StepScored(candidates[0].author)
        case StepAccepted(verdict=verdict, threshold=threshold):
            return events.StepAccepted(verdict, threshold)
        case AuditStep():
            return events.AuditStep()
        case StepAudited():
            return events.StepAudited()
        case StepFailed(actor=actor, failed_kind=failed_kind, error=error):
            return events.StepFailed(actor, failed_kind, error)
        case _:
            assert_never(message)


def _start(task: Task) -> events.StartProblem:
    policy: dict[str, Any] = {}
    if isinstance(task.policy, msgspec.Struct):
        policy = msgspec.json.decode(msgspec.json.encode(task.policy))  # as a log gives it back: JSON has no tuples
    return events.StartProblem(
        question=task.transcript.question,
        policy={"type": type(task.policy).__name__, **policy},
        limits=task.limits,
        sampling=task.sampling,
        separator=task.separator,
        seed=task.seed,
        audit=task.audit,
        steps=task.transcript.steps,
        turns=task.transcript.turns,
        stop=task.stop,
        seed_key=task.seed_key,
        tags=dict(task.tags),
    )
