"""One frozen struct a message, one tagged union a mailbox.

The way of a step (A Assembler, D Drafter, V Verifier, R Router, E Escalator)::

    draft                A → D → A
    target               A → E → A
    random               A → D → R → (A or E → A)
    router, rsd          A → D → V → R → (A or E → A)
    oracle, generate     A → {D and E at once} → V → R → A

A message's id is computed from its kind and its place in its problem, never from a counter or a clock, so
that it is the same at every concurrency.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import msgspec

from arbiter.protocols.events import (
    AuditStepEvent,
    DraftStepEvent,
    EscalateStepEvent,
    MessageEvent,
    StartProblemEvent,
    StepAcceptedEvent,
    StepAuditedEvent,
    StepDraftedEvent,
    StepFailedEvent,
    StepRegeneratedEvent,
    StepScoredEvent,
)
from arbiter.protocols.ids import StepKind, failed_id, message_id, scored_id, step_id
from arbiter.protocols.ports import Policy
from arbiter.protocols.records import AuditScores, Author, Candidate, Limits, Sampling, Transcript, Verdict


class Task(msgspec.Struct, frozen=True, eq=False):
    """A problem as it is given to the ring.

    ``id`` is the problem's, and ``sample`` says which of its decodings this is; the two together are unique among the
    problems in the ring. Samples differ by their ``seed`` alone.

    Two tasks are never equal, so that a problem that is given again is not mistaken for the one before.

    ``audit`` is the share of escalations, 0 to 1, whose both candidates the PRM scores off the path. ``stop`` are texts
    that end the answer where one of them comes up first. What is drawn by chance depends on ``seed_key`` if it is
    given, else on the ``id``, so that equal problems with different ids can be given equal answers. ``tags`` are the
    user's own labels; they stand in the log and change nothing.
    """

    id: str
    transcript: Transcript
    policy: Policy
    limits: Limits = Limits()
    sampling: Sampling = Sampling()
    separator: str = "\n\n"
    seed: int = 0
    audit: float = 0.0
    sample: int = 0
    stop: tuple[str, ...] = ()
    seed_key: str | None = None
    tags: Mapping[str, str] = {}

    @property
    def seed_name(self) -> str:
        """The name under which chance is drawn for it."""
        return self.id if self.seed_key is None else self.seed_key


class Context(msgspec.Struct, frozen=True):
    """The context x_k of a step: its problem, its index k from 0, the steps before it, and the tokens it may take.

    ``kept_tokens`` are those that the kept steps before it have used up.
    """

    task: Task
    step: int
    transcript: Transcript
    max_tokens: int
    kept_tokens: int = 0

    @property
    def place(self) -> str:
        """The id of its step, with which the ids of its messages begin."""
        return step_id(self.task.id, self.step, self.task.sample)

    @property
    def digest(self) -> str:
        """Names the transcript in 16 digits: equal transcripts have equal names."""
        transcript = self.transcript
        parts = [part for turn in transcript.turns for part in (turn.role, turn.text)]
        parts.append(transcript.question)
        for step in transcript.steps:
            parts += step.author, step.text
        return hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=8).hexdigest()


class Message(msgspec.Struct, frozen=True, tag_field="kind"):
    """Base of all messages; ``cause`` is the id of the message that led to this one.

    A message and its event in the log are two things: the message carries candidates and their context, the event
    refers to them. ``event_type`` declares the event. Each field of the event is the attribute of the message with the
    same name; a ``Context`` is referred to by its digest.
    """

    context: Context
    cause: str

    event_type: ClassVar[type[MessageEvent]]

    @property
    def id(self) -> str:
        context, task = self.context, self.context.task
        return message_id(task.id, context.step, task.sample, cast("StepKind", self.__struct_config__.tag))

    @property
    def event(self) -> MessageEvent:
        """What a log holds of the message."""
        kind = self.event_type
        values = [getattr(self, name) for name in kind.__struct_fields__]
        references: list[Any] = [value.digest if isinstance(value, Context) else value for value in values]
        return kind(*references)

    @property
    def max_tokens(self) -> int:
        return self.context.max_tokens


class StartProblem(Message, frozen=True, tag="start_problem"):
    """To the Assembler: solve this problem. Its context is the first step's."""

    event_type = StartProblemEvent

    @property
    def event(self) -> StartProblemEvent:
        """What a log holds of the message: all that the task decides."""
        task, transcript = self.context.task, self.context.task.transcript
        return StartProblemEvent(
            question=transcript.question,
            policy=_described(task.policy),
            limits=task.limits,
            sampling=task.sampling,
            separator=task.separator,
            seed=task.seed,
            audit=task.audit,
            steps=transcript.steps,
            turns=transcript.turns,
            stop=task.stop,
            seed_key=task.seed_key,
            tags=dict(task.tags),
        )


class DraftStep(Message, frozen=True, tag="draft_step"):
    """To the Drafter: write a step."""

    event_type = DraftStepEvent


class EscalateStep(Message, frozen=True, tag="escalate_step"):
    """To the Escalator: write a step; ``draft`` is the rejected one, None where none was tried before.

    ``target`` is the name of the target that is to replace it, where the policy knows several; ``threshold`` is where
    it stood at the decision, where a budget moves it.
    """

    draft: Candidate | None = None
    target: str = ""
    threshold: float | None = None

    event_type = EscalateStepEvent

    @property
    def rejects(self) -> bool:
        """Whether it replaces a rejected draft."""
        return self.draft is not None


class StepDrafted(Message, frozen=True, tag="step_drafted"):
    """From the Drafter."""

    draft: Candidate

    event_type = StepDraftedEvent


class StepRegenerated(Message, frozen=True, tag="step_regenerated"):
    """From the Escalator: the target's samples, and the rejected draft that they replace."""

    targets: tuple[Candidate, ...]
    draft: Candidate | None = None

    event_type = StepRegeneratedEvent


class StepScored(Message, frozen=True, tag="step_scored"):
    """From the Verifier to the Router: candidates of one author, each with its rating."""

    candidates: tuple[Candidate, ...]

    event_type = StepScoredEvent

    @property
    def author(self) -> Author:
        """Who wrote the candidates."""
        return self.candidates[0].author

    @property
    def id(self) -> str:
        context, task = self.context, self.context.task
        return scored_id(task.id, context.step, task.sample, self.candidates[0].author)


class StepAccepted(Message, frozen=True, tag="step_accepted"):
    """From the Router to the Assembler: a candidate that is there is kept. ``threshold`` as in ``EscalateStep``."""

    verdict: Verdict
    draft: Candidate | None
    targets: tuple[Candidate, ...] = ()
    threshold: float | None = None

    event_type = StepAcceptedEvent


class AuditStep(Message, frozen=True, tag="audit_step"):
    """To the Verifier: score both candidates of an escalated step for the report; the step is decided already."""

    draft: Candidate
    target: Candidate

    event_type = AuditStepEvent


class StepAudited(Message, frozen=True, tag="step_audited"):
    """From the Verifier to the Assembler."""

    audit: AuditScores

    event_type = StepAuditedEvent


class StepFailed(Message, frozen=True, tag="step_failed"):
    """To the Assembler: ``actor`` could not serve a message of the kind ``failed_kind``; ``error`` says why."""

    actor: str
    failed_kind: str
    error: str

    event_type = StepFailedEvent

    @property
    def id(self) -> str:
        context, task = self.context, self.context.task
        return failed_id(task.id, context.step, task.sample, self.actor, self.failed_kind)


AssemblerMail = StartProblem | StepDrafted | StepRegenerated | StepAccepted | StepAudited | StepFailed
DrafterMail = DraftStep
VerifierMail = StepDrafted | StepRegenerated | AuditStep
RouterMail = StepDrafted | StepScored
EscalatorMail = EscalateStep


def _described(policy: Policy) -> dict[str, Any]:
    """The type of a policy and its fields, as a log gives them back: JSON has no tuples."""
    fields: dict[str, Any] = {}
    if isinstance(policy, msgspec.Struct):
        fields = msgspec.json.decode(msgspec.json.encode(policy))
    return {"type": type(policy).__name__, **fields}
