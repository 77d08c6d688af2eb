"""The interfaces that actors use: a generator, a scorer, a policy, a journal.

Actors use only these interfaces. The configuration decides which models, servers and addresses are behind them.
"""

import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, runtime_checkable

import msgspec

from arbiter.protocols.answer_tokens import WrittenToken
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import CallFailed, CallGenerated, CallScored, Entry, LimitReason
from arbiter.protocols.records import (
    Author,
    ConfidenceMetric,
    PrefixMatch,
    Record,
    ScoreKind,
    Step,
    StopReason,
    Transcript,
    Usage,
)
from arbiter.protocols.tools import ToolCall


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
    - ``presence_penalty`` and ``frequency_penalty`` are as in ``Sampling``.

    - ``token_exact`` says how a model reads the steps that it wrote itself: as their ``token_ids``, or as text. The
      answer then has its own ``token_ids``, if the model can return them.

    ``top_logprobs`` decides what the answer contains: with a number, 0 or more, also its tokens, and as many
    alternatives for each.

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
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int | None = None
    token_exact: bool = False

    @property
    def penalizes(self) -> bool:
        """Whether what was written already changes what is likely."""
        return bool(self.presence_penalty or self.frequency_penalty)

    @property
    def written(self) -> str:
        """The steps before this one as one text, each with the separator after it."""
        return "".join(step.ended(self.separator) for step in self.transcript.steps)

    def wrote(self, step: Step) -> bool:
        """Whether the model of the request wrote ``step``, and its tokens are known."""
        return bool(step.token_ids) and (step.author, step.target) == (self.author, self.target)


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
    - ``tokens`` are those of the step, if ``top_logprobs`` requested them. They make up ``text``, followed by the
      separator and ``overrun`` if that is the stop reason. With ``calls``, they make up the text before the first call,
      or less.
    - ``token_ids`` and ``overrun`` are as in ``Candidate``, for a request that is ``token_exact``.

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
    tokens: tuple[WrittenToken, ...] | None = None
    token_ids: tuple[int, ...] = ()
    overrun: str = ""


class ScoreRequest(Record, frozen=True):
    """A candidate step to score, and its context in ``transcript``. ``call`` is the id of the request in the log.

    ``score_kind`` is the scale of the score, and ``author`` the model that wrote the candidate. ``token_ids`` are those
    of the ``Candidate``, if they are known.
    """

    problem: str
    step: int
    score_kind: ScoreKind
    transcript: Transcript
    candidate: str
    author: Author
    separator: str
    call: str = ""
    token_ids: tuple[int, ...] = ()

    @staticmethod
    def of_draft(step: Step) -> bool:
        """Whether the draft wrote ``step``, and its tokens are known: a head on the draft reads them."""
        return bool(step.token_ids) and step.author == "draft"


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


Say = Callable[[str], None]
"""Takes the text of a step so far. It neither blocks nor raises."""


@runtime_checkable
class StreamsText(Protocol):
    """A ``Generator`` that can pass on the text of a step while it writes it."""

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Write one step as ``generate`` does, and call ``say`` with its text so far, on the event loop.

        Each of these texts is a beginning of the step's text. So the end of a text is held back as long as it may
        belong to the separator. If the model is requested again, the texts begin again.
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """A model that scores steps. Cancelling ``score`` must also cancel the request at the model."""

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate. Raises ``BackendError`` or any other error; it fails only this problem."""
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


class LimitController(Protocol):
    """Sets how many requests may be in flight at a model (``arbiter.actors.controllers.LimitControl``)."""

    @property
    def limit(self) -> int:
        """The number of requests that may be in flight, 1 or more."""
        ...

    def follow(self, resize: Callable[[int], None]) -> None:
        """Call ``resize`` with the limit when it changes without a call of the other methods."""
        ...

    def ask(self) -> int:
        """Record a new request. Return its number."""
        ...

    def refused(self, number: int) -> LimitReason | None:
        """Record that the server temporarily refused request ``number``. Return the reason if the limit changed."""
        ...

    def answered(self, number: int, seconds: float, tokens: int, full: bool) -> LimitReason | None:
        """Record that request ``number`` was answered. Return the reason if the limit changed."""
        ...

    def waits(self, requests: int | None) -> LimitReason | None:
        """Record the length of the server's queue, None if unknown. Return the reason if the limit changed."""
        ...


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
    - ``control`` sets the limit in place of ``in_flight`` and ``adaptive``; None for a ring that has the model alone.

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
    control: LimitController | None = None

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if ``in_flight`` is below 1."""
        if self.in_flight < 1:
            raise ConfigError(f"in_flight must be 1 or more, but it is {self.in_flight}")


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
