"""The messages between actors: one frozen struct per message, one tagged union per mailbox.

The messages of a step go between these actors (A Assembler, D Drafter, V Verifier, R Router, E Escalator)::

    draft                A → D → A
    target               A → E → A
    random               A → D → R → (A or E → A)
    glimpse              A → D → R → (D → A or E → A)
    router, rsd          A → D → V → R → (A or E → A)
    oracle, generate     A → {D and E concurrently} → V → R → A

The id of a message is computed from its kind and its position in the problem, never from a counter or a clock. So it
does not depend on the concurrency.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import msgspec

from arbiter.protocols.events import (
    AuditStepEvent,
    DraftStepEvent,
    EscalateStepEvent,
    GlimpseStepEvent,
    MessageEvent,
    StartProblemEvent,
    StepAcceptedEvent,
    StepAuditedEvent,
    StepDraftedEvent,
    StepFailedEvent,
    StepGlimpsedEvent,
    StepRegeneratedEvent,
    StepScoredEvent,
)
from arbiter.protocols.ids import StepKind, failed_id, message_id, scored_id, step_id
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import (
    AuditScores,
    Author,
    Candidate,
    Glimpse,
    Limits,
    Sampling,
    StepRecord,
    Transcript,
    Verdict,
)
from arbiter.protocols.transcript_digest import TranscriptDigest


class Task(msgspec.Struct, frozen=True, eq=False):
    """One problem for the ring, with everything that affects its solution.

    - ``id`` is the id of the problem, and ``sample`` counts its samples from 0. The pair must be unique among the open
      problems of a ring. Samples of a problem differ only in their ``seed``.
    - ``transcript`` is where to start: the question, and steps or turns that exist already. It has the rules of the
      answer.
    - ``separator`` is the text between steps.
    - ``audit`` is the share of escalations, 0 to 1, for which the PRM scores both candidates. These scores are only for
      the report.
    - ``stop`` are texts that end the answer. It ends before the first of them that is complete.
    - ``seed_key`` replaces the ``id`` in random draws. So equal problems with different ids can get equal answers.
    - ``tags`` are the user's labels. They are written to the log and change nothing.
    - ``top_logprobs`` requests the tokens of the answer with their log-probabilities, and as many alternatives for
      each; None requests none. No draft is then verified.
    - ``token_exact`` says how a model reads the steps that it wrote itself: as the tokens that it wrote, or as text.

    Two tasks are never equal, so that a problem that is submitted twice counts as two.
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
    top_logprobs: int | None = None
    token_exact: bool = False

    @property
    def seed_name(self) -> str:
        """The text on which the random draws depend: ``seed_key``, or else ``id``."""
        return self.id if self.seed_key is None else self.seed_key

    @property
    def can_verify(self) -> bool:
        """Whether the target may read rejected drafts, and keep the beginnings that it would have written itself.

        What it would have written is known at temperature 0 and without penalties. Tokens that it has only read have no
        log-probabilities of its own.
        """
        return self.sampling.temperature == 0 and not self.sampling.penalizes and self.top_logprobs is None


class Context(msgspec.Struct, frozen=True):
    """The context x_k of a step: its problem, its index k from 0, and the steps before it.

    ``max_tokens`` limits the tokens of the step. ``kept_tokens`` is the number of tokens in the kept steps before it.
    ``history`` are the records of these steps, without audits, for the policy. Steps with which the task started have
    none. A context in which a step is drafted ahead has no ``history`` of the steps that are not kept yet.
    """

    task: Task
    step: int
    transcript: Transcript
    max_tokens: int
    kept_tokens: int = 0
    history: tuple[StepRecord, ...] = ()

    @property
    def request(self) -> tuple[Task, int, Transcript, int, int]:
        """Everything on which a request for the step depends. Equal ones get equal answers."""
        return self.task, self.step, self.transcript, self.max_tokens, self.kept_tokens

    @property
    def place(self) -> str:
        """The id of the step. The ids of its messages begin with it."""
        return step_id(self.task.id, self.step, self.task.sample)

    @property
    def digest(self) -> str:
        """A digest of the transcript: 16 hexadecimal digits."""
        return TranscriptDigest().of(self.transcript)


class Message(msgspec.Struct, frozen=True, tag_field="kind"):
    """Base of all messages. ``cause`` is the id of the message that led to this one.

    A message has candidates and their context; its event in the log only refers to them. ``event_type`` is the class of
    the event. Each field of the event has the value of the message's attribute of the same name; for a ``Context``,
    its digest.
    """

    context: Context
    cause: str

    event_type: ClassVar[type[MessageEvent]]

    @property
    def id(self) -> str:
        context, task = self.context, self.context.task
        return message_id(task.id, context.step, task.sample, cast("StepKind", self.__struct_config__.tag))

    def event_with(self, digest: Callable[[Context], str]) -> MessageEvent:
        """Return the event that the log records for the message. ``digest`` returns ``Context.digest``."""
        kind = self.event_type
        fields = kind.__struct_fields__
        values: list[Any] = [getattr(self, name) for name in fields]
        return kind(*values) if fields else _WITHOUT_FIELDS[kind]

    @property
    def max_tokens(self) -> int:
        return self.context.max_tokens


class StartProblem(Message, frozen=True, tag="start_problem"):
    """To the Assembler: solve this problem. ``context`` is that of the first step."""

    event_type = StartProblemEvent

    def event_with(self, digest: Callable[[Context], str]) -> StartProblemEvent:
        """Return the event that the log records for the message: the fields of the task."""
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
            after=transcript.after,
            rules=transcript.rules,
            top_logprobs=task.top_logprobs,
            token_exact=task.token_exact,
        )


class GlimpseStep(Message, frozen=True, tag="glimpse_step"):
    """To the Drafter, or to the Escalator if ``author`` is the target: write the first token of a step."""

    author: Author

    event_type = GlimpseStepEvent

    def event_with(self, digest: Callable[[Context], str]) -> GlimpseStepEvent:
        """Return the event, with the ``digest`` of the context."""
        return GlimpseStepEvent(digest(self.context), self.author)


class StepGlimpsed(Message, frozen=True, tag="step_glimpsed"):
    """To the Router: the glimpse of a step, by which the policy decides who writes it."""

    glimpse: Glimpse

    event_type = StepGlimpsedEvent


class DraftStep(Message, frozen=True, tag="draft_step"):
    """To the Drafter: write the step of ``context``.

    ``glimpse`` is that by which the policy has decided to keep the draft; None if it decides about the draft itself.
    ``threshold`` is then as in ``EscalateStep``.
    """

    glimpse: Glimpse | None = None
    threshold: float | None = None

    event_type = DraftStepEvent

    def event_with(self, digest: Callable[[Context], str]) -> DraftStepEvent:
        """Return the event, with the ``digest`` of the context."""
        return DraftStepEvent(digest(self.context), self.context.max_tokens, self.threshold)


class EscalateStep(Message, frozen=True, tag="escalate_step"):
    """To the Escalator: write a step. ``draft`` is the rejected draft; None if there was none.

    ``target`` is the name of the target that must write the step, if the policy has several. ``threshold`` is the
    threshold of the decision, if a budget moves it; else None. ``glimpse`` is that by which the policy decided, if any.
    """

    draft: Candidate | None = None
    target: str = ""
    threshold: float | None = None
    glimpse: Glimpse | None = None

    event_type = EscalateStepEvent

    def event_with(self, digest: Callable[[Context], str]) -> EscalateStepEvent:
        """Return the event, with the ``digest`` of the context."""
        context = self.context
        return EscalateStepEvent(digest(context), context.max_tokens, self.rejects, self.target, self.threshold)

    @property
    def rejects(self) -> bool:
        """Whether the step replaces a rejected draft."""
        return self.draft is not None


class StepDrafted(Message, frozen=True, tag="step_drafted"):
    """From the Drafter: the draft of the step, and the glimpse after which it was written, if any.

    ``following`` are the drafts of the steps after it, each with its context, if they are to be scored together.
    """

    draft: Candidate
    glimpse: Glimpse | None = None
    following: tuple[tuple[Context, Candidate], ...] = ()

    event_type = StepDraftedEvent


class StepRegenerated(Message, frozen=True, tag="step_regenerated"):
    """From the Escalator: the candidates of the target or targets, and the rejected draft that they replace, if any.

    ``glimpse`` is as in ``EscalateStep``.
    """

    targets: tuple[Candidate, ...]
    draft: Candidate | None = None
    glimpse: Glimpse | None = None

    event_type = StepRegeneratedEvent


class StepScored(Message, frozen=True, tag="step_scored"):
    """From the Verifier to the Router: the candidates of one author, each with its rating."""

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
    """From the Router to the Assembler: keep an existing candidate. ``threshold`` is as in ``EscalateStep``."""

    verdict: Verdict
    draft: Candidate | None
    targets: tuple[Candidate, ...] = ()
    threshold: float | None = None

    event_type = StepAcceptedEvent


class AuditStep(Message, frozen=True, tag="audit_step"):
    """To the Verifier: score both candidates of an escalated step for the report. The step is already decided."""

    draft: Candidate
    target: Candidate

    event_type = AuditStepEvent


class StepAudited(Message, frozen=True, tag="step_audited"):
    """From the Verifier to the Assembler: the scores of both candidates."""

    audit: AuditScores

    event_type = StepAuditedEvent


class StepFailed(Message, frozen=True, tag="step_failed"):
    """To the Assembler: ``actor`` could not serve a message of the kind ``failed_kind``. ``error`` says why."""

    actor: str
    failed_kind: str
    error: str

    event_type = StepFailedEvent

    @property
    def id(self) -> str:
        context, task = self.context, self.context.task
        return failed_id(task.id, context.step, task.sample, self.actor, self.failed_kind)


AssemblerMail = StartProblem | StepDrafted | StepRegenerated | StepAccepted | StepAudited | StepFailed
DrafterMail = DraftStep | GlimpseStep
VerifierMail = StepDrafted | StepRegenerated | AuditStep
RouterMail = StepDrafted | StepScored | StepGlimpsed
EscalatorMail = EscalateStep | GlimpseStep


_WITHOUT_FIELDS: dict[type[MessageEvent], MessageEvent] = {
    StepGlimpsedEvent: StepGlimpsedEvent(),
    StepDraftedEvent: StepDraftedEvent(),
    StepRegeneratedEvent: StepRegeneratedEvent(),
    AuditStepEvent: AuditStepEvent(),
    StepAuditedEvent: StepAuditedEvent(),
}


def _described(policy: Policy) -> dict[str, Any]:
    """The type and the fields of a policy as they are read back from a log: JSON has no tuples."""
    fields: dict[str, Any] = {}
    if isinstance(policy, msgspec.Struct):
        fields = msgspec.json.decode(msgspec.json.encode(policy))
    if not fields.get("offsets", True):  # logs of versions without offsets do not have them
        del fields["offsets"]
    return {"type": type(policy).__name__, **fields}
