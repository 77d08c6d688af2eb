"""Scores of a sequence classifier in process: one forward pass for all waiting candidates."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Sequence
from typing import Any, cast

import torch

from arbiter.backends.batching import Batcher, BatchJob, Deliver
from arbiter.backends.in_process.model_loading import Loaded, too_long
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.scorer import labels_of
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Score, ScoreRequest
from arbiter.protocols.records import Usage

ScoreJob = BatchJob[ScoreRequest, Score]


class InProcessScorer:
    """A ``Scorer`` over a loaded classifier, read at the last token. ``batcher`` must run while it is in use.

    One label is a value head: the score is its sigmoid. Two labels are classes: the score is the softmax probability
    of class 1. For several ``targets``, each has two classes, in their order. Raises ``BackendError`` for any other
    number of labels.
    """

    def __init__(self, loaded: Loaded, template: PromptTemplate, largest_batch: int, targets: int = 1) -> None:
        labels = cast("int", loaded.model.config.num_labels)
        if labels != 2 * targets and (labels, targets) != (1, 1):
            raise BackendError(f"{loaded.name} has {labels} labels; {labels_of(targets)}")
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
            try:
                text = self._template.render_candidate(ask.transcript, ask.candidate, ask.author, ask.separator)
            except BackendError as error:  # only this job's conversation is refused
                deliver([(job, error)])
                continue
            ids: list[int] = self._loaded.tokenizer(text)["input_ids"]
            if len(ids) > self._loaded.context:
                deliver([(job, too_long(self._loaded, len(ids)))])
            else:
                fitting.append(job)
                texts.append(ids)
        if not fitting:
            return
        scores = [
            Score(max(values), Usage(prompt_tokens=len(ids)), estimates=tuple(values) if len(values) > 1 else ())
            for values, ids in zip(self._values(texts), texts, strict=True)
        ]
        deliver(list(zip(fitting, scores, strict=True)))

    def _values(self, texts: list[list[int]]) -> list[list[float]]:
        """Return for each text one value, or one value per target."""
        model: Any = self._loaded.model
        batch = self._loaded.tokenizer.pad({"input_ids": texts}, padding=True, return_tensors="pt")
        logits: torch.Tensor = model(**batch.to(self._loaded.device)).logits.float()
        if self._one_label:
            return torch.sigmoid(logits).tolist()
        return torch.softmax(logits.unflatten(-1, (-1, 2)), -1)[..., 1].tolist()
