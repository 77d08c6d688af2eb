"""Base of generators over another one: what they say about the model is what the inner one says."""

from collections.abc import Mapping

from arbiter.protocols.model_traits import (
    CountsPrompts,
    HoldsProblems,
    KeepsKeysAndValues,
    KnowsContext,
    KVMemory,
    ReadsSteps,
    RefusesConstraints,
    RefusesLogprobs,
    RefusesTools,
    TakesEfforts,
    WritesThoughts,
)
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, Say, StreamsText
from arbiter.protocols.records import Transcript
from arbiter.protocols.tools import Effort


async def written_by(generator: Generator, request: GenerationRequest, say: Say | None) -> Generation:
    """Return the step of ``generator``, which passes its text on to ``say``, if it can."""
    if say is not None and isinstance(generator, StreamsText):
        return await generator.stream(request, say)
    return await generator.generate(request)


class WrappedGenerator:
    """Base of generators over ``inner``. A subclass implements ``generate`` and ``stream``."""

    def __init__(self, inner: Generator) -> None:
        self.inner = inner

    @property
    def context(self) -> int | None:
        """The size of the model's context in tokens; None if it is not known."""
        return self.inner.context if isinstance(self.inner, KnowsContext) else None

    @property
    def kv_memory(self) -> KVMemory | None:
        """The memory of keys and values; None if ``inner`` keeps none itself."""
        return self.inner.kv_memory if isinstance(self.inner, KeepsKeysAndValues) else None

    @property
    def without_tools(self) -> str | None:
        """Why the model cannot be offered tools, and how to change that; None if it can."""
        return self.inner.without_tools if isinstance(self.inner, RefusesTools) else None

    @property
    def without_logprobs(self) -> str | None:
        """Why the model cannot return log-probabilities, and how to change that; None if it can, or if not known."""
        return self.inner.without_logprobs if isinstance(self.inner, RefusesLogprobs) else None

    @property
    def without_constraints(self) -> str | None:
        """Why the model fails under a constraint, and how to change that; None if it does not."""
        return self.inner.without_constraints if isinstance(self.inner, RefusesConstraints) else None

    @property
    def without_token_ids(self) -> str | None:
        """Why the model reads its own steps as text, and how to change that; None if it reads the tokens."""
        return self.inner.without_token_ids if isinstance(self.inner, ReadsSteps) else None

    @property
    def opens_thought(self) -> bool:
        """Whether answers begin within a thought, which the prompt opens."""
        return isinstance(self.inner, WritesThoughts) and self.inner.opens_thought

    @property
    def thinks(self) -> bool:
        """Whether the model may begin an answer with a thought that it opens itself."""
        return isinstance(self.inner, WritesThoughts) and self.inner.thinks

    @property
    def efforts(self) -> Mapping[Effort, bool] | None:
        """The efforts that can be requested, and whether the prompt then opens a thought; None if it is not known."""
        return self.inner.efforts if isinstance(self.inner, TakesEfforts) else None

    def prompt_tokens(self, transcript: Transcript, separator: str) -> int | None:
        """Return the number of tokens in the prompt; None if they cannot be counted."""
        return self.inner.prompt_tokens(transcript, separator) if isinstance(self.inner, CountsPrompts) else None

    def release(self, problem: str) -> None:
        """Have ``inner`` give up what it holds for the problem."""
        if isinstance(self.inner, HoldsProblems):
            self.inner.release(problem)
