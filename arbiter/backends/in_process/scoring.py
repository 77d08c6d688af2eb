"""Scores from a sequence classifier in process: one forward pass for all candidates that are waiting."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Sequence
from typing import Any, cast

import torch

from arbiter.backends.batching import Batcher, Deliver, Job
from arbiter.backends.in_process.loading import Loaded
from arbiter.backends.prompts import PromptTemplate
from protocols.errors import BackendError, ContextTooLongError
from protocols.ports import Score, ScoreRequest
from protocols.records import Usage

ScoreJob = Job[ScoreRequest, Score]


class InProcessScorer:
    """A ``Scorer`` over a loaded classifier, read at the last token; run ``batcher`` while it is used.

    One label is a value head: the score is its sigmoid. Two labels are classes: the score is the softmax's
    probability of class 1. Raises ``BackendError`` for any other number of labels.
    """

    def __init__(self, loaded: Loaded, template: PromptTemplate, largest_batch: int) -> None:
        labels = cast("int", loaded.model.config.num_labels)
        if labels not in (1, 2):
            raise BackendError(f"{loaded.name} has {labels} labels; a scorer has one (a value) or two (classes)")
        self._loaded = loaded
        self._template = template
        self._one_label = labels == 1
        self.batcher = Batcher[ScoreRequest, Score](self._work, largest_batch)

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate. Raises ``ContextTooLongError`` if the text is longer than the model's context."""
        return await self.batcher.submit(request)

    @torch.inference_mode()
    def _work(self, jobs: Sequence[ScoreJob], deliver: Deliver[ScoreRequest, Score]) -> None:
        fitting: list[ScoreJob] = []
        texts: list[list[int]] = []
        for job in jobs:
            ask = job.ask
            text = self._template.render_candidate(ask.transcript, ask.candidate, ask.author, ask.separator)
            ids: list[int] = self._loaded.tokenizer(text)["input_ids"]
            if len(ids) > self._loaded.context:
                deliver([(job, self._too_long(len(ids)))])
            else:
                fitting.append(job)
                texts.append(ids)
        if not fitting:
            return
        scores = [
            Score(value=value, usage=Usage(prompt_tokens=len(ids)))
            for value, ids in zip(self._values(texts), texts, strict=True)
        ]
        deliver(list(zip(fitting, scores, strict=True)))

    def _values(self, texts: list[list[int]]) -> list[float]:
        model: Any = self._loaded.model
        batch = self._loaded.tokenizer.pad({"input_ids": texts}, padding=True, return_tensors="pt")
        logits: torch.Tensor = model(**batch.to(self._loaded.device)).logits.float()
        values = torch.sigmoid(logits[:, 0]) if self._one_label else torch.softmax(logits, -1)[:, 1]
        return values.tolist()

    def _too_long(self, tokens: int) -> ContextTooLongError:
        return ContextTooLongError(
            f"the text to score has {tokens} tokens, and the context of {self._loaded.name} holds "
            f"{self._loaded.context}: lower limits.max_tokens or shorten the question"
        )
