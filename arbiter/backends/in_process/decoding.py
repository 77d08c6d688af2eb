"""Generate steps with a causal language model in process.

A batch is prefilled together, padded on the left, and decoded one token at a time. A row leaves the batch as soon as
it is finished or cancelled; its answer is delivered immediately. Each row draws its sampling noise from the seed of
its request, so the other rows of the batch have no influence on it.

A proposed step is read in the same pass as its prompt. The pass shows the model's own choice after each proposed
token. The prefix that the model would have written itself is kept; the rest is masked.

A row whose confidence is requested keeps the log-probabilities of its tokens, from the raw logits: temperature and
``top_p`` do not affect them. Such a row reads no proposal.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import random
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from arbiter.backends.batching import Batcher, BatchJob, Deliver
from arbiter.backends.confidence import confidence_at, mean_confidence
from arbiter.backends.in_process.model_loading import Loaded
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.step_tokens import StepTokens, agreed_tokens, agreement, proposed_tokens
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage

GenerationJob = BatchJob[GenerationRequest, Generation]

_COMPACT_BELOW = 0.75  # share of live rows below which copying the cache costs less than decoding finished rows
_LARGEST_CHECK = 2**29  # the most logits that a pass computes to check proposals: 2 GiB in float32


class InProcessGenerator:
    """A ``Generator`` over a loaded model. ``batcher`` must run while it is in use."""

    def __init__(self, loaded: Loaded, template: PromptTemplate, largest_batch: int) -> None:
        self._loaded = loaded
        self._template = template
        self._ends = _end_tokens(loaded)
        self._can_check = can_check(loaded.model.config)
        self.batcher = Batcher[GenerationRequest, Generation](self._work, largest_batch)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises ``ContextTooLongError`` if the prompt fills the model's context."""
        return await self.batcher.submit(request)

    @torch.inference_mode()
    def _work(self, jobs: Sequence[GenerationJob], deliver: Deliver[GenerationRequest, Generation]) -> None:
        rows = self._make_rows(jobs, deliver)
        if not rows:
            return
        decoding = _Decoding(self._loaded, rows)
        taken = _first_tokens(decoding, rows)
        while True:
            _record_logprobs(decoding.logits[:, -1], taken, rows)
            finished = [row for row, tokens in zip(rows, taken, strict=True) if row.step.take(tokens)]
            if finished:
                deliver([(row.job, row.generation()) for row in finished])
            alive = [index for index, row in enumerate(rows) if row.step.ending is None and not row.job.cancelled]
            if not alive:
                return
            if len(alive) < _COMPACT_BELOW * len(rows):
                rows, taken = [rows[index] for index in alive], [taken[index] for index in alive]
                decoding.keep(alive)
            decoding.advance([tokens[-1] for tokens in taken])
            taken = [[token] for token in _pick(decoding.logits[:, -1], rows)]

    def _make_rows(
        self, jobs: Sequence[GenerationJob], deliver: Deliver[GenerationRequest, Generation]
    ) -> list["_Row"]:
        """Return a row for each job whose prompt renders and leaves room in the context. Other jobs get their error."""
        rows: list[_Row] = []
        most = _LARGEST_CHECK // (len(jobs) * self._loaded.model.config.get_text_config().vocab_size)
        for job in jobs:
            try:
                text = self._template.render(job.ask.transcript, job.ask.separator)
            except BackendError as error:  # only this job's conversation is refused
                deliver([(job, error)])
                continue
            prompt: list[int] = self._loaded.tokenizer(text)["input_ids"]
            room = self._loaded.context - len(prompt)
            if room < 1:
                error = ContextTooLongError(
                    f"the prompt has {len(prompt)} tokens, and the context of {self._loaded.name} holds "
                    f"{self._loaded.context}: lower limits.max_tokens or shorten the question"
                )
                deliver([(job, error)])
            else:
                room = min(room, job.ask.max_tokens)
                step = StepTokens(self._loaded.tokenizer, job.ask.separator, self._ends, room)
                rows.append(_Row(job, prompt, self._proposed(job.ask, min(room, most)), step))
        return rows

    def _proposed(self, ask: GenerationRequest, room: int) -> list[int]:
        if ask.proposal is None or ask.confidence is not None or not self._can_check:
            return []
        return proposed_tokens(self._loaded.tokenizer, ask.proposal.text, ask.proposal.stop_reason, ask.separator, room)


def can_check(config: PreTrainedConfig) -> bool:
    """Return whether the model forgets masked tokens. Models with a sliding window or a recurrent state do not."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def _end_tokens(loaded: Loaded) -> frozenset[int]:
    """Return the tokens that end an answer: those of the generation settings (several in chat models), and the
    tokenizer's.
    """
    generation: Any = loaded.model.generation_config
    given: Any = generation.eos_token_id if generation is not None else None
    ends: list[int | None] = given if isinstance(given, list) else [given]
    return frozenset(end for end in (*ends, cast("int | None", loaded.tokenizer.eos_token_id)) if end is not None)


class _Row:
    """One request while it is decoded. ``proposed`` has the tokens of a step to check; it may be empty.

    If a confidence is requested, ``logprobs`` has the log-probabilities of the tokens, or ``entropy`` is the entropy of
    the first token's distribution.
    """

    def __init__(self, job: GenerationJob, prompt: list[int], proposed: list[int], step: StepTokens) -> None:
        self.job = job
        self.prompt = prompt
        self.proposed = proposed
        self.step = step
        self.noise = random.Random(job.ask.seed)
        self.logprobs: list[float] = []
        self.entropy: float | None = None

    @property
    def needs_logprobs(self) -> bool:
        """Return whether the confidence needs the distribution of the next token."""
        measure = self.job.ask.confidence
        return measure == "mean" or (measure == "first" and self.entropy is None)

    def generation(self) -> Generation:
        step, found = self.step, agreement(self.proposed, self.step) if self.proposed else None
        assert step.ending is not None  # noqa: S101 - only called for finished rows
        usage = Usage(prompt_tokens=len(self.prompt), completion_tokens=len(step.tokens))
        overhead = Usage(prompt_tokens=found.proposed - found.matched) if found else Usage()
        return Generation(step.text, step.ending, usage, overhead, found, confidence=self._confidence())

    def _confidence(self) -> float | None:
        if self.entropy is not None:
            return confidence_at(self.entropy)
        return mean_confidence(self.logprobs) if self.logprobs else None


class _Decoding:
    """The tensors of a batch, one row per request: the cache, the mask and the logits of the last pass.

    ``logits`` has those after the last token of a row; after the first pass, also those after each proposed token.
    """

    def __init__(self, loaded: Loaded, rows: Sequence["_Row"]) -> None:
        self._model: Any = loaded.model
        self._cache = DynamicCache(config=loaded.model.config)
        read = [[*row.prompt, *row.proposed] for row in rows]
        padded = loaded.tokenizer.pad({"input_ids": read}, padding=True, return_tensors="pt").to(loaded.device)
        self._mask = padded["attention_mask"]
        shown = 1 + max(len(row.proposed) for row in rows)
        self._forward(padded["input_ids"], (self._mask.cumsum(-1) - 1).clamp(min=0), shown)

    def hide(self, row: int, tokens: int) -> None:
        """Mask the last ``tokens`` tokens of a row, as if they had not been read."""
        if tokens:
            self._mask[row, -tokens:] = 0

    def advance(self, tokens: list[int]) -> None:
        """Feed one token per row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], dim=-1)
        ids = torch.tensor(tokens, device=self._mask.device).unsqueeze(-1)
        self._forward(ids, self._mask.sum(-1, keepdim=True) - 1, 1)

    def keep(self, rows: list[int]) -> None:
        """Keep only these rows."""
        indices = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(indices)
        self._mask = self._mask[indices]

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, shown: int) -> None:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=shown,
        )
        self.logits: torch.Tensor = out.logits


def _first_tokens(decoding: _Decoding, rows: Sequence[_Row]) -> list[list[int]]:
    """Return the first tokens of each row: one token, or the agreed prefix of its proposal and the token after it."""
    taken = [[token] for token in _pick(decoding.logits[:, -1], rows)]
    choices: list[list[int]] = decoding.logits.argmax(-1).tolist()
    for index, row in enumerate(rows):
        if row.proposed:
            taken[index] = agreed_tokens(row.proposed, choices[index][-len(row.proposed) - 1 :])
            decoding.hide(index, len(row.proposed) + 1 - len(taken[index]))
    return taken


def _record_logprobs(logits: torch.Tensor, taken: Sequence[Sequence[int]], rows: Sequence[_Row]) -> None:
    """Record what each row's confidence needs of the distribution that its token was taken from."""
    selected = [index for index, row in enumerate(rows) if row.needs_logprobs]
    if not selected:
        return
    logprobs = torch.log_softmax(logits[selected].float(), -1)
    tokens = torch.tensor([taken[index][0] for index in selected], device=logits.device)
    chosen: list[float] = logprobs.gather(-1, tokens.unsqueeze(-1))[:, 0].tolist()
    for position, index in enumerate(selected):
        row = rows[index]
        if row.job.ask.confidence == "mean":
            row.logprobs.append(chosen[position])
        else:
            row.entropy = float(torch.special.entr(logprobs[position].exp()).sum())


def _pick(logits: torch.Tensor, rows: Sequence[_Row]) -> list[int]:
    """Return the next token of each row: the most likely one at temperature 0, else one drawn with the row's noise."""
    logits = logits.float()
    greedy: list[int] = logits.argmax(-1).tolist()
    return [
        greedy[index] if row.job.ask.temperature == 0 else _draw(logits[index], row) for index, row in enumerate(rows)
    ]


def _draw(logits: torch.Tensor, row: _Row) -> int:
    """Draw a token by inverting the distribution function of the most likely tokens up to ``top_p``."""
    ask = row.job.ask
    chances, order = torch.softmax(logits / ask.temperature, -1).sort(descending=True, stable=True)
    total = chances.cumsum(-1)
    kept = int((total - chances < ask.top_p).sum())
    drawn = row.noise.random() * float(total[kept - 1])
    return int(order[min(int((total[:kept] <= drawn).sum()), kept - 1)])
