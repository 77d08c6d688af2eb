"""What is known about a problem: its task, its steps, and how it ended. Frozen values, shared and never copied."""

import math
from typing import Literal, get_args

import msgspec

from arbiter.protocols.errors import ConfigError

Author = Literal["draft", "target"]
"""Who writes a step: the draft model (``Model 0`` in the router's eyes) or the target model (``Model 1``)."""

ScoreKind = Literal["prm", "router", "judge"]
"""What a score means: ``prm`` is the process reward h(x, z), ``router`` is ŷ = P(Δ > 0 given x, z_d), ``judge`` the
digit with which a language model rates a step, as a share of 9."""

Model = Literal["draft", "target", "prm", "router", "judge", "audit"]
"""Whom a request goes to; ``audit`` counts apart the PRM's calls that serve the report and not the run."""

ConfidenceMetric = Literal["mean", "first"]
"""How a model's confidence in its own step is measured, in (0, 1], by its probabilities at temperature 1.

``mean`` is the geometric mean of those of the step's tokens; ``first`` is exp(−H), H the entropy in nats of the
distribution of its first token.
"""

ChatRole = Literal["system", "user", "assistant"]
"""Who says a turn of a conversation; ``system`` are the instructions."""

StopReason = Literal["separator", "end", "limit"]
"""Why a generation stopped: at the step separator, at the end of the answer, or at its token limit."""

Verdict = Literal["keep_draft", "keep_target", "escalate"]
"""What a policy decides: keep a candidate that is there, or have the target write one."""

FinishReason = Literal[
    "answered",  # a kept step ended the answer
    "stop",  # one of the task's stop texts has come up in the kept steps
    "step_limit",  # a kept step was cut by the token limit of a step
    "max_tokens",  # the kept steps have used up the tokens of the problem
    "max_steps",  # the kept steps have used up the steps of the problem
    "loop",  # the same step was kept again and again
    "empty_steps",  # empty steps were kept again and again
    "deadline",  # the problem's wall-clock time was up
    "failed",  # a model or an actor failed; the error says how
]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records: immutable, and strict about what is read back from a file."""


class Usage(Record, frozen=True):
    """Tokens of one or several requests, as the model's own server or tokenizer counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


class Step(Record, frozen=True):
    """A kept step of a transcript: its text without the separator, and the model that wrote it."""

    text: str
    author: Author


class Turn(Record, frozen=True):
    """What was said in a conversation before the question: the instructions (``system``), or an earlier turn."""

    role: ChatRole
    text: str


class Transcript(Record, frozen=True):
    """The context x_k = (q, z_1 … z_{k-1}): the question and the steps kept so far.

    ``turns`` are those of a conversation before the question, the first of them the instructions if there are any.
    """

    question: str
    steps: tuple[Step, ...] = ()
    turns: tuple[Turn, ...] = ()

    def extended(self, step: Step) -> "Transcript":
        return Transcript(question=self.question, steps=(*self.steps, step), turns=self.turns)


class Sampling(Record, frozen=True):
    """How a model samples. At temperature 0 it is greedy, and the seed is not used."""

    temperature: float = 0.0
    top_p: float = 1.0
    target_samples: int = 1

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if a value is out of range."""
        _require(self.temperature >= 0, "temperature must be 0 or more", self.temperature)
        _require(0 < self.top_p <= 1, "top_p must lie in (0, 1]", self.top_p)
        _require(self.target_samples >= 1, "target_samples must be 1 or more", self.target_samples)


class Limits(Record, frozen=True):
    """Where a problem ends at the latest.

    ``max_tokens`` counts the completion tokens of kept steps, ``step_tokens`` those of one step;
    ``repeats`` identical kept steps in a row end the problem; ``deadline`` is in seconds of wall-clock.
    """

    max_steps: int = 100
    max_tokens: int = 4096
    step_tokens: int = 1024
    repeats: int = 3
    deadline: float | None = None

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if a value is out of range."""
        _require(self.max_steps >= 1, "max_steps must be 1 or more", self.max_steps)
        _require(self.max_tokens >= 1, "max_tokens must be 1 or more", self.max_tokens)
        _require(self.step_tokens >= 1, "step_tokens must be 1 or more", self.step_tokens)
        _require(self.repeats >= 2, "repeats must be 2 or more", self.repeats)
        over_or_to_come = self.deadline is None or not math.isnan(self.deadline)
        _require(over_or_to_come, "deadline must be a number of seconds", self.deadline)


def _require(holds: bool, rule: str, value: float | None) -> None:
    if not holds:
        raise ConfigError(f"{rule}, and it is {value}")


class PrefixMatch(Record, frozen=True):
    """How far the target agreed with a rejected draft, token by token: with the first ``agreed`` of its ``proposed``
    tokens, which it then had not to write.
    """

    proposed: int
    matched: int


class Rating(Record, frozen=True):
    """A score in [0, 1] on the scale that the policy asked for; what it cost in tokens read and in seconds.

    ``estimates`` are a router's for each of several targets, in their order; ``value`` is the largest of them.
    """

    value: float
    usage: Usage
    seconds: float
    estimates: tuple[float, ...] = ()


class Candidate(Record, frozen=True):
    """A step that a model proposed for a context; ``seconds`` is the time that its request took.

    ``agreement`` is there if the target was shown a rejected draft to check, in place of writing it all.
    ``confidence`` in (0, 1] is the model's own in its step; None if nobody asked for it. ``target`` is the name of the
    target that wrote it, where the policy knows several.
    """

    author: Author
    text: str
    stop_reason: StopReason
    usage: Usage
    seconds: float
    sample: int = 0
    rating: Rating | None = None
    prefix_match: PrefixMatch | None = None
    confidence: float | None = None
    target: str = ""

    @property
    def score(self) -> float | None:
        return None if self.rating is None else self.rating.value


class AuditScores(Record, frozen=True):
    """Process rewards of a rejected draft and of the target's step in its place, measured off the path."""

    draft: float
    target: float

    @property
    def improved(self) -> bool:
        return self.target > self.draft


class Target(Record, frozen=True):
    """One of several target models: its name, and what a step of it costs, relative to the others."""

    name: str
    cost: float = 1.0


class StepRecord(Record, frozen=True):
    """All that happened at one step: every candidate, which of them was kept, and why.

    ``verdict`` is None where no policy decided (the one-model baselines).
    """

    candidates: tuple[Candidate, ...]
    chosen: int
    verdict: Verdict | None = None
    audit: AuditScores | None = None

    @property
    def kept(self) -> Candidate:
        return self.candidates[self.chosen]

    @property
    def draft(self) -> Candidate | None:
        return next((candidate for candidate in self.candidates if candidate.author == "draft"), None)

    @property
    def targets(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.author == "target")


class RequestCounts(Record, frozen=True):
    """Requests made to one model for one problem, and the tokens of those that were answered."""

    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    usage: Usage = Usage()

    def __add__(self, other: "RequestCounts") -> "RequestCounts":
        return RequestCounts(
            requests=self.requests + other.requests,
            failed=self.failed + other.failed,
            cancelled=self.cancelled + other.cancelled,
            usage=self.usage + other.usage,
        )


class LookaheadStats(Record, frozen=True):
    """Drafts that were begun before anybody asked for them: how many, how many of them were used (``hits``), and the
    tokens of those that were written for nothing. Cancelled ones tell no tokens.

    ``salvaged`` ones were offered in another context than they were written for, which may change transcripts.
    """

    started: int = 0
    hits: int = 0
    wasted_tokens: int = 0
    salvaged: int = 0

    def __add__(self, other: "LookaheadStats") -> "LookaheadStats":
        return LookaheadStats(
            started=self.started + other.started,
            hits=self.hits + other.hits,
            wasted_tokens=self.wasted_tokens + other.wasted_tokens,
            salvaged=self.salvaged + other.salvaged,
        )


class Solution(Record, frozen=True):
    """How a problem ended: its steps, why it ended, and how long it took, in seconds.

    ``sample`` is the number of the decoding, from 0, where a problem is decoded several times.
    ``error`` is set exactly if ``finish`` is ``failed``. ``calls`` counts every request made for the
    problem, by model, those for steps that were never kept included; ``targets`` those to the target by their names,
    where the policy knows several. ``separator`` stands between steps, and ``stop`` are the texts that end the answer.
    """

    problem: str
    question: str
    steps: tuple[StepRecord, ...]
    finish_reason: FinishReason
    seconds: float
    requests: dict[Model, RequestCounts]
    error: str | None = None
    sample: int = 0
    lookahead: LookaheadStats = LookaheadStats()
    targets: dict[str, RequestCounts] = {}
    separator: str = "\n\n"
    stop: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole answer: the kept steps with the separator between them, up to the stop text that is whole first.

        A step that ended at the separator has written it, so that a stop text may end in the last one, too.
        """
        joined = self.separator.join(step.kept.text for step in self.steps)
        behind = self.separator if self.steps and self.steps[-1].kept.stop_reason == "separator" else ""
        written = joined + behind
        stops = [(at + len(stop), at) for stop in self.stop if (at := written.find(stop)) >= 0]
        return written[: min(stops)[1]] if stops else joined

    @property
    def usage(self) -> Usage:
        """All tokens that the draft and the target have read and written for it, kept or not."""
        return sum((self.requests[role].usage for role in get_args(Author) if role in self.requests), Usage())
