"""The attention of a pass of the Llama family over slots of keys and values.

Chunks of one token attend together, in two batched products over all their slots. Each longer chunk attends alone.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch is typed in part)

import math
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from arbiter.backends.in_process.sequence_model import Chunk


class PassAttention:
    """The chunks of a pass as index tensors, and views of the slots for each layer.

    The tokens of the pass are numbered with chunks of one token first, by slot, and then the longer ones. ``ids`` and
    ``positions`` are in that order: ``[tokens]``. ``shown`` selects the shown tokens, in the order of ``chunks``.

    ``kv`` has the layout of ``KVSlots``, for ``heads`` key-value heads. ``queries`` is the number of query heads per
    key-value head. ``numbers`` counts from 0, on the device of ``kv``, for at least as many tokens as a slot holds.
    """

    def __init__(self, chunks: Sequence[Chunk], kv: Tensor, heads: int, queries: int, numbers: Tensor) -> None:
        self._heads = heads
        self._queries = queries
        self._size = kv.shape[-1]
        self._device = kv.device
        self._hidden = kv.new_full((), -math.inf)
        self._visible = kv.new_zeros(())
        single = sorted((chunk for chunk in chunks if len(chunk.ids) == 1), key=lambda chunk: chunk.slot)
        longer = [chunk for chunk in chunks if len(chunk.ids) > 1]
        self._index(chunks, [*single, *longer], kv, numbers)
        self._count = len(single)
        self._owners: Tensor | None = None  # the slots of chunks of one token, where slots between them have none
        if single:
            self._lay_out_single(single, kv, numbers)
        self._longer = [self._lay_out_longer(chunk, kv, numbers) for chunk in longer]

    def attend(self, layer: int, queries: Tensor, new: Tensor) -> Tensor:
        """Write the keys and values ``new`` of a layer, and return the attention of ``queries``.

        ``new`` is ``[tokens, 2 × heads, head size]``, keys first; queries and result are ``[tokens, heads, head size]``
        with all query heads. For the last layer, the result has the shown tokens alone: nothing reads the others.
        """
        self._flat[layer][self._rows] = new
        last = layer == len(self._flat) - 1
        parts: list[Tensor] = []
        if self._count:
            parts.append(self._attend_single(layer, queries[: self._count]))
        end = self._count
        for chunk, mask, keys, values in self._longer:
            count = chunk.shown if last else len(chunk.ids)
            end += len(chunk.ids)
            if count:
                part = queries[end - count : end]
                parts.append(self._attend_longer(part, mask[-count:], keys[layer], values[layer]))
        if not parts:
            return queries[:0]
        found = parts[0] if len(parts) == 1 else torch.cat(parts)
        return found[self._order] if last else found

    def _index(self, chunks: Sequence[Chunk], ordered: Sequence[Chunk], kv: Tensor, numbers: Tensor) -> None:
        width = kv.shape[3]
        per_slot = 2 * self._heads * width
        ids, positions, rows = array("q"), array("q"), array("q")
        ends: dict[int, int] = {}
        for chunk in ordered:
            end = chunk.start + len(chunk.ids)
            ids.extend(chunk.ids)
            positions.extend(range(chunk.start, end))
            rows.extend(range(chunk.slot * per_slot + chunk.start, chunk.slot * per_slot + end))
            ends[chunk.slot] = len(ids)
        self.ids, self.positions, first = self._tensor(ids + positions + rows).view(3, -1)
        keys = numbers[: self._heads] * (2 * width)
        self._rows = first[:, None] + torch.cat((keys, keys + width))
        self._flat = kv.view(len(kv), -1, self._size).unbind()
        computed = 0
        shown, order = array("q"), array("q")  # the shown tokens, among all and among those that the last layer attends
        last: dict[int, int] = {}
        for chunk in ordered:
            computed = last[chunk.slot] = computed + (1 if len(chunk.ids) == 1 else chunk.shown)
        for chunk in chunks:
            shown.extend(range(ends[chunk.slot] - chunk.shown, ends[chunk.slot]))
            order.extend(range(last[chunk.slot] - chunk.shown, last[chunk.slot]))
        self.shown = self._selection(shown, len(ids))
        self._order = self._selection(order, computed)

    def _lay_out_single(self, chunks: Sequence[Chunk], kv: Tensor, numbers: Tensor) -> None:
        """Prepare the attention of chunks of one token: over all slots up to the last one of them."""
        span, top = chunks[-1].slot + 1, max(chunk.start for chunk in chunks) + 1
        limits = array("q", bytes(8 * span))
        for chunk in chunks:
            limits[chunk.slot] = chunk.start
        seen = numbers[:top] <= self._tensor(limits)[:, None]
        wide = self._mask(seen)[:, None, None].expand(span, self._heads, self._queries, top)
        self._single_mask = wide.reshape(span * self._heads, self._queries, top)
        self._keys, self._values = _held(kv, slice(0, span * self._heads), top)
        if len(chunks) < span:
            self._owners = self._tensor(array("q", [chunk.slot for chunk in chunks]))

    def _lay_out_longer(
        self, chunk: Chunk, kv: Tensor, numbers: Tensor
    ) -> tuple[Chunk, Tensor, Sequence[Tensor], Sequence[Tensor]]:
        """Return the chunk, its mask ``[tokens, tokens read]``, and the keys and values by layer."""
        end = chunk.start + len(chunk.ids)
        mask = self._mask(numbers[:end] <= numbers[chunk.start : end, None])
        return chunk, mask, *_held(kv, slice(chunk.slot * self._heads, (chunk.slot + 1) * self._heads), end)

    def _attend_single(self, layer: int, queries: Tensor) -> Tensor:
        if self._owners is None:
            q = queries
        else:
            q = queries.new_zeros((len(self._keys[layer]) // self._heads, *queries.shape[1:]))
            q[self._owners] = queries
        q = q.reshape(-1, self._queries, self._size)
        found = self._attention(q, self._single_mask, self._keys[layer], self._values[layer])
        found = found.view(-1, self._heads * self._queries, self._size)
        return found if self._owners is None else found[self._owners]

    def _attend_longer(self, queries: Tensor, mask: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q = queries.unflatten(1, (self._heads, self._queries)).permute(1, 2, 0, 3).flatten(1, 2)
        repeated = mask if self._queries == 1 else mask.repeat(self._queries, 1)
        found = self._attention(q, repeated, keys, values).unflatten(1, (self._queries, -1))
        return found.permute(2, 0, 1, 3).flatten(1, 2)

    def _attention(self, queries: Tensor, mask: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        scores = torch.baddbmm(mask, queries, keys, alpha=self._size**-0.5)
        if scores.dtype == torch.float32:
            return torch.bmm(torch.softmax(scores, -1), values)
        return torch.bmm(torch.softmax(scores, -1, dtype=torch.float32).to(scores.dtype), values)

    def _mask(self, seen: Tensor) -> Tensor:
        return torch.where(seen, self._visible, self._hidden)

    def _selection(self, numbers: "array[int]", among: int) -> slice | Tensor:
        return slice(None) if numbers == array("q", range(among)) else self._tensor(numbers)

    def _tensor(self, numbers: "array[int]") -> Tensor:
        if not numbers:
            return torch.empty(0, dtype=torch.long, device=self._device)
        return torch.frombuffer(numbers, dtype=torch.long).to(self._device)


def _held(kv: Tensor, heads: slice, tokens: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return the keys (transposed) and values of each layer, for some heads and the first ``tokens`` tokens."""
    held = kv[:, heads, :, :tokens]
    return held[:, :, 0].transpose(2, 3).unbind(), held[:, :, 1].unbind()
