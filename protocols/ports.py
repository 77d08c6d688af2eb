"""The interfaces that actors use: a generator, a scorer, a policy, a journal.

Actors use only these interfaces. The configuration decides which models, servers and addresses are behind them.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import CallFailed, CallGenerated, CallScored, Entry
from arbiter.protocols.records import (
    Author,
    Candidate,
    ConfidenceMetric,
    PrefixMatch,
    Record,
    ScoreKind,
    StopReason,
    Target,
    Transcript,
    Usage,
    Verdict,
)
from arbiter.protocols.tools import Effort, ToolCall


class Proposal(Record, frozen=True):
    """A step that another model wrote for the same context, and why that model stopped."""

    text: str
    stop_reason: StopReason


class GenerationRequest(Record, frozen=True):
    """One step to write: the context, where to stop, and how to sample.

    These fields decide the answer:

    - ``author`` is the role of the model: draft or target.
    - ``transcript`` is the context. The model writes the step that follows it.
    - ``separator`` is the text that ends a step, and ``max_tokens`` the limit of the step's tokens.
    - ``seed`` decides the sampling noise above temperature 0. Equal requests with equal seeds get equal answers.
    - ``confidence`` is how to measure the model's confidence in the step; None if it is not requested.
    - ``target`` is the name of the target, if the policy has several.
    - ``constraint`` is a JSON schema, as JSON text: that of the answer, if the step is the whole answer after a
      thought, or one of calls where an earlier answer to the request broke the rules of the transcript. A model whose
      engine constrains decoding then writes one JSON value that fits it, and nothing else. Other models write freely. A
      model in process that lacks the extra ``structured`` raises ``BackendError``, which says what to install.
    - ``in_thought`` is True if answers begin within a thought, which the prompt of a model that writes them opens.

    These fields do not change the answer:

    - ``problem``, ``step`` and ``sample`` say what the request is for. ``call`` is its id in the log.
    - ``proposal`` is a rejected draft, only given at temperature 0. The model may read it in one pass and keep the
      prefix that it would have written itself.
    - ``ahead`` is True for drafting ahead: nothing waits for the answer yet. A server may handle other requests first.
    - ``order`` is the number of problems that entered the ring earlier. Among requests that are not ``ahead``, those
      with smaller numbers go first.
    """

    problem: str
    step: int
    sample: int
    author: Author
    transcript: Transcript
    separator: str
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    call: str = ""
    proposal: Proposal | None = None
    ahead: bool = False
    order: int = 0
    confidence: ConfidenceMetric | None = None
    target: str = ""
    constraint: str | None = None
    in_thought: bool = False

    @property
    def written(self) -> str:
        """The steps before this one as one text, each with the separator after it."""
        return "".join(step.text + self.separator for step in self.transcript.steps)


class Generation(Record, frozen=True):
    """The step that a model wrote: its text without the separator, and why the model stopped.

    - ``usage`` counts the tokens of the prompt and of the text, including a prefix kept from a proposal.
    - ``overhead`` counts further tokens: those of a proposal that were read in vain, those of requests that only
      determined the stop reason, and the prompts of further requests for the same step.
    - ``prefix_match`` is set if the model read the request's proposal.
    - ``confidence`` in (0, 1] is set if it was requested.
    - ``seconds`` is None for most models: the ring then measures the time. A model that returns a stored answer sets it
      to the time that the original request took. If ``fresh`` is True, ``seconds`` is the time that this request itself
      took, without the time in the model's own queue.
    - ``calls`` are the tools that the step calls; ``text`` then has the text before them alone. A step without calls
      whose text calls a tool in a form that cannot be read has ``valid`` False, and ``violation`` says why. Otherwise
      both are None: the ring checks the step.
    - ``tries`` is above 1 if earlier tries to write the step broke the rules of the answer.

    Example::

        Generation("12+30: 42.", "separator", Usage(prompt_tokens=20, completion_tokens=6))
    """

    text: str
    stop_reason: StopReason
    usage: Usage
    overhead: Usage = Usage()
    prefix_match: PrefixMatch | None = None
    seconds: float | None = None
    fresh: bool = False
    confidence: float | None = None
    calls: tuple[ToolCall, ...] = ()
    valid: bool | None = None
    violation: str | None = None
    tries: int = 1


class ScoreRequest(Record, frozen=True):
    """A candidate step to score, and its context in ``transcript``. ``call`` is the id of the request in the log.

    ``score_kind`` is the scale of the score, and ``author`` the model that wrote the candidate.
    """

    problem: str
    step: int
    score_kind: ScoreKind
    transcript: Transcript
    candidate: str
    author: Author
    separator: str
    call: str = ""


class Score(Record, frozen=True):
    """A score in [0, 1] on the scale of the request, and the tokens that were read for it.

    If there are several targets, ``estimates`` has the router's estimate for each, in their order. ``value`` is then
    the largest of them. ``seconds`` and ``fresh`` are as in ``Generation``.
    """

    value: float
    usage: Usage
    seconds: float | None = None
    fresh: bool = False
    estimates: tuple[float, ...] = ()


@runtime_checkable
class Generator(Protocol):
    """A model that writes steps. Cancelling ``generate`` must also cancel the request at the model.

    Example::

        class Upper:
            async def generate(self, request: GenerationRequest) -> Generation:
                return Generation(request.transcript.question.upper(), "end", Usage())
    """

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises ``BackendError`` or any other error; it fails only this problem."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A model that scores steps. Cancelling ``score`` must also cancel the request at the model."""

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate. Raises ``BackendError`` or any other error; it fails only this problem."""
        ...


class KVMemory(Record, frozen=True):
    """Memory of keys and values in bytes: the most so far, since the model was loaded, and the configured limit.

    The limit is 0 if no text is kept; rows then take what they need.
    """

    peak: int
    limit: int


@runtime_checkable
class KeepsKeysAndValues(Protocol):
    """A ``Generator`` or ``Scorer`` that keeps keys and values itself, as models in process do."""

    @property
    def kv_memory(self) -> KVMemory | None:
        """The memory that they take; None if it keeps none after all."""
        ...


@runtime_checkable
class KnowsContext(Protocol):
    """A ``Generator`` or ``Scorer`` that knows how many tokens its model can read and write together."""

    @property
    def context(self) -> int | None:
        """The number of tokens; None if the model's server does not report it."""
        ...


@runtime_checkable
class CountsPrompts(Protocol):
    """A ``Generator`` or ``Scorer`` that can count the tokens of a prompt before it is sent."""

    def prompt_tokens(self, transcript: Transcript, separator: str) -> int | None:
        """Return the number of tokens in the prompt; None if the model's tokenizer is not known here."""
        ...


@runtime_checkable
class RefusesTools(Protocol):
    """A ``Generator`` that may be unable to write calls of tools."""

    @property
    def without_tools(self) -> str | None:
        """Why the model cannot be offered tools, and how to change that; None if it can."""
        ...


@runtime_checkable
class RefusesConstraints(Protocol):
    """A ``Generator`` that may be unable to write under a constraint, and fails then."""

    @property
    def without_constraints(self) -> str | None:
        """Why the model fails under a constraint, and how to change that; None if it does not."""
        ...


@runtime_checkable
class WritesThoughts(Protocol):
    """A ``Generator`` that says whether its answers begin with a thought. Other models are taken to write none."""

    @property
    def opens_thought(self) -> bool:
        """Whether answers begin within a thought, which the prompt opens."""
        ...

    @property
    def thinks(self) -> bool:
        """Whether the model may begin an answer with a thought that it opens itself."""
        ...


ThoughtOpening = Literal["prompt", "answer"]
"""What opens the thought at the beginning of an answer: the prompt before it, or a mark in the answer itself."""


@runtime_checkable
class TakesEfforts(Protocol):
    """A ``Generator`` that says which efforts its model takes. Others are taken to read ``AnswerRules.effort``."""

    @property
    def efforts(self) -> Mapping[Effort, bool] | None:
        """The efforts that can be requested, and whether the prompt then opens a thought; None if it is not known."""
        ...


class QueueDepth(Protocol):
    """Reports how busy a server is."""

    async def waiting(self) -> int | None:
        """Return the number of requests in the server's own queue; None if the server does not report it."""
        ...


class Gather(Record, frozen=True):
    """How escalations to a target gather: which are held until several can start together.

    An escalation is held for ``seconds`` at most, 0 or more. It goes sooner if no other problem of the ring can join,
    or if the number of those held is at least ``share`` of the number that the target works on.

    ``share`` None fits a target that computes where the draft does: while the draft works, nothing is lost. A target on
    a server of its own would idle meanwhile; 0.25 keeps it busy.
    """

    seconds: float
    share: float | None = None

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if ``seconds`` or ``share`` is not a number of 0 or more."""
        for value in (self.seconds, self.share or 0.0):
            if not 0 <= value < math.inf:
                raise ConfigError(f"seconds and share must be numbers of 0 or more: {self}")


Port = TypeVar("Port", Generator, Scorer, covariant=True)


class ModelHandle(msgspec.Struct, Generic[Port], frozen=True):
    """A model of the ring, and its limits.

    - ``port`` is the model: a ``Generator`` or a ``Scorer``.
    - ``in_flight`` is the maximum number of concurrent requests, 1 or more.
    - ``annotated`` is True if the model's prompt may say who wrote each step. The answer then depends on the authors.
    - ``adaptive`` lets a controller lower the limit below ``in_flight`` while the server cannot serve as many requests.
    - ``queue_depth`` reports the server's queue to that controller, if the server has one.
    - ``gather`` says how escalations to a target gather; None holds none. Other requests are never held.
    - ``pauses`` is True if the model stops decoding in order to read prompts. While requests wait for slots, an eighth
      of the slots is then granted together, so that the model reads their prompts in one pass.

    Example::

        Models(target=ModelHandle(MyGenerator(), in_flight=8))
    """

    port: Port
    in_flight: int = 64
    annotated: bool = True
    adaptive: bool = False
    queue_depth: QueueDepth | None = None
    gather: Gather | None = None
    pauses: bool = False

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if ``in_flight`` is below 1."""
        if self.in_flight < 1:
            raise ConfigError(f"in_flight must be 1 or more, but it is {self.in_flight}")


class Evidence(Record, frozen=True):
    """What a policy may use for a decision: the candidates with their scores, and their position in the problem.

    ``problem`` is the text on which random draws depend (``Task.seed_name``). ``step`` counts from 0, and ``seed`` is
    the seed of the task. ``draft`` is None if the policy does not use the draft model.

    A draft that breaks the rules of the answer is escalated before any policy decides about it.
    """

    problem: str
    step: int
    seed: int
    draft: Candidate | None
    targets: tuple[Candidate, ...] = ()

    @property
    def valid(self) -> bool | None:
        """True if the draft calls tools as the rules of the answer say; None if no rule is about it."""
        return None if self.draft is None else self.draft.valid


class Policy(Protocol):
    """A pure rule: which models a step calls, and which candidate to keep. It uses no clock and makes no request.

    Derive a policy from ``PolicyBase`` (``arbiter.extending``), which has a default for every member but ``decide``. A
    policy without that base must define all members; if one is missing, the policy is refused with ``ConfigError``.

    Which models a step calls:

    - ``proposers`` are the authors that write a candidate of each step, concurrently, before the policy decides.
    - ``score_kind`` names the scorer that scores each candidate; None for no scorer.
    - ``decides`` is False for the one-model baselines, whose only candidate is kept without a decision.
    - ``targets`` are the targets that the policy may call, or their names; empty for one target without a name.
    - ``confidence`` is how the draft model measures its confidence in a step; None if the policy does not need it.

    How a budget is kept:

    - ``budget`` is the share of decided steps, between 0 and 1, that may be escalated; None for no budget. The ring
      keeps it by moving the threshold after each decision.
    - ``threshold`` is the initial threshold. ``score`` returns what the policy compares with it, in [0, 1].
    - ``escalates_above`` is True if a score above the threshold escalates, and False if a score below it does.
    - ``with_threshold`` returns the policy that decides at the moved threshold.
    """

    proposers: ClassVar[tuple[Author, ...]]
    score_kind: ClassVar[ScoreKind | None]
    decides: ClassVar[bool]

    @property
    @abstractmethod
    def targets(self) -> Sequence[Target | str]: ...
    @property
    @abstractmethod
    def confidence(self) -> ConfidenceMetric | None: ...
    @property
    @abstractmethod
    def budget(self) -> float | None: ...
    @property
    @abstractmethod
    def threshold(self) -> float | None: ...
    @property
    @abstractmethod
    def escalates_above(self) -> bool: ...

    @abstractmethod
    def decide(self, evidence: Evidence) -> Verdict:
        """Return which candidate to keep, or ``escalate``.

        ``escalate`` is only allowed if the target is not a proposer. An error fails only this problem.
        """
        ...

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """Return what ``decide`` compares with the threshold. Raises ``ValueError`` if the evidence lacks it."""
        ...

    @abstractmethod
    def target(self, evidence: Evidence) -> str:
        """Return the name of the target that writes an escalated step; empty if there is one target, without a name."""
        ...

    @abstractmethod
    def with_threshold(self, threshold: float) -> "Policy":
        """Return the same policy with another threshold."""
        ...


class Journal(Protocol):
    """Records what the actors do, and returns the recorded answers of earlier sessions.

    If ``kept`` is False, the journal stores and returns nothing, and callers need not use it. ``threshold`` is the last
    threshold of an earlier session, if a budget moves it; else None.
    """

    kept: bool
    threshold: float | None

    async def write(self, entry: Entry) -> None:
        """Record an entry, and wait until there is room for it.

        Callers use what the entry records only after this returns. Raises ``DivergedError`` if a replayed problem must
        stop.
        """
        ...

    def note(self, entry: Entry) -> None:
        """Record an entry without waiting, for example in a task that is being cancelled."""
        ...

    def recall(self, call: str) -> CallGenerated | CallScored | CallFailed | None:
        """Return the recorded outcome of the call with this id, so that it is not made again; None if there is none."""
        ...

    def decided(self, place: str) -> float | None:
        """Return the threshold at which the step with the id ``place`` was decided, if a budget moved it; else None."""
        ...

    def spent(self, start: str) -> float:
        """Return the seconds that a problem was in the ring in earlier sessions.

        ``start`` is the id of its ``start_problem`` message.
        """
        ...
