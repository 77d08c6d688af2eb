"""Steps from a causal language model in process.

A batch is prefilled together, padded on the left, and decoded a token at a time. A row leaves as soon as it
is finished or cancelled; its answer is delivered at once. Sampling noise is drawn per row from its request's
seed, so that it does not depend on who shares the batch.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import random
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import DynamicCache, PreTrainedTokenizerBase

from arbiter.backends.batching import Batcher, Deliver, Job
from arbiter.backends.in_process.loading import Loaded
from arbiter.backends.prompts import PromptTemplate
from protocols.errors import ContextTooLongError
from protocols.ports import Generation, GenerationRequest
from protocols.records import Ending, Usage

GenerationJob = Job[GenerationRequest, Generation]

_COMPACT_BELOW = 0.75  # of a batch still at work: below it, copying the cache costs less than decoding dead rows


class InProcessGenerator:
    """A ``Generator`` over a loaded model; run ``batcher`` while it is used."""

    def __init__(self, loaded: Loaded, template: PromptTemplate, largest_batch: int) -> None:
        self._loaded = loaded
        self._template = template
        self._ends = _end_tokens(loaded)
        self.batcher = Batcher[GenerationRequest, Generation](self._work, largest_batch)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write one step. Raises ``ContextTooLongError`` if the prompt fills the model's context."""
        return await self.batcher.submit(request)

    @torch.inference_mode()
    def _work(self, jobs: Sequence[GenerationJob], deliver: Deliver[GenerationRequest, Generation]) -> None:
        rows = self._rows(jobs, deliver)
        if not rows:
            return
        decoding = _Decoding(self._loaded, [row.prompt for row in rows])
        while True:
            tokens = _pick(decoding.logits, rows)
            finished = [row for row, token in zip(rows, tokens, strict=True) if row.take(token)]
            if finished:
                deliver([(row.job, row.generation()) for row in finished])
            alive = [index for index, row in enumerate(rows) if row.ending is None and not row.job.cancelled]
            if not alive:
                return
            if len(alive) < _COMPACT_BELOW * len(rows):
                rows, tokens = [rows[index] for index in alive], [tokens[index] for index in alive]
                decoding.keep(alive)
            decoding.advance(tokens)

    def _rows(self, jobs: Sequence[GenerationJob], deliver: Deliver[GenerationRequest, Generation]) -> list["_Row"]:
        """A row for each job whose prompt leaves room in the context; the others are answered with the error."""
        rows: list[_Row] = []
        for job in jobs:
            text = self._template.render(job.ask.transcript, job.ask.separator)
            prompt: list[int] = self._loaded.tokenizer(text)["input_ids"]
            room = self._loaded.context - len(prompt)
            if room < 1:
                error = ContextTooLongError(
                    f"the prompt has {len(prompt)} tokens, and the context of {self._loaded.name} holds "
                    f"{self._loaded.context}: lower limits.max_tokens or shorten the question"
                )
                deliver([(job, error)])
            else:
                rows.append(_Row(job, prompt, min(room, job.ask.max_tokens), self._loaded.tokenizer, self._ends))
        return rows


def _end_tokens(loaded: Loaded) -> frozenset[int]:
    """What ends an answer: the generation settings' tokens (chat models have several), and the tokenizer's."""
    generation: Any = loaded.model.generation_config
    given: Any = generation.eos_token_id if generation is not None else None
    ends: list[int | None] = given if isinstance(given, list) else [given]
    return frozenset(end for end in (*ends, cast("int | None", loaded.tokenizer.eos_token_id)) if end is not None)


class _Row:
    """One request while it is decoded."""

    def __init__(
        self, job: GenerationJob, prompt: list[int], room: int, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]
    ) -> None:
        self.job = job
        self.prompt = prompt
        self.noise = random.Random(job.ask.seed)
        self.ending: Ending | None = None
        self._room = room
        self._tokenizer = tokenizer
        self._ends = ends
        self._tokens: list[int] = []
        self._text = ""

    def take(self, token: int) -> bool:
        """Append a token; True if the step ends with it. Rows that have ended take no more."""
        if self.ending is not None:
            return False
        self._tokens.append(token)
        separator = self.job.ask.separator
        if token in self._ends:
            self.ending, self._text = "end", self._decoded(self._tokens[:-1])
        elif separator in self._decoded(self._tokens[-len(separator.encode()) :]):
            # each token holds one byte or more, so a separator that ends here lies in that tail
            self.ending, self._text = "separator", self._decoded(self._tokens).partition(separator)[0]
        elif len(self._tokens) == self._room:
            self.ending, self._text = "limit", self._decoded(self._tokens)
        return self.ending is not None

    def generation(self) -> Generation:
        assert self.ending is not None  # noqa: S101 - asked for finished rows only
        usage = Usage(prompt_tokens=len(self.prompt), completion_tokens=len(self._tokens))
        return Generation(text=self._text, ending=self.ending, usage=usage)

    def _decoded(self, tokens: list[int]) -> str:
        return cast("str", self._tokenizer.decode(tokens, skip_special_tokens=True))


class _Decoding:
    """The tensors of a batch: its cache, its mask, and the logits of the next token, one row a request."""

    def __init__(self, loaded: Loaded, prompts: list[list[int]]) -> None:
        self._model: Any = loaded.model
        self._cache = DynamicCache(config=loaded.model.config)
        padded = loaded.tokenizer.pad({"input_ids": prompts}, padding=True, return_tensors="pt").to(loaded.device)
        self._mask = padded["attention_mask"]
        self._forward(padded["input_ids"], (self._mask.cumsum(-1) - 1).clamp(min=0))

    def advance(self, tokens: list[int]) -> None:
        """Feed one token a row."""
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], dim=-1)
        ids = torch.tensor(tokens, device=self._mask.device).unsqueeze(-1)
        self._forward(ids, self._mask.sum(-1, keepdim=True) - 1)

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        indices = torch.tensor(rows, device=self._mask.device)
        self._cache.batch_select_indices(indices)
        self._mask = self._mask[indices]

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits: torch.Tensor = out.logits[:, -1].float()


def _pick(logits: torch.Tensor, rows: Sequence[_Row]) -> list[int]:
    """The next token of each row: the first choice at temperature 0, else drawn with the row's own noise."""
    greedy: list[int] = logits.argmax(-1).tolist()
    return [
        greedy[index] if row.job.ask.temperature == 0 else _draw(logits[index], row) for index, row in enumerate(rows)
    ]


def _draw(logits: torch.Tensor, row: _Row) -> int:
    """Sample by inverting the distribution function of the most likely tokens that make up ``top_p``."""
    ask = row.job.ask
    chances, order = torch.softmax(logits / ask.temperature, -1).sort(descending=True, stable=True)
    total = chances.cumsum(-1)
    kept = int((total - chances < ask.top_p).sum())
    drawn = row.noise.random() * float(total[kept - 1])
    return int(order[min(int((total[:kept] <= drawn).sum()), kept - 1)])
