"""Immutable values that describe a problem: its sampling and limits, its steps and candidates, and its solution."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import msgspec

from arbiter.protocols.answer_tokens import WrittenToken, tokens_within
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.tools import AnswerRules, ToolCall, content_of

Author = Literal["draft", "target"]
"""Who wrote a step: the draft model (``Model 0`` in the router's prompt) or the target model (``Model 1``)."""

ScoreKind = Literal["prm", "router", "judge"]
"""What a score means, always in [0, 1].

- ``prm``: the process reward h(x, z).
- ``router``: ŷ = P(Δ > 0 given x, z_d).
- ``judge``: the digit with which a language model rates a step, divided by 9.
"""

Model = Literal["draft", "target", "prm", "router", "judge", "audit"]
"""The model that a request goes to. ``audit`` means a PRM request that is only for the report."""


def table_name(model: str, target: str = "") -> str:
    """Return the key below ``models.`` of the model that a request goes to; audits go to the PRM.

    ``target`` is the name of the target, if there are several.
    """
    return f"targets.{target}" if target else "prm" if model == "audit" else model


ConfidenceMetric = Literal["mean", "first"]
"""How a model's confidence in its own step is measured: in (0, 1], from its probabilities at temperature 1.

``mean`` is the geometric mean of the probabilities of the step's tokens. ``first`` is exp(−H), where H is the entropy
in nats of the distribution of the first token.
"""

ChatRole = Literal["system", "user", "assistant", "tool"]
"""The role of a turn in a conversation; ``system`` is for instructions, ``tool`` for the result of a call."""

StopReason = Literal["separator", "end", "limit", "call"]
"""Why a step ended: at the separator, at the end of the whole answer, at the token limit, or with one call of several.

After ``call`` the same answer went on with another call of a tool, which is the next step.
"""

Verdict = Literal["keep_draft", "keep_target", "escalate"]
"""What a policy decides: keep an existing candidate, or have the target write one."""

FinishReason = Literal[
    "answered",  # a kept step ended the answer
    "tool_calls",  # a kept step calls tools
    "stop",  # the kept steps contain one of the stop texts of the task
    "step_limit",  # a kept step was cut off at the token limit of a step
    "max_tokens",  # the kept steps reached the token limit of the problem
    "max_steps",  # the kept steps reached the step limit of the problem
    "loop",  # the same step was kept several times in a row
    "empty_steps",  # empty steps were kept several times in a row
    "deadline",  # the time limit of the problem has passed
    "failed",  # a model or an actor failed; the error says why
]


def text_before_stop(text: str, stop: Iterable[str]) -> str | None:
    """Return ``text`` up to the first of the stop texts that is complete in it; None if it has none."""
    found = [(at + len(one), at) for one in stop if (at := text.find(one)) >= 0]
    return text[: min(found)[1]] if found else None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records: immutable; reading one from a file refuses unknown fields."""


class Usage(Record, frozen=True):
    """Tokens of one or several requests, as counted by the server or the tokenizer of the model.

    ``cached_tokens`` are the prompt tokens that the server had in its cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


class Step(Record, frozen=True, omit_defaults=True):
    """A kept step of a transcript: its text without the separator, and the model that wrote it.

    ``target`` is the name of the target that wrote it, if there are several. ``token_ids``, ``overrun`` and ``calls``
    are as in ``Candidate``. No separator follows a step with calls: the answer goes on with its next call.
    """

    text: str
    author: Author
    target: str = ""
    token_ids: tuple[int, ...] = ()
    overrun: str = ""
    calls: tuple[ToolCall, ...] = ()

    def ended(self, separator: str) -> str:
        """Return the step with all that its model wrote after it: the separator, and what its last token adds."""
        return f"{self.text}{'' if self.calls else separator}{self.overrun}"


class Turn(Record, frozen=True, omit_defaults=True):
    """A turn of a conversation besides the question: the instructions (``system``), or an earlier message.

    A turn of the assistant may have ``calls`` after its text, and the ``thought`` that preceded it. A turn with the
    role ``tool`` is the result of the call whose id is ``call_id``.
    """

    role: ChatRole
    text: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    thought: str = ""


class Transcript(Record, frozen=True):
    """The context x_k = (q, z_1 … z_{k-1}): the question and the steps kept so far.

    ``turns`` are the conversation before the question. If there are instructions, they are the first turn. ``after``
    are the turns after the question: calls of tools, and their results. ``rules`` say which tools the answer may call;
    None if there are none.
    """

    question: str
    steps: tuple[Step, ...] = ()
    turns: tuple[Turn, ...] = ()
    after: tuple[Turn, ...] = ()
    rules: AnswerRules | None = None

    @property
    def has_tools(self) -> bool:
        """Whether tools are offered, or were called: only some models can read it."""
        turns = (*self.turns, *self.after)
        return bool(self.rules and self.rules.tools) or any(turn.calls or turn.role == "tool" for turn in turns)

    def extended(self, step: Step) -> "Transcript":
        """Return the transcript with one more step."""
        return Transcript(self.question, (*self.steps, step), self.turns, self.after, self.rules)


PENALTIES = ("presence_penalty", "frequency_penalty")
"""The fields of ``Sampling`` and of a request that are penalties."""


class Sampling(Record, frozen=True):
    """How models sample. At temperature 0 decoding is greedy, and the seed is not used.

    ``target_samples`` is the number of target candidates per step, for policies that score them.

    A penalty, from −2 to 2, is taken from the logit of each token that the answer has already: ``presence_penalty``
    once, ``frequency_penalty`` for each time. A model in process counts the tokens of the whole answer so far, a server
    those of the step that it writes.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    target_samples: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if a value is out of range."""
        _require(self.temperature >= 0, "temperature must be 0 or more", self.temperature)
        _require(0 < self.top_p <= 1, "top_p must be in (0, 1]", self.top_p)
        _require(self.target_samples >= 1, "target_samples must be 1 or more", self.target_samples)
        for name in PENALTIES:
            value = getattr(self, name)
            _require(-2 <= value <= 2, f"{name} must be from -2 to 2", value)

    @property
    def penalizes(self) -> bool:
        """Whether what was written already changes what is likely."""
        return bool(self.presence_penalty or self.frequency_penalty)


class Limits(Record, frozen=True):
    """The limits of a problem. It ends when it reaches one of them.

    - ``max_steps`` is the number of steps, 1 or more.
    - ``max_tokens`` is the number of completion tokens in kept steps, 1 or more.
    - ``step_tokens`` is the number of completion tokens in one step, 1 or more.
    - ``repeats`` is the number of identical kept steps in a row, 2 or more.
    - ``deadline`` is in seconds of wall-clock time in the ring, above 0; None for no deadline.
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
        is_ahead = self.deadline is None or self.deadline > 0
        _require(is_ahead, "deadline must be a number of seconds above 0", self.deadline)


def _require(holds: bool, rule: str, value: float | None) -> None:
    if not holds:
        raise ConfigError(f"{rule}, but it is {value}")


class PrefixMatch(Record, frozen=True):
    """How much of a rejected draft the target kept.

    The draft has ``proposed`` tokens. The target kept the first ``matched`` of them: it would have written the same.
    """

    proposed: int
    matched: int


class Gathered(Record, frozen=True):
    """How an escalation gathered with others: it was held for ``seconds``, and ``together`` were released."""

    seconds: float
    together: int


class Rating(Record, frozen=True):
    """A score in [0, 1] on the scale of the policy, the tokens of its request, and the seconds that it took.

    If there are several targets, ``estimates`` has the router's estimate for each, in their order. ``value`` is then
    the largest of them.
    """

    value: float
    usage: Usage
    seconds: float
    estimates: tuple[float, ...] = ()


class Judgement(Record, frozen=True):
    """A request to a model that graded an answer: the ``prompt`` that it read, and the ``text`` that it wrote.

    ``usage`` counts all of its tokens, and ``seconds`` is the time that it took. If it failed, ``error`` says why,
    ``text`` is empty and ``stop_reason`` is None.
    """

    prompt: str
    text: str
    stop_reason: StopReason | None
    usage: Usage
    seconds: float
    error: str | None = None


class Candidate(Record, frozen=True):
    """A step that a model wrote for a context.

    - ``text`` is the step without the separator, and ``stop_reason`` says why the model stopped.
    - ``usage`` and ``seconds`` are the tokens of its request and the time that it took.
    - ``sample`` counts the target's candidates for the step, from 0.
    - ``rating`` is its score; None if nothing scored it.
    - ``prefix_match`` is set if the target read a rejected draft (verified escalation).
    - ``confidence`` in (0, 1] is the model's confidence in the step; None if the policy did not request it.
    - ``target`` is the name of the target that wrote it, if the policy has several.
    - ``gathered`` is set if its request was held, or released with others, so that escalations gather.
    - ``calls`` are the tools that the step calls. ``text`` has them as JSON, one per line, after the other text.
    - ``valid`` says whether the step keeps the rules of the answer (``AnswerRules``); None if no rule is about it.
      ``violation`` says why it does not.
    - ``tokens`` are the tokens of the step, if they were requested, else None. They make up ``text``, and the separator
      and ``overrun`` after it if the model wrote it. Of a step that calls tools they make up the text before the first
      call.
    - ``token_ids`` are the tokens that the model wrote, as numbers of its vocabulary, with the one that completes the
      separator or ends the answer. They are empty if they are not known, or if the task is not ``token_exact``.
    - ``overrun`` is the text that the token which completes the separator adds after it.
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
    gathered: Gathered | None = None
    calls: tuple[ToolCall, ...] = ()
    valid: bool | None = None
    violation: str | None = None
    tokens: tuple[WrittenToken, ...] | None = None
    token_ids: tuple[int, ...] = ()
    overrun: str = ""

    @property
    def step(self) -> Step:
        """The step that the candidate becomes in a transcript, if it is kept."""
        if self.calls:
            return Step(self.text, self.author, self.target, overrun="\n", calls=self.calls)
        return Step(self.text, self.author, self.target, self.token_ids, self.overrun)

    @property
    def content(self) -> str:
        """The text of the step without its calls."""
        return content_of(self.text, self.calls) if self.calls else self.text

    @property
    def score(self) -> float | None:
        """The score in [0, 1]; None if nothing scored the candidate."""
        return None if self.rating is None else self.rating.value


class AuditScores(Record, frozen=True):
    """Process rewards of a rejected draft and of the target's step in its place. They are only for the report."""

    draft: float
    target: float

    @property
    def improved(self) -> bool:
        """Whether the target's step has the higher reward."""
        return self.target > self.draft


class Target(Record, frozen=True):
    """One of several target models: its name, and the cost of its steps relative to the other targets."""

    name: str
    cost: float = 1.0


class Glimpse(Record, frozen=True):
    """The first token of a step, which ``author`` wrote so that a policy can decide who writes the step.

    ``confidence`` in (0, 1] is exp(−H), where H is the entropy in nats of the token's distribution. ``usage`` and
    ``seconds`` are the tokens of its request and the time that it took. The token itself is not used.
    """

    author: Author
    confidence: float
    usage: Usage
    seconds: float


class StepRecord(Record, frozen=True):
    """What happened at one step: all candidates, which one was kept, and why.

    ``chosen`` is the index of the kept candidate in ``candidates``. ``verdict`` is None if no policy decided (the
    one-model baselines). ``audit`` is set if the step was audited, and ``glimpse`` if the policy decided before the
    step was written. A step that was escalated after a glimpse has no draft.
    """

    candidates: tuple[Candidate, ...]
    chosen: int
    verdict: Verdict | None = None
    audit: AuditScores | None = None
    glimpse: Glimpse | None = None

    @property
    def kept(self) -> Candidate:
        """The candidate that was kept."""
        return self.candidates[self.chosen]

    @property
    def draft(self) -> Candidate | None:
        """The candidate of the draft model, if there is one."""
        return next((candidate for candidate in self.candidates if candidate.author == "draft"), None)

    @property
    def targets(self) -> tuple[Candidate, ...]:
        """The candidates of the target model or models."""
        return tuple(candidate for candidate in self.candidates if candidate.author == "target")


class StepPiece(Record, frozen=True):
    """Text that the model ``author`` adds to the step that it writes, which is kept. ``step`` counts from 0.

    The step follows as a whole, as a ``StepRecord``. Its text begins with all of its pieces.
    """

    step: int
    author: Author
    text: str


class RequestCounts(Record, frozen=True):
    """The requests to one model for one problem, and the tokens of those that were answered.

    ``requests`` counts all of them, including ``failed`` and ``cancelled`` ones.
    """

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
    """Statistics of drafting ahead.

    - ``started`` counts the drafts that were started ahead.
    - ``hits`` counts those that were used in the context they were written for.
    - ``wasted_tokens`` counts the completion tokens of those that were not used. Cancelled drafts report no tokens.
    - ``salvaged`` counts those that were used in another context, which can change transcripts.
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


class AnswerToken(WrittenToken, frozen=True, kw_only=True):
    """A token of an answer. ``author`` is the model that wrote it."""

    author: Author


class Solution(Record, frozen=True):
    """The result of a problem: its steps, why it ended, and what it cost.

    - ``problem`` is the id of the problem, and ``sample`` counts its samples from 0.
    - ``steps`` are the kept steps with all their candidates.
    - ``finish_reason`` says why it ended. ``error`` is set if and only if that is ``failed``.
    - ``seconds`` is the time in the ring.
    - ``requests`` counts the requests for the problem by model, including those for steps that were not kept.
    - ``targets`` counts the requests by the name of the target, if the policy has several.
    - ``lookahead`` has the statistics of drafting ahead.
    - ``separator`` is the text between steps, and ``stop`` are the texts that end the answer.
    - ``answer`` is the answer alone, as the grader finds it in ``text``: what is in the last box, or follows a phrase
      such as "The final answer is", or a whole text that is nothing but an answer, if the grader ``choice`` or ``text``
      takes it. It is None if there is none, and in run folders, where the grade has it.
    - ``reasoning`` is the thought at the beginning of ``text``, and ``content`` the text after it. ``content`` is None
      if the thought has not ended. Without a thought, ``reasoning`` is empty and ``content`` is ``text``. Thoughts are
      known where the model's template has them. Both are None in run folders, and if the problem failed.
    - ``json`` is the ``content``, if it had to fit a JSON schema and does. It is None for an answer that a limit cut,
      for one that calls tools, and in run folders.

    Example::

        solution = await arbiter.solve("Compute (12+30)*7.")
        print(solution.answer, solution.finish_reason, solution.usage.completion_tokens)
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
    answer: str | None = None
    reasoning: str | None = None
    content: str | None = None
    json: str | None = None

    @property
    def value(self) -> Any:  # noqa: ANN401 - JSON
        """The data of ``json``; None without it. Numbers with a point or an exponent are floats."""
        return None if self.json is None else json.loads(self.json)

    @property
    def text(self) -> str:
        """The whole answer: the kept steps joined by the separator. It ends before the first complete stop text.

        Calls of tools are not in it, but a thought is. A model that stopped at the separator has written the separator.
        So a stop text may also end within the separator after the last step.
        """
        kept = [step.kept for step in self.steps]
        if self.tool_calls:  # steps that have nothing but a call, and an empty end after calls
            first = next(index for index, one in enumerate(kept) if one.calls)
            kept = [*kept[:first], *(one for one in kept[first:] if one.content)]
        joined = joined_steps(kept, self.separator)
        last_separator = self.separator if self.steps and self.steps[-1].kept.stop_reason == "separator" else ""
        before = text_before_stop(joined + last_separator, self.stop)
        return joined if before is None else before

    @property
    def tokens(self) -> tuple[AnswerToken, ...] | None:
        """The tokens of ``text``, of which they make up all but what follows a call of a tool.

        None if they were not requested, or if there is no step.
        """
        tokens = [token for step in self.steps for token in answer_tokens(step)]
        is_known = self.steps and all(step.kept.tokens is not None for step in self.steps)
        return tokens_within(tokens, 0, len(self.text)) if is_known else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls with which the answer ends; empty if it calls no tool."""
        return tuple(call for step in self.steps for call in step.kept.calls)

    @property
    def usage(self) -> Usage:
        """All tokens that the draft and the target read and wrote, including those for steps that were not kept."""
        return sum((self.requests[role].usage for role in get_args(Author) if role in self.requests), Usage())


def joined_steps(steps: Sequence[Candidate], separator: str) -> str:
    """Return the texts of kept steps as one text, with ``separator`` and what was written after it between them."""
    ended = "".join(f"{step.content}{separator}{step.overrun}" for step in steps[:-1])
    return ended + steps[-1].content if steps else ""


def answer_tokens(step: StepRecord) -> tuple[AnswerToken, ...]:
    """Return the tokens of the kept candidate of a step, with their author; none if they were not requested."""
    kept = step.kept
    return tuple(AnswerToken(one.text, one.logprob, one.top, author=kept.author) for one in kept.tokens or ())
