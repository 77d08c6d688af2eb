"""What a model can say about itself, or cannot do. Each protocol is optional: a model that lacks it is not asked."""

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import msgspec

from arbiter.protocols.ports import Generation, GenerationRequest, Score, ScoreRequest
from arbiter.protocols.records import Record, Step, Transcript
from arbiter.protocols.tools import Effort


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
class HoldsProblems(Protocol):
    """A ``Generator`` or ``Scorer`` that holds something for each problem until its end, as a session of its server."""

    def release(self, problem: str) -> None:
        """Give up what is held for the problem with this id: its last sample has ended, failed or was cancelled.

        Requests that are being cancelled may still run. It neither blocks nor raises. The id may come again later.
        """
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
class RefusesLogprobs(Protocol):
    """A ``Generator`` that may be unable to return the log-probabilities of the tokens that it writes."""

    @property
    def without_logprobs(self) -> str | None:
        """Why the model cannot return them, and how to change that; None if it can, or if that is not known."""
        ...


@runtime_checkable
class RefusesConstraints(Protocol):
    """A ``Generator`` that may be unable to write under a constraint, and fails then."""

    @property
    def without_constraints(self) -> str | None:
        """Why the model fails under a constraint, and how to change that; None if it does not."""
        ...


@runtime_checkable
class ReadsSteps(Protocol):
    """A ``Generator`` that says how it reads the steps that it wrote itself. Others are taken to read their tokens."""

    @property
    def without_token_ids(self) -> str | None:
        """Why it reads them as text, and how to change that; None if it reads the tokens that it wrote."""
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


@runtime_checkable
class WritesBlocks(Protocol):
    """A ``Generator`` that may be able to write several steps in one request."""

    @property
    def writes_blocks(self) -> bool:
        """Whether it can."""
        ...

    async def generate_block(self, request: GenerationRequest, steps: int) -> tuple[Generation, ...]:
        """Write from one step to ``steps`` of them, at temperature 0 and without rules of the answer.

        Each is what ``generate`` would write after the ones before it, with the limit ``max_tokens`` of the request.
        None follows one that ends the answer, or that a limit cut.
        Cancelling and errors are as for ``generate``.
        """
        ...


def next_request(request: GenerationRequest, written: Generation) -> GenerationRequest:
    """Return the request for the step after ``written``, which the draft model wrote, in the same block."""
    transcript = request.transcript.extended(
        Step(written.text, request.author, request.target, written.token_ids, written.overrun)
    )
    return msgspec.structs.replace(request, step=request.step + 1, transcript=transcript)


@runtime_checkable
class ScoresBlocks(Protocol):
    """A ``Scorer`` that may be able to score several candidates in one request."""

    @property
    def scores_blocks(self) -> bool:
        """Whether it can."""
        ...

    async def score_block(self, requests: tuple[ScoreRequest, ...]) -> tuple[Score, ...]:
        """Return the score of each request, in order. Their usages add up to the tokens of the request.

        Each request continues the one before it by one step. Each score is what ``score`` would return. Cancelling and
        errors are as for ``score``.
        """
        ...


_WITHOUT_THOUGHT: tuple[Effort, ...] = ("none", "minimal")


def thought_opening(model: object, effort: Effort | None) -> ThoughtOpening | None:
    """Return what opens the thought with which the answers of ``model`` may begin; None if they begin with none.

    ``effort`` is the one that is requested; None for the usual prompt. With an effort, the prompt opens a thought if
    the model says so of that effort, and otherwise the model may open one itself, unless it is not to think at all.
    """
    efforts = model.efforts if isinstance(model, TakesEfforts) else None
    if effort is not None and efforts is not None and effort in efforts:
        return "prompt" if efforts[effort] else None if effort in _WITHOUT_THOUGHT else "answer"
    if not isinstance(model, WritesThoughts):
        return None
    if model.opens_thought:
        return "prompt"
    thinks = model.thinks if effort is None else effort not in _WITHOUT_THOUGHT
    return "answer" if thinks else None
