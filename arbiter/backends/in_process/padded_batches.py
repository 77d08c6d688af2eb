"""Generators whose keys and values do not fit into slots, such as those with a sliding window, through transformers.

Texts that begin in one pass form a batch with a cache of transformers, padded on the left. A batch is read together
until its last text ends, and a text leaves it when it ends. Later texts form batches of their own.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Container, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from arbiter.backends.in_process.sequence_model import Chunk

_GONE = -1  # in place of the slot of a text that has ended


class PaddedModel:
    """A ``SequenceModel`` without slots. ``read`` returns the outputs; ``outputs`` only converts them to float32."""

    slots = None

    def __init__(self, model: PreTrainedModel, context: int) -> None:
        self._model: Any = model
        self._batches: list[_PaddedBatch] = []
        self.context = context

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """As ``SequenceModel.read``, but ``[chunks, outputs]``: the last token of each chunk is shown.

        A chunk that starts at 0 begins a new text. All texts that go on are in each pass.
        """
        begun = [chunk for chunk in chunks if chunk.start == 0]
        tokens = {chunk.slot: chunk.ids[0] for chunk in chunks if chunk.start}
        outputs: dict[int, Tensor] = {}
        for batch in self._batches:
            batch.keep(tokens.keys())
            if batch.slots:
                outputs |= batch.advance([tokens[slot] for slot in batch.slots])
        self._batches = [batch for batch in self._batches if batch.slots]
        if begun:
            batch = _PaddedBatch(self._model, begun)
            outputs |= batch.begin(begun)
            self._batches.append(batch)
        return torch.stack([outputs[chunk.slot] for chunk in chunks])

    def outputs(self, hidden: Tensor) -> Tensor:
        """As ``SequenceModel.outputs``, for what ``read`` returns."""
        return hidden.float()

    def move(self, source: int, target: int, tokens: int) -> None:
        """As ``SequenceModel.move``."""
        names = {target: _GONE, source: target}
        for batch in self._batches:
            batch.slots = [names.get(slot, slot) for slot in batch.slots]


class _PaddedBatch:
    """Texts that began together, one row each. ``slots`` has the slot of each row."""

    def __init__(self, model: Any, chunks: Sequence[Chunk]) -> None:  # noqa: ANN401 - classes of transformers
        self._model = model
        self._cache = DynamicCache(config=model.config)
        self.slots = [chunk.slot for chunk in chunks]
        width = max(len(chunk.ids) for chunk in chunks)
        seen = [[0] * (width - len(chunk.ids)) + [1] * len(chunk.ids) for chunk in chunks]
        self._mask = torch.tensor(seen, device=model.device)

    def begin(self, chunks: Sequence[Chunk]) -> dict[int, Tensor]:
        """Read the texts. Return the outputs of the last token by slot."""
        width = self._mask.shape[1]
        ids = [[0] * (width - len(chunk.ids)) + [*chunk.ids] for chunk in chunks]
        return self._forward(torch.tensor(ids, device=self._mask.device), (self._mask.cumsum(-1) - 1).clamp(min=0))

    def keep(self, slots: Container[int]) -> None:
        """Keep only the rows of these slots."""
        rows = [row for row, slot in enumerate(self.slots) if slot in slots]
        if len(rows) < len(self.slots):
            self.slots = [self.slots[row] for row in rows]
            indices = torch.tensor(rows, dtype=torch.long, device=self._mask.device)
            self._mask = self._mask[indices]
            if rows:
                self._cache.batch_select_indices(indices)

    def advance(self, tokens: list[int]) -> dict[int, Tensor]:
        """Read one token per row. Return its outputs by slot."""
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], -1)
        ids = torch.tensor(tokens, device=self._mask.device)[:, None]
        return self._forward(ids, self._mask.sum(-1, keepdim=True) - 1)

    def _forward(self, ids: Tensor, positions: Tensor) -> dict[int, Tensor]:
        logits: Tensor = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return dict(zip(self.slots, logits[:, -1], strict=True))
