"""Scores of a causal language model in process as a judge: one forward pass for all waiting steps."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Sequence
from typing import Any

import torch

from arbiter.backends.batching import Batcher, BatchJob, Deliver
from arbiter.backends.confidence import TOP
from arbiter.backends.in_process.model_loading import Loaded, too_long
from arbiter.backends.judge_prompts import JudgePrompt, judged
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Score, ScoreRequest
from arbiter.protocols.records import Usage

JudgeJob = BatchJob[ScoreRequest, Score]


class InProcessJudge:
    """A ``Scorer`` over a loaded generator. ``batcher`` must run while it is in use."""

    def __init__(self, loaded: Loaded, prompt: JudgePrompt, largest_batch: int) -> None:
        self._loaded = loaded
        self._prompt = prompt
        self.batcher = Batcher[ScoreRequest, Score](self._work, largest_batch)

    async def score(self, request: ScoreRequest) -> Score:
        """Judge one candidate.

        Raises ``BackendError`` if none of the likeliest answers is a digit, and ``ContextTooLongError`` if the text is
        longer than the model's context.
        """
        return await self.batcher.submit(request)

    @torch.inference_mode()
    def _work(self, jobs: Sequence[JudgeJob], deliver: Deliver[ScoreRequest, Score]) -> None:
        fitting: list[JudgeJob] = []
        texts: list[list[int]] = []
        for job in jobs:
            ask = job.ask
            ids: list[int] = self._loaded.tokenizer(self._prompt.render(ask.transcript, ask.candidate, ask.separator))[
                "input_ids"
            ]
            if len(ids) > self._loaded.context:
                deliver([(job, too_long(self._loaded, len(ids)))])
            else:
                fitting.append(job)
                texts.append(ids)
        if fitting:
            deliver([(job, answer) for job, answer in zip(fitting, self._scores(texts), strict=True)])

    def _scores(self, texts: list[list[int]]) -> list[Score | BackendError]:
        model, tokenizer = self._loaded.model, self._loaded.tokenizer
        batch = tokenizer.pad({"input_ids": texts}, padding=True, return_tensors="pt").to(self._loaded.device)
        positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        run: Any = model
        logits = run(**batch, position_ids=positions, use_cache=False, logits_to_keep=1).logits[:, -1].float()
        chances, tokens = torch.log_softmax(logits, -1).topk(min(TOP, logits.shape[-1]))
        scores: list[Score | BackendError] = []
        for row, ids in enumerate(texts):
            words = [str(tokenizer.decode([token])) for token in tokens[row].tolist()]
            try:
                value = judged(_first_of_each(words, chances[row].tolist()), self._loaded.name)
            except BackendError as error:
                scores.append(error)
            else:
                scores.append(Score(value=value, usage=Usage(prompt_tokens=len(ids))))
        return scores


def _first_of_each(words: Sequence[str], chances: Sequence[float]) -> dict[str, float]:
    """Map each text to its log-probability. ``words`` is sorted; of tokens with the same text the likeliest counts."""
    return dict(zip(reversed(words), reversed(chances), strict=True))
