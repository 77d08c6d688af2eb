"""What a model can say about itself, or cannot do. Each protocol is optional: a model that lacks it is not asked."""

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from arbiter.protocols.records import (
    Record,
    Transcript,
)
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
