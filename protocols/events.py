"""What a run's log is made of: one event a line, the log's number and time around what happened.

The event of a message has its name and kind, and holds it by reference: a candidate is named by the call that brought
it, and a step's context by a digest, so that no text is written twice. The ids of messages and calls are computed from
their place in their problem; an event's ``cause`` is the id of the one that led to it.
"""

from typing import Any, Literal

import msgspec

from arbiter.protocols.records import (
    Author,
    FinishReason,
    Limits,
    Model,
    PrefixMatch,
    Record,
    Sampling,
    Step,
    StopReason,
    Turn,
    Usage,
    Verdict,
)

SCHEMA = 2
"""The version of the log's format. A log of another one is refused by name."""

LimitReason = Literal["refused", "queue", "slow", "room"]
"""Why a limit moved: the server refused a request for now, lets too many wait, got slow, or has room."""

Detail = Literal["full", "redacted", "decisions"]
"""How much a log holds: ``full``; ``redacted``: no text of questions, steps and answers, digests in their place;
``decisions``: no text, and of messages and calls only what was decided and answered."""


class Payload(Record, frozen=True, tag_field="kind", omit_defaults=True):
    """Base of what an event tells."""


class RunStarted(Payload, frozen=True, tag="run_started"):
    """A session of the run begins, the first with number 0.

    ``identity`` has every configured key that decides results, and ``digest`` names them all.
    """

    session: int
    digest: str
    identity: dict[str, Any]
    versions: dict[str, str]
    record: Detail = "full"


class RunEnded(Payload, frozen=True, tag="run_ended"):
    """The session ended in good order; ``interrupted`` by a signal, or with all problems done."""

    interrupted: bool = False


class StartProblemEvent(Payload, frozen=True, tag="start_problem"):
    """A problem is given to the ring, with all that decides its way; ``policy`` is a policy's tag and fields.

    ``turns``, ``stop``, ``noise`` and ``tags`` are as in a ``Task`` and its transcript.
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


class DraftStepEvent(Payload, frozen=True, tag="draft_step"):
    """The draft is to write a step after the context of this digest."""

    context: str
    max_tokens: int


class EscalateStepEvent(Payload, frozen=True, tag="escalate_step"):
    """The target is to write a step; ``rejects`` says that a policy rejected the draft's, ``target`` which of several
    targets it chose. ``threshold`` is where it stood at the decision, where a budget moves it.
    """

    context: str
    max_tokens: int
    rejects: bool = False
    target: str = ""
    threshold: float | None = None


class StepDraftedEvent(Payload, frozen=True, tag="step_drafted"):
    """The draft's step is there."""


class StepRegeneratedEvent(Payload, frozen=True, tag="step_regenerated"):
    """The target's step, or all of its samples, are there."""


class StepScoredEvent(Payload, frozen=True, tag="step_scored"):
    """The candidates of one author are scored."""

    author: Author


class StepAcceptedEvent(Payload, frozen=True, tag="step_accepted"):
    """The policy keeps a candidate; ``threshold`` as in ``EscalateStepEvent``."""

    verdict: Verdict
    threshold: float | None = None


class AuditStepEvent(Payload, frozen=True, tag="audit_step"):
    """Both candidates of an escalated step are to be scored for the report."""


class StepAuditedEvent(Payload, frozen=True, tag="step_audited"):
    """They are scored."""


class StepFailedEvent(Payload, frozen=True, tag="step_failed"):
    """An actor could not serve a message of the kind ``failed_kind``."""

    actor: str
    failed_kind: str
    error: str


class CallStarted(Payload, frozen=True, tag="call_started"):
    """A request goes to a model; ``index`` tells those of one message apart: target samples, or candidates.

    ``target`` names the target, where the policy knows several: their samples are counted on, target by target.
    """

    model: Model
    index: int = 0
    target: str = ""


class CallGenerated(Payload, frozen=True, tag="call_generated"):
    """A model's step, and the seconds that its request took.

    ``agreement`` is there if it was shown a rejected draft, ``confidence`` if it was asked for. Of a ``stored`` answer
    the seconds are those of the request that brought it, in another run.
    """

    text: str
    stop_reason: StopReason
    usage: Usage
    seconds: float
    overhead: Usage | None = None
    prefix_match: PrefixMatch | None = None
    stored: bool = False
    confidence: float | None = None

    @property
    def cost(self) -> Usage:
        return self.usage if self.overhead is None else self.usage + self.overhead


class Predrafted(Payload, frozen=True, tag="predrafted"):
    """The step was drafted ahead: the answer to the request ``call`` is used, and none is made for it.

    A ``stale`` one was written for another context, and is offered in this one (``salvage``).
    """

    call: str
    stale: bool = False


class CallScored(Payload, frozen=True, tag="call_scored"):
    """A score in [0, 1], and the seconds that its request took; ``stored`` as in ``CallGenerated``.

    ``estimates`` are a router's for each of several targets.
    """

    value: float
    usage: Usage
    seconds: float
    stored: bool = False
    estimates: tuple[float, ...] = ()

    @property
    def cost(self) -> Usage:
        return self.usage


class CallFailed(Payload, frozen=True, tag="call_failed"):
    """A request failed for good, with the error and its causes."""

    error: str
    seconds: float


class CallCancelled(Payload, frozen=True, tag="call_cancelled"):
    """A request was cancelled, since nobody needs its answer any more."""

    seconds: float


class CallRetried(Payload, frozen=True, tag="call_retried"):
    """An attempt failed, and the request is made again after ``pause`` seconds."""

    attempt: int
    pause: float
    error: str


class LimitMoved(Payload, frozen=True, tag="limit_moved"):
    """From now on so many requests may be at the ``model`` at once (its key behind ``models.``)."""

    model: str
    limit: int
    reason: LimitReason


class ProblemEnded(Payload, frozen=True, tag="problem_ended"):
    """A problem's end: why, with how many kept and audited steps, after how many seconds in the ring (all sessions)."""

    finish_reason: FinishReason
    steps: int
    seconds: float
    audited: int = 0
    error: str | None = None


class Graded(Payload, frozen=True, tag="graded"):
    """An answer's grade (``arbiter.grading.Grade``); the last one of a problem counts."""

    right: bool | None
    answer: str | None = None
    reason: str | None = None
    reference: str | dict[str, Any] | None = None


MessageEvent = (
    StartProblemEvent
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
"""Where it goes to the Assembler, a step is kept."""

Outcome = CallGenerated | CallScored | CallFailed | CallCancelled
CallEvent = CallStarted | Predrafted | Outcome | CallRetried
AnyPayload = RunStarted | RunEnded | MessageEvent | CallEvent | LimitMoved | ProblemEnded | Graded


class Entry(msgspec.Struct, frozen=True):
    """What happened and where, before the log has given it number and time.

    ``actor`` is who did it, ``to`` the receiver of a message. ``step`` counts from 0, as ``sample`` does.
    """

    id: str
    actor: str
    payload: AnyPayload
    cause: str | None = None
    problem: str | None = None
    sample: int = 0
    step: int | None = None
    to: str | None = None


class Event(Record, frozen=True, omit_defaults=True, kw_only=True):
    """One line of a log.

    ``seq`` counts the lines from 0 over all sessions. ``mono`` is in seconds of the run's own clock, which stands
    still between sessions; ``wall`` is Unix time.
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
