"""Scores of a sequence classifier in process, read at the last token of a text."""

import torch

from arbiter.backends.in_process.continuous_batching import Engine, Outputs
from arbiter.backends.in_process.model_loading import Loaded, too_long
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.scorer import labels_of
from arbiter.backends.step_blocks import scored_together
from arbiter.protocols.errors import BackendError
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.ports import Score, ScoreRequest
from arbiter.protocols.records import Transcript, Usage


class InProcessScorer:
    """A ``Scorer`` over a loaded classifier. ``engine.worker`` must run while it is in use.

    One label is a value head: the score is its sigmoid. Two labels are classes: the score is the softmax probability
    of class 1. For several ``targets``, each has two classes, in their order. Raises ``BackendError`` for any other
    number of labels.
    """

    def __init__(self, loaded: Loaded, template: PromptTemplate, largest_batch: int, targets: int = 1) -> None:
        if loaded.labels != 2 * targets and (loaded.labels, targets) != (1, 1):
            raise BackendError(f"{loaded.name} has {loaded.labels} labels; {labels_of(targets)}")
        self._loaded = loaded
        self._template = template
        self.engine = Engine(loaded.model, self._start, largest_batch, loaded.cache_bytes, loaded.turn)

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate. Raises ``ContextTooLongError`` if the text is longer than the model's context."""
        return await self.engine.worker.submit(request)

    @property
    def scores_blocks(self) -> bool:
        """True: one batch reads all candidates."""
        return True

    async def score_block(self, requests: tuple[ScoreRequest, ...]) -> tuple[Score, ...]:
        """Score the candidates of a block. Raises as ``score``."""
        return await scored_together(self.score, requests)

    @property
    def context(self) -> int:
        """The size of the model's context in tokens."""
        return self._loaded.model.context

    def prompt_tokens(self, transcript: Transcript, separator: str) -> int:
        """Return the number of tokens in the prompt, without a candidate."""
        return len(self._loaded.texts.encode(self._template.render(transcript, separator)))

    @property
    def kv_memory(self) -> KVMemory:
        """The memory of keys and values."""
        return self.engine.kv_memory

    def _start(self, ask: ScoreRequest) -> "_ScoreRow":
        text = self._template.render_candidate(ask.transcript, ask.candidate, ask.author, ask.separator)
        ids = self._loaded.texts.encode(text)
        if len(ids) > self._loaded.model.context:
            raise too_long(self._loaded, len(ids))
        return _ScoreRow(ids)


class _ScoreRow:
    """A text to score. It is finished when it is read."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.read = self.reused = 0
        self.shown = 1
        self.longest = len(ids)
        self._values: list[float] = []

    def advance(self, outputs: Outputs, first: int) -> bool:
        logits = outputs.values[first]
        if len(logits) == 1:
            self._values = [float(torch.sigmoid(logits))]
        else:
            self._values = [float(chance) for chance in torch.softmax(logits.view(-1, 2), -1)[:, 1]]
        return True

    def answer(self) -> Score:
        values = self._values
        usage = Usage(prompt_tokens=len(self.ids), cached_tokens=self.reused)
        return Score(max(values), usage, estimates=tuple(values) if len(values) > 1 else ())
