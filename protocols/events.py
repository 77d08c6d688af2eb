"""The events of a run's log: one event per line. An ``Event`` adds a number and times to a payload.

The event of a message has the id and the kind of the message. It refers to long texts instead of repeating them: to a
candidate by the id of the call that returned it, and to a context by its digest. The ids of messages and calls are
computed from their position in the problem. The ``cause`` of an event is the id of the event that led to it.
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from arbiter.protocols.answer_tokens import WrittenToken
from arbiter.protocols.records import (
    Author,
    FinishReason,
    Gathered,
    Judgement,
    Limits,
    Model,
    PrefixMatch,
    Record,
    Sampling,
    Step,
    StopReason,
    Transcript,
    Turn,
    Usage,
    Verdict,
)
from arbiter.protocols.tools import AnswerRules, ToolCall

SCHEMA = 2
"""The version of the log format that is written (``Event.v``)."""

LimitReason = Literal["refused", "queue", "slow", "room"]
"""Why a limit changed: the server temporarily refused a request (``refused``), has too many requests in its own queue
(``queue``), got slow (``slow``), or can take more (``room``)."""

Detail = Literal["full", "redacted", "decisions"]
"""How much a log contains.

- ``full``: everything.
- ``redacted``: digests in place of the texts of questions, steps and answers.
- ``decisions``: as ``redacted``, and only those messages and calls that record a decision or an answer.
"""


class Payload(Record, frozen=True, tag_field="kind", omit_defaults=True):
    """Base of the payloads of events."""


class RunStarted(Payload, frozen=True, tag="run_started"):
    """A session of the run begins. Sessions count from 0.

    ``identity`` has every configuration key that affects results; ``digest`` is a digest of it. ``versions`` are those
    of the installed packages. ``record`` says how much the log contains. ``segments`` says how many lines of each
    segment that earlier sessions wrote belong to the run (``arbiter.log.segments``): further ones came too late.
    """

    session: int
    digest: str
    identity: dict[str, Any]
    versions: dict[str, str]
    record: Detail = "full"
    segments: dict[str, int] = {}  # noqa: RUF012 - msgspec gives each its own


class RunEnded(Payload, frozen=True, tag="run_ended"):
    """The session ended normally: ``interrupted`` by a signal, or with all problems done."""

    interrupted: bool = False


class StartProblemEvent(Payload, frozen=True, tag="start_problem"):
    """A problem enters the ring. The fields are those of its ``Task`` and its transcript.

    ``policy`` has the fields of the policy, with the tag or the class name under ``type``.
    """

    question: str
    policy: dict[str, Any]
    limits: Limits
    sampling: Sampling
    separator: str
    seed: int
    audit: float = 0.0
    steps: tuple[Step, ...] = ()
    turns: tuple[Turn, ...] = ()
    stop: tuple[str, ...] = ()
    seed_key: str | None = None
    tags: dict[str, str] = {}  # noqa: RUF012 - msgspec gives each its own
    after: tuple[Turn, ...] = ()
    rules: AnswerRules | None = None
    top_logprobs: int | None = None
    token_exact: bool = False

    def transcript(self, kept: Iterable[Step] = ()) -> Transcript:
        """Return the transcript with which the problem starts, followed by the steps ``kept``."""
        return Transcript(self.question, (*self.steps, *kept), self.turns, self.after, self.rules)


class GlimpseStepEvent(Payload, frozen=True, tag="glimpse_step"):
    """``author`` must write the first token of a step. ``context`` is the digest of the step's context."""

    context: str
    author: Author


class StepGlimpsedEvent(Payload, frozen=True, tag="step_glimpsed"):
    """The first token of a step is written, and its entropy is known."""


class DraftStepEvent(Payload, frozen=True, tag="draft_step"):
    """The draft model must write a step. ``context`` is the digest of the step's context.

    ``threshold`` is that of the decision after a glimpse, if a budget moves it; else None.
    """

    context: str
    max_tokens: int
    threshold: float | None = None


class EscalateStepEvent(Payload, frozen=True, tag="escalate_step"):
    """The target model must write a step.

    ``rejects`` is True if the policy rejected a draft of the step. ``target`` is the name of the chosen target, if the
    policy has several. ``threshold`` is the threshold of the decision, if a budget moves it; else None.
    """

    context: str
    max_tokens: int
    rejects: bool = False
    target: str = ""
    threshold: float | None = None


class StepDraftedEvent(Payload, frozen=True, tag="step_drafted"):
    """The draft model has written its step."""


class StepRegeneratedEvent(Payload, frozen=True, tag="step_regenerated"):
    """The target model has written its step, or all its samples of it."""


class StepScoredEvent(Payload, frozen=True, tag="step_scored"):
    """The candidates of one author have scores."""

    author: Author


class StepAcceptedEvent(Payload, frozen=True, tag="step_accepted"):
    """The policy keeps an existing candidate. ``threshold`` is as in ``EscalateStepEvent``."""

    verdict: Verdict
    threshold: float | None = None


class AuditStepEvent(Payload, frozen=True, tag="audit_step"):
    """Both candidates of an escalated step must be scored for the report."""


class StepAuditedEvent(Payload, frozen=True, tag="step_audited"):
    """Both candidates of the audit have scores."""


class StepFailedEvent(Payload, frozen=True, tag="step_failed"):
    """An actor could not serve a message of the kind ``failed_kind``. ``error`` says why."""

    actor: str
    failed_kind: str
    error: str


class CallStarted(Payload, frozen=True, tag="call_started"):
    """A request goes to a model.

    ``index`` distinguishes the requests of one message: the samples of a target, the candidates to score, or the number
    of steps drafted ahead. ``target`` is the name of the target, if the policy has several; ``index`` then counts all
    samples, target by target.
    """

    model: Model
    index: int = 0
    target: str = ""


class FollowingStep(Record, frozen=True, omit_defaults=True):
    """A step that was written in the same request as the one before it. The fields are as in ``CallGenerated``."""

    text: str
    stop_reason: StopReason
    usage: Usage
    confidence: float | None = None
    token_ids: tuple[int, ...] = ()
    overrun: str = ""
    calls: tuple[ToolCall, ...] = ()
    valid: bool | None = None
    violation: str | None = None
    tokens: tuple[WrittenToken, ...] | None = None


class CallGenerated(Payload, frozen=True, tag="call_generated"):
    """A step that a model wrote, and the seconds that the request took.

    ``overhead`` has tokens that are not part of the step (see ``Generation``). ``prefix_match`` is set if the model
    read a rejected draft. ``confidence`` in (0, 1] is set if it was requested. If the answer was ``stored`` by an
    earlier run, ``seconds`` is what the original request took. ``gathered`` says how the request gathered with others
    before its start; None if it did not. ``calls``, ``valid``, ``violation``, ``tokens``, ``token_ids`` and ``overrun``
    are as in ``Candidate``. ``tries`` counts how often the step was written, until it kept the rules of the answer.
    ``following`` are the steps after it that the same request wrote.
    """

    text: str
    stop_reason: StopReason
    usage: Usage
    seconds: float
    overhead: Usage | None = None
    prefix_match: PrefixMatch | None = None
    stored: bool = False
    confidence: float | None = None
    gathered: Gathered | None = None
    calls: tuple[ToolCall, ...] = ()
    valid: bool | None = None
    violation: str | None = None
    tries: int = 1
    tokens: tuple[WrittenToken, ...] | None = None
    token_ids: tuple[int, ...] = ()
    overrun: str = ""
    following: tuple[FollowingStep, ...] = ()

    @property
    def cost(self) -> Usage:
        own = self.usage if self.overhead is None else self.usage + self.overhead
        return sum((step.usage for step in self.following), own) if self.following else own

    @property
    def all_calls(self) -> tuple[ToolCall, ...]:
        """The calls of all steps that the request wrote."""
        return sum((step.calls for step in self.following), self.calls)

    def at(self, index: int) -> "CallGenerated":
        """Return what the request says of one of its steps alone: of the first (0), or of a following one."""
        if not index:
            return msgspec.structs.replace(self, following=()) if self.following else self
        step = self.following[index - 1]
        return CallGenerated(
            step.text,
            step.stop_reason,
            step.usage,
            0.0,
            stored=self.stored,
            confidence=step.confidence,
            calls=step.calls,
            valid=step.valid,
            violation=step.violation,
            tokens=step.tokens,
            token_ids=step.token_ids,
            overrun=step.overrun,
        )


class Predrafted(Payload, frozen=True, tag="predrafted"):
    """The step was drafted ahead: the answer to the request ``call`` is used, without a new request.

    ``index`` counts the steps of that answer, from 0. A ``stale`` draft was written for another context and is used in
    this one (``salvage``).
    """

    call: str
    stale: bool = False
    index: int = 0


class FollowingScore(Record, frozen=True, omit_defaults=True):
    """The score of the next candidate of the same request. The fields are as in ``CallScored``."""

    value: float
    estimates: tuple[float, ...] = ()


class CallScored(Payload, frozen=True, tag="call_scored"):
    """A score in [0, 1], and the seconds that the request took. ``stored`` is as in ``CallGenerated``.

    ``estimates`` are the router's estimates, one per target, if there are several. ``following`` are the scores of the
    steps after it, if the request was for a block of steps; ``usage`` has the tokens of all of them.
    """

    value: float
    usage: Usage
    seconds: float
    stored: bool = False
    estimates: tuple[float, ...] = ()
    following: tuple[FollowingScore, ...] = ()

    @property
    def cost(self) -> Usage:
        return self.usage

    def at(self, index: int) -> "CallScored":
        """Return what the request says of one of its candidates alone: of the first (0), or of a following one."""
        if not index:
            return msgspec.structs.replace(self, following=()) if self.following else self
        score = self.following[index - 1]
        return CallScored(score.value, Usage(), 0.0, self.stored, score.estimates)


class Prescored(Payload, frozen=True, tag="prescored"):
    """The draft was scored in a block: the score number ``index``, from 0, of the request ``call`` is used.

    ``model`` is the scorer.
    """

    call: str
    model: Model
    index: int = 0


class CallFailed(Payload, frozen=True, tag="call_failed"):
    """A request failed and is not retried. ``error`` has the error and its causes."""

    error: str
    seconds: float


class CallCancelled(Payload, frozen=True, tag="call_cancelled"):
    """A request was cancelled because its answer is no longer needed."""

    seconds: float


class CallRetried(Payload, frozen=True, tag="call_retried"):
    """Attempt number ``attempt`` (from 1) failed. The request is made again after ``pause`` seconds."""

    attempt: int
    pause: float
    error: str


class LimitMoved(Payload, frozen=True, tag="limit_moved"):
    """From now on at most ``limit`` requests may be in flight at ``model`` (its key after ``models.``)."""

    model: str
    limit: int
    reason: LimitReason


class Part(Record, frozen=True):
    """The lines of a segment of the log from ``start`` up to ``end``, without it. Lines count from 0.

    ``segment`` is the name of its file. An empty name is for ``events.jsonl``.
    """

    segment: str
    start: int
    end: int


class ProblemClaimed(Payload, frozen=True, tag="problem_claimed"):
    """A worker takes over a problem, or one of its samples, which has no other worker from now on.

    ``token`` grows with each claim of a session. ``earlier`` are the parts of the log that the worker has read, in
    their order. Of what others wrote about the problem, only that counts. The fields of the event name no problem: a
    claim is no part of a problem's history.
    """

    claimed: str
    number: int
    token: int
    worker: str
    earlier: tuple[Part, ...] = ()


class ProblemEnded(Payload, frozen=True, tag="problem_ended"):
    """A problem ended. ``steps`` and ``audited`` count the kept and the audited steps.

    ``seconds`` is the time in the ring, over all sessions.
    """

    finish_reason: FinishReason
    steps: int
    seconds: float
    audited: int = 0
    error: str | None = None


class Graded(Payload, frozen=True, tag="graded"):
    """The grade of an answer (``arbiter.grading.Grade``), and the version and the name of the grader that gave it.

    The last grade of a problem counts. ``judgement`` is the request to the model that graded, if one did.
    """

    right: bool | None
    answer: str | None = None
    reason: str | None = None
    reference: str | dict[str, Any] | None = None
    found_by: str | None = None
    grader: int = 1
    grader_name: str = "math"
    judgement: Judgement | None = None


MessageEvent = (
    StartProblemEvent
    | GlimpseStepEvent
    | StepGlimpsedEvent
    | DraftStepEvent
    | EscalateStepEvent
    | StepDraftedEvent
    | StepRegeneratedEvent
    | StepScoredEvent
    | StepAcceptedEvent
    | AuditStepEvent
    | StepAuditedEvent
    | StepFailedEvent
)
StepKeptEvent = StepDraftedEvent | StepRegeneratedEvent | StepAcceptedEvent
"""A step is kept if one of these events is sent to the Assembler."""

Outcome = CallGenerated | CallScored | CallFailed | CallCancelled
CallEvent = CallStarted | Predrafted | Prescored | Outcome | CallRetried
AnyPayload = RunStarted | RunEnded | MessageEvent | CallEvent | LimitMoved | ProblemClaimed | ProblemEnded | Graded


class Entry(msgspec.Struct, frozen=True):
    """What happened and where. The log makes an ``Event`` of it by adding a number and times.

    ``actor`` did it; ``to`` is the receiver, if it is a message. ``step`` and ``sample`` count from 0. ``derived`` is
    True if the ``id`` follows from the other fields (``arbiter.protocols.ids``), and problem, step and cause are set.
    """

    id: str
    actor: str
    payload: AnyPayload
    cause: str | None = None
    problem: str | None = None
    sample: int = 0
    step: int | None = None
    to: str | None = None
    derived: bool = False


class Event(Record, frozen=True, omit_defaults=True, kw_only=True):
    """One line of a log.

    ``v`` is the version of the log format. ``seq`` counts the lines from 0, over all sessions. ``mono`` is in seconds
    of the run's clock, which stops between sessions. ``wall`` is Unix time in seconds. The other fields are those of
    the ``Entry``.
    """

    v: int
    run: str
    seq: int
    mono: float
    wall: float
    id: str
    actor: str
    to: str | None = None
    cause: str | None = None
    problem: str | None = None
    sample: int = 0
    step: int | None = None
    payload: AnyPayload

    @property
    def kind(self) -> str:
        return str(self.payload.__struct_config__.tag)
