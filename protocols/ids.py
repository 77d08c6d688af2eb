"""The ids of messages, calls and events. Only this module builds and parses them.

::

    step      PROBLEM/NUMBER, or PROBLEM/NUMBER#SAMPLE for every sample but the first (both count from 0)
    message   STEP/KIND, STEP/step_scored/AUTHOR, STEP/step_failed/ACTOR/UNSERVED_KIND
    call      MESSAGE/MODEL/INDEX
    event     CALL/answer, CALL/retry/ATTEMPT, STEP/problem_ended, PROBLEM#SAMPLE/graded,
              run_started/SESSION, run_ended/SESSION, limit/MODEL/MOVE, claim/TOKEN

The functions build the text of an id; they are on the hot path of the ring. The structs are parsed ids. Ids are parsed
from the right, so the id of a problem may contain any text: slashes, number signs, whole ids. The name of an actor must
not contain a slash and must not look like the number of a step (``0``, ``0#1``).
"""

import re
from typing import Literal, get_args

import msgspec

from arbiter.protocols.records import Author, Model

StepKind = Literal[
    "start_problem",
    "glimpse_step",
    "step_glimpsed",
    "draft_step",
    "escalate_step",
    "step_drafted",
    "step_regenerated",
    "step_accepted",
    "audit_step",
    "step_audited",
]
"""The kinds of message that a step has at most once. Step and kind identify such a message."""

MessageKind = StepKind | Literal["step_scored", "step_failed"]


def step_id(problem: str, step: int, sample: int) -> str:
    """Return the id of a step of one sample of a problem."""
    return f"{problem}/{step}#{sample}" if sample else f"{problem}/{step}"


def message_id(problem: str, step: int, sample: int, kind: StepKind) -> str:
    """Return the id of a message that is the only one of its kind at its step."""
    # the ring builds an id for each message that it sends or serves: calling step_id would cost one more call
    return f"{problem}/{step}#{sample}/{kind}" if sample else f"{problem}/{step}/{kind}"


def scored_id(problem: str, step: int, sample: int, author: Author) -> str:
    """Return the id of the ``step_scored`` message for the candidates of ``author``."""
    return f"{step_id(problem, step, sample)}/step_scored/{author}"


def failed_id(problem: str, step: int, sample: int, actor: str, failed_kind: str) -> str:
    """Return the id of a ``step_failed`` message: ``actor`` could not serve a message of the kind ``failed_kind``."""
    return f"{step_id(problem, step, sample)}/step_failed/{actor}/{failed_kind}"


def call_id(message: str, model: Model, index: int) -> str:
    """Return the id of a request to ``model`` for the message with the id ``message``.

    ``index`` distinguishes the requests of one message.
    """
    return f"{message}/{model}/{index}"


def answer_id(call: str) -> str:
    """Return the id of the outcome of the call with the id ``call``."""
    return f"{call}/answer"


def retry_id(call: str, attempt: int) -> str:
    """Return the id of a failed attempt at the call with the id ``call``; attempts count from 1."""
    return f"{call}/retry/{attempt}"


def problem_ended_id(problem: str, step: int, sample: int) -> str:
    """Return the id of the end of a sample that began at ``step``."""
    return f"{step_id(problem, step, sample)}/problem_ended"


def graded_id(problem: str, sample: int) -> str:
    """Return the id of the grade of a sample."""
    return f"{problem}#{sample}/graded"


def run_started_id(session: int) -> str:
    """Return the id of the start of a session."""
    return f"run_started/{session}"


def run_ended_id(session: int) -> str:
    """Return the id of the end of a session."""
    return f"run_ended/{session}"


def limit_id(model: str, move: int) -> str:
    """Return the id of a change of a request limit.

    ``model`` is the configuration key of the model after ``models.``; ``move`` counts its changes from 0.
    """
    return f"limit/{model}/{move}"


def claim_id(token: int) -> str:
    """Return the id of the claim of a problem by a worker."""
    return f"claim/{token}"


class StepId(msgspec.Struct, frozen=True):
    """A step of one sample of a problem; step and sample count from 0."""

    problem: str
    step: int
    sample: int = 0

    def __str__(self) -> str:
        return step_id(self.problem, self.step, self.sample)


class MessageId(msgspec.Struct, frozen=True):
    """A parsed message id.

    ``qualifiers`` are the further parts of the id: the author of a ``step_scored`` message, or the actor and the
    unserved kind of a ``step_failed`` message.
    """

    step: StepId
    kind: MessageKind
    qualifiers: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "MessageId":
        """Parse ``text``. Raises ``ValueError`` if it is not a message id."""
        found = _MESSAGE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not the id of a message")
        return _message(*found.groups())

    def __str__(self) -> str:
        return "/".join((str(self.step), self.kind, *self.qualifiers))


class CallId(msgspec.Struct, frozen=True):
    """A parsed call id: a request to ``model`` for ``message``."""

    message: MessageId
    model: Model
    index: int

    @classmethod
    def parse(cls, text: str) -> "CallId":
        """Parse ``text``. Raises ``ValueError`` if it is not a call id."""
        found = _CALL.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not the id of a call")
        *message, model, index = found.groups()
        return cls(_message(*message), _MODELS[model], int(index))

    @property
    def is_ahead(self) -> bool:
        """Whether the request drafts ahead: its step is ``index`` steps after the step of its message."""
        return self.model == "draft" and self.index > 0

    @property
    def is_block(self) -> bool:
        """Whether the request scores a block of drafts, which begins at the step of its message."""
        return self.message.kind == "step_drafted" and self.index > 0

    def __str__(self) -> str:
        return call_id(str(self.message), self.model, self.index)


_STEP_KINDS: dict[str, StepKind] = {kind: kind for kind in get_args(StepKind)}
_QUALIFIED: dict[str, MessageKind] = {"step_scored": "step_scored", "step_failed": "step_failed"}
_MODELS: dict[str, Model] = {model: model for model in get_args(Model)}

_NUMBER = "0|[1-9][0-9]*"
_ONE_OF = "|".join(_STEP_KINDS)
_SCORED = f"step_scored/(?:{'|'.join(get_args(Author))})"
_FAILED = f"step_failed/[^/]+/(?:{_ONE_OF}|{'|'.join(_QUALIFIED)})"
_GRAMMAR = f"(.*)/({_NUMBER})(?:#([1-9][0-9]*))?/({_ONE_OF}|{_SCORED}|{_FAILED})"
_MESSAGE = re.compile(_GRAMMAR, re.DOTALL)
_CALL = re.compile(f"{_GRAMMAR}/({'|'.join(_MODELS)})/({_NUMBER})", re.DOTALL)


def _message(problem: str, step: str, sample: str | None, kind: str) -> MessageId:
    parsed_step = StepId(problem, int(step), int(sample) if sample else 0)
    if kind in _STEP_KINDS:
        return MessageId(parsed_step, _STEP_KINDS[kind])
    kind, *qualifiers = kind.split("/")
    return MessageId(parsed_step, _QUALIFIED[kind], tuple(qualifiers))
