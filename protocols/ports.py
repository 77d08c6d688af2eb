"""The ports that actors know instead of servers: a generator, a scorer, a policy, a journal.

Which model, dialect and address stand behind a port is the configuration's business.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, Protocol, TypeVar, runtime_checkable

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


class Proposal(Record, frozen=True):
    """A step that another model wrote for the same context, and why it stopped there."""

    text: str
    stop_reason: StopReason


class GenerationRequest(Record, frozen=True):
    """One step to write: the context, where to stop, and how to sample.

    ``confidence`` is how the model's confidence in the step is to be measured; None: it is not wanted. ``target`` names
    the target that is asked, where the policy knows several.
    ``seed`` decides the sampling noise above temperature 0; equal requests with equal seeds have equal
    answers. ``problem``, ``step``, ``sample`` and ``call`` say whose request it is and do not change the answer;
    ``call`` is the request's id in the log. Nor do these change it: a ``proposal``, given at temperature 0 alone, may
    be read in one pass, and what the model would have written itself need not be written again; what is ``ahead``
    nobody waits for yet, and it may give way to what somebody does; of those that are waited for, the one of the
    smaller ``order`` goes first: that many problems were let in before its own.
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


class Generation(Record, frozen=True):
    """A step's text without the separator, and why it stopped there.

    ``usage`` counts all tokens of the text, those agreed on among them. ``overhead`` is what the answer cost beside
    them: a proposal's tokens that were read for nothing, requests that only found out why it had stopped.
    ``agreement`` is there if the request's proposal was read, ``confidence`` in (0, 1] if it was asked for.
    ``seconds`` is for an answer that was kept from before: what it took then; or, if it is ``fresh``, what it took now
    without waiting in a queue of the port's own.
    """

    text: str
    stop_reason: StopReason
    usage: Usage
    overhead: Usage = Usage()
    prefix_match: PrefixMatch | None = None
    seconds: float | None = None
    fresh: bool = False
    confidence: float | None = None


class ScoreRequest(Record, frozen=True):
    """A candidate step to score after its context. ``call`` is the request's id in the log."""

    problem: str
    step: int
    score_kind: ScoreKind
    transcript: Transcript
    candidate: str
    author: Author
    separator: str
    call: str = ""


class Score(Record, frozen=True):
    """A value in [0, 1] on the scale of the request, and the tokens that were read for it.

    ``estimates`` are a router's for each of several targets, in their order; ``value`` is the largest of them.
    ``seconds`` and ``fresh`` are as in ``Generation``.
    """

    value: float
    usage: Usage
    seconds: float | None = None
    fresh: bool = False
    estimates: tuple[float, ...] = ()


@runtime_checkable
class Generator(Protocol):
    """A model that writes steps. Cancelling the await ends the request at the model as well."""

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises ``BackendError`` (or any other error: it fails this problem alone)."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A model that scores steps. Cancelling the await ends the request at the model as well."""

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate. Raises ``BackendError`` (or any other error: it fails this problem alone)."""
        ...


class QueueDepth(Protocol):
    """Tells how busy a server is."""

    async def waiting(self) -> int | None:
        """How many requests wait in the server's own queue; None if it does not say, or not now."""
        ...


Port = TypeVar("Port", Generator, Scorer, covariant=True)


class ModelHandle(msgspec.Struct, Generic[Port], frozen=True):
    """A model's place in the ring: its port, and how many requests may be at it at once.

    ``annotated`` says that the model is told who wrote each step: what it writes then depends on that, too.
    Of an ``adaptive`` seat ``in_flight`` is the most that there may be: fewer are while its server, whose queue the
    ``queue_depth`` tells, cannot bear as many.
    """

    port: Port
    in_flight: int = 64
    annotated: bool = True
    adaptive: bool = False
    queue_depth: QueueDepth | None = None

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if nothing could ever be asked."""
        if self.in_flight < 1:
            raise ConfigError(f"in_flight must be 1 or more, and it is {self.in_flight}")


class Evidence(Record, frozen=True):
    """All that a policy may look at: the scored candidates, and where in which problem they stand.

    ``problem`` is the name under which chance is drawn for it (``arbiter.protocols.messages.Task``).
    """

    problem: str
    step: int
    seed: int
    draft: Candidate | None
    targets: tuple[Candidate, ...] = ()


class Policy(Protocol):
    """A pure rule: which models a step asks, and which candidate to keep. It has no task, clock or client.

    Derive a policy from ``PolicyBase`` (``arbiter.actors.policies``), which has a default for every member but
    ``decide``. A policy without that base must have all members itself; one that lacks a member is refused
    with ``ConfigError``.

    Which models a step asks:

    - ``proposers`` write each step before the policy decides, all at the same time.
    - ``score_kind`` names the scorer that reads each proposed candidate; None for no scorer.
    - ``decides`` is False for the baselines of one model, whose only candidate is kept without a decision.
    - ``targets`` are the targets that the policy may ask, or their names; empty if it knows one, without a name.
    - ``confidence`` is how the draft model measures its confidence in a step; None if the policy does not need it.

    How a budget is held:

    - ``budget`` is the share of decided steps, between 0 and 1, that may be escalated; None for no budget. The ring
      holds it by moving the threshold after each decision.
    - ``threshold`` is where that begins. ``score`` is what the policy compares with it, in [0, 1].
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
        """Keep a candidate or escalate. ``escalate`` is legal only where the target is not a proposer."""
        ...

    @abstractmethod
    def score(self, evidence: Evidence) -> float:
        """What ``decide`` compares with the threshold. Raises ``ValueError`` if the evidence does not have it."""
        ...

    @abstractmethod
    def target(self, evidence: Evidence) -> str:
        """The name of the target that writes an escalated step; empty if the policy knows one target without a name."""
        ...

    @abstractmethod
    def with_threshold(self, threshold: float) -> "Policy":
        """The same policy with another threshold."""
        ...


class Journal(Protocol):
    """Where the actors write what happens, and where an earlier session's answers are found again.

    If it is not ``kept``, nothing need be written into it. ``threshold`` is where an earlier session has left a
    threshold that a budget moves; None if there is none.
    """

    kept: bool
    threshold: float | None

    async def write(self, entry: Entry) -> None:
        """Hand over an entry; waits for room. What it tells may be used once this returns.

        Raises ``DivergedError`` if the problem is to go no further.
        """
        ...

    def note(self, entry: Entry) -> None:
        """Hand over an entry without waiting, as a task that is being cancelled must."""
        ...

    def recall(self, call: str) -> CallGenerated | CallScored | CallFailed | None:
        """The recorded outcome of the call of this id, which is then not made again; None where there is none."""
        ...

    def decided(self, place: str) -> float | None:
        """The moved threshold by which the step at ``place`` was decided when it was recorded; None if it was not."""
        ...

    def spent(self, start: str) -> float:
        """Seconds that the problem begun by the message ``start`` has been in the ring in earlier sessions."""
        ...
