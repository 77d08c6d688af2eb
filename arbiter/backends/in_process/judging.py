"""Scores of a causal language model in process as a judge: the probabilities of the digits that it would write."""

from collections.abc import Sequence

from arbiter.backends.confidence import TOP
from arbiter.backends.in_process.continuous_batching import Engine, Outputs
from arbiter.backends.in_process.model_loading import Loaded, too_long
from arbiter.backends.judge_prompts import JudgePrompt, judged
from arbiter.backends.token_texts import prompt_tokens
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.ports import Score, ScoreRequest
from arbiter.protocols.records import Usage


class InProcessJudge:
    """A ``Scorer`` over a loaded generator. ``engine.worker`` must run while it is in use."""

    def __init__(self, loaded: Loaded, prompt: JudgePrompt, largest_batch: int) -> None:
        self._loaded = loaded
        self._prompt = prompt
        self.engine = Engine(loaded.model, self._start, largest_batch, loaded.cache_bytes, loaded.turn)

    async def score(self, request: ScoreRequest) -> Score:
        """Judge one candidate.

        Raises ``BackendError`` if none of the likeliest answers is a digit, and ``ContextTooLongError`` if the text is
        longer than the model's context.
        """
        return await self.engine.worker.submit(request)

    @property
    def context(self) -> int:
        """The size of the model's context in tokens."""
        return self._loaded.model.context

    @property
    def kv_memory(self) -> KVMemory:
        """The memory of keys and values."""
        return self.engine.kv_memory

    def _start(self, ask: ScoreRequest) -> "_JudgeRow":
        text = self._prompt.render(ask.transcript, ask.candidate, ask.separator)
        ids = prompt_tokens(self._loaded.texts, text)
        if len(ids) > self._loaded.model.context:
            raise too_long(self._loaded, len(ids))
        return _JudgeRow(self._loaded, ids)


class _JudgeRow:
    """A text to judge. It is finished when it is read."""

    def __init__(self, loaded: Loaded, ids: list[int]) -> None:
        self.ids = ids
        self.read = self.reused = 0
        self.shown = 1
        self.longest = len(ids)
        self._loaded = loaded
        self._value = 0.0

    def advance(self, outputs: Outputs, first: int) -> bool:
        logprobs = outputs.logprobs[first]
        chances, tokens = logprobs.topk(min(TOP, len(logprobs)))
        words = [self._loaded.texts.decode([int(token)]) for token in tokens]
        self._value = judged(_first_of_each(words, [float(chance) for chance in chances]), self._loaded.name)
        return True

    def answer(self) -> Score:
        return Score(self._value, Usage(prompt_tokens=len(self.ids), cached_tokens=self.reused))


def _first_of_each(words: Sequence[str], chances: Sequence[float]) -> dict[str, float]:
    """Map each text to its log-probability. ``words`` is sorted; of tokens with the same text the likeliest counts."""
    return dict(zip(reversed(words), reversed(chances), strict=True))
