"""The parts of a response that describe a solution: its text, finish reason, tokens and steps."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from arbiter.config.serve_tables import AtCap
from arbiter.gateway.schemas import Extras
from arbiter.protocols.errors import RequestError
from arbiter.protocols.records import FinishReason, Solution, StepPiece, StepRecord, Usage
from arbiter.runs.costs import Prices, solution_cost, target_alone
from arbiter.structured.partial_marks import settled

Finish = Literal["stop", "length", "tool_calls"]
_ENDED: tuple[FinishReason, ...] = ("answered", "stop")
_REFUSED = {"ContextTooLongError": "context_length_exceeded", "ConversationError": "invalid_conversation"}


class PromptDetails(msgspec.Struct, frozen=True):
    """The part of the prompt tokens that came from prefix caches."""

    cached_tokens: int = 0


class CompletionDetails(msgspec.Struct, frozen=True):
    """Parts of the completion tokens.

    ``accepted_prediction_tokens`` are tokens of kept steps that the draft wrote. ``rejected_prediction_tokens`` are
    those of both models that are in no kept step.
    """

    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    reasoning_tokens: int = 0


class ModelUsage(msgspec.Struct, frozen=True):
    """The requests to one model, and their tokens."""

    requests: int = 0
    failed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class TokenUsage(msgspec.Struct, frozen=True):
    """The tokens of draft and target together, in OpenAI's fields; ``arbiter`` has the tokens of each model."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails = PromptDetails()
    completion_tokens_details: CompletionDetails = CompletionDetails()
    arbiter: dict[str, ModelUsage] = {}


class AnswerCost(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an answer cost at the configured prices, and what the target alone would have cost (estimated).

    ``total`` includes steps that were not kept. The estimate takes the kept tokens, written in one request.
    """

    total: float
    target_alone_estimated: float | None = None


class SolutionReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The field ``arbiter`` of an answer.

    ``id`` is the problem's id in the log and ``acceptance_rate`` the share of steps that the draft wrote. ``cost`` is
    there if all its models have prices, ``steps`` if requested. ``at_cap`` is there if the key has reached a spend cap
    and the draft alone has answered. ``verification_off`` has the settings of the request that switch verified
    escalation off. In a stream, the chunk of a step has only ``step``.
    """

    id: str | None = None
    finish_reason: FinishReason | None = None
    seconds: float | None = None
    acceptance_rate: float | None = None
    steps: list[dict[str, Any]] | None = None
    step: dict[str, Any] | None = None
    cost: AnswerCost | None = None
    at_cap: AtCap | None = None
    verification_off: list[str] = []


class TextSoFar:
    """The text of a problem as its steps arrive, up to the first stop text.

    An end that may be the beginning of a stop text is held back.
    """

    def __init__(self, separator: str, stop: Iterable[str]) -> None:
        self._separator = separator
        self._between = separator  # and what the last token of the step before adds after it
        self._stop = tuple(stop)
        self._text = ""
        self._sent = 0
        self._steps = 0
        self._written = 0  # of the next step
        self._calls = False

    def add_piece(self, piece: StepPiece) -> str:
        """Add a piece of the next step, and return the text to send."""
        self._written += len(piece.text)
        return self._add(piece.text, begins=self._written == len(piece.text))

    def add(self, step: StepRecord) -> str:
        """Add a step, which begins with its pieces, and return the text to send."""
        content, written = step.kept.content, self._written
        self._calls = self._calls or bool(step.kept.calls)
        if self._calls and not content:
            return ""
        self._written = 0
        text = self._add(content[written:], begins=not written)
        self._steps += 1
        self._between = self._separator + step.kept.overrun
        return text

    def end(self, solution: Solution) -> str:
        """Return the text of ``solution`` that is not sent yet."""
        self._text = solution.text
        return self._send(len(self._text))

    def _add(self, text: str, *, begins: bool) -> str:
        self._text += self._between + text if begins and self._steps else text
        found = [at for at in map(self._text.find, self._stop) if at >= 0]
        return self._send(min(found) if found else len(settled(self._text, self._stop)))

    def _send(self, end: int) -> str:
        part = self._text[self._sent : end]
        self._sent = max(self._sent, end)
        return part


def check(solution: Solution) -> Solution:
    """Return ``solution`` unless the problem failed.

    Raises ``RequestError``: 400 if the request caused the failure, as a too long context does; 502 if a model failed.
    """
    error = solution.error
    if error is None:
        return solution
    code = next((code for kind, code in _REFUSED.items() if f"{kind}:" in error), None)
    if code is not None:
        raise RequestError(error, code=code)
    raise RequestError(f"a model failed: {error}", status=502, code="model_failed")


def finish_of(solution: Solution) -> Finish:
    """Return the finish reason in OpenAI's terms."""
    if solution.finish_reason == "tool_calls":
        return "tool_calls"
    return "stop" if solution.finish_reason in _ENDED else "length"


class Reporter:
    """Makes the fields ``arbiter`` of the answers to a request with ``extras``.

    ``is_capped`` says that the draft alone answers, because the request's key has reached a cap. ``unverified`` are the
    settings that switch verified escalation off.
    """

    def __init__(self, extras: Extras | None, prices: Prices, is_capped: bool, unverified: Sequence[str] = ()) -> None:
        self._wants_steps = bool(extras and extras.steps)
        self._prices = prices
        self._at_cap: AtCap | None = "draft" if is_capped else None
        self._unverified = list(unverified)

    def whole(self, solution: Solution) -> SolutionReport:
        """Return the report of a solution, with the records of its steps if requested."""
        ended = self.ended(solution)
        return replace(ended, steps=[_record(step) for step in solution.steps]) if self._wants_steps else ended

    def ended(self, solution: Solution) -> SolutionReport:
        """Return the report of a solution whose steps have been sent."""
        drafted = sum(step.kept.author == "draft" for step in solution.steps)
        return SolutionReport(
            id=solution.problem,
            finish_reason=solution.finish_reason,
            seconds=solution.seconds,
            acceptance_rate=drafted / len(solution.steps) if solution.steps else None,
            cost=self._cost([solution]),
            at_cap=self._at_cap,
            verification_off=self._unverified,
        )

    def all_of(self, solutions: Sequence[Solution]) -> SolutionReport:
        """Return the report of several answers to a question."""
        return SolutionReport(
            id=solutions[0].problem,
            cost=self._cost(solutions),
            at_cap=self._at_cap,
            verification_off=self._unverified,
        )

    def step(self, step: StepRecord | None) -> SolutionReport | None:
        """Return the report of a step in a stream: its record, if requested."""
        return SolutionReport(step=_record(step)) if step and self._wants_steps else None

    def _cost(self, solutions: Sequence[Solution]) -> AnswerCost | None:
        costs = [solution_cost(solution, self._prices) for solution in solutions]
        known = [cost for cost in costs if cost is not None]
        if not self._prices or len(known) < len(costs):
            return None
        alone = [estimate for one in solutions if (estimate := target_alone(one.steps, self._prices)) is not None]
        return AnswerCost(sum(known), sum(alone) if len(alone) == len(solutions) else None)


def _record(step: StepRecord) -> dict[str, Any]:
    """Return the complete record of a step (``arbiter.protocols.records.StepRecord``)."""
    record: dict[str, Any] = msgspec.to_builtins(step)
    return record


def usage_of(solutions: Iterable[Solution]) -> TokenUsage:
    """Return the tokens of all requests to draft and target, kept or not. They equal those in the log."""
    solutions = list(solutions)
    whole = sum((solution.usage for solution in solutions), Usage())
    kept = [step.kept for solution in solutions for step in solution.steps]
    written = sum(candidate.usage.completion_tokens for candidate in kept)
    drafted = sum(candidate.usage.completion_tokens for candidate in kept if candidate.author == "draft")
    return TokenUsage(
        prompt_tokens=whole.prompt_tokens,
        completion_tokens=whole.completion_tokens,
        total_tokens=whole.prompt_tokens + whole.completion_tokens,
        prompt_tokens_details=PromptDetails(whole.cached_tokens),
        completion_tokens_details=CompletionDetails(drafted, max(0, whole.completion_tokens - written)),
        arbiter=_by_model(solutions),
    )


def _by_model(solutions: Iterable[Solution]) -> dict[str, ModelUsage]:
    found: dict[str, ModelUsage] = {}
    for solution in solutions:
        for model, counts in solution.requests.items():
            before = found.get(model, ModelUsage())
            found[model] = ModelUsage(
                requests=before.requests + counts.requests,
                failed=before.failed + counts.failed,
                cancelled=before.cancelled + counts.cancelled,
                prompt_tokens=before.prompt_tokens + counts.usage.prompt_tokens,
                cached_tokens=before.cached_tokens + counts.usage.cached_tokens,
                completion_tokens=before.completion_tokens + counts.usage.completion_tokens,
            )
    return found
