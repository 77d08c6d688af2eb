"""The keys and values of the rows of a batch, in one tensor.

The layout is ``[layers, slots × key-value heads, 2, tokens, head size]``: of its second axis, the heads of slot 0 come
first. Attention over several slots is then two batched matrix products without a copy. Other layouts cost up to four
times as much on a CPU.
"""

import math

import torch
from torch import Tensor

_TOKENS = 128  # the capacity for tokens is a multiple of this


class KVSlots:
    """Slots for up to ``context`` tokens each. They grow on demand.

    ``layers``, ``heads`` and ``size`` are the numbers of layers and key-value heads, and the size of a head.
    """

    def __init__(
        self, layers: int, heads: int, size: int, context: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.heads = heads
        self._context = context
        self._kv = torch.zeros((layers, 0, 2, 0, size), dtype=dtype, device=device)
        self.token_bytes = layers * heads * 2 * size * dtype.itemsize

    @property
    def layers(self) -> Tensor:
        """The tensor. A later ``reserve`` may replace it."""
        return self._kv

    @property
    def slots(self) -> int:
        """The number of slots."""
        return self._kv.shape[1] // self.heads

    @property
    def bytes(self) -> int:
        """The memory in use."""
        return self._kv.nbytes

    def bytes_for(self, slots: int, tokens: int) -> int:
        """Return the memory of ``slots`` slots of ``tokens`` tokens."""
        return slots * self._width(tokens) * self.token_bytes

    def reserve(self, slots: int, tokens: int, limit: float = math.inf) -> None:
        """Make room for ``slots`` slots of ``tokens`` tokens, which must hold all that is in use.

        Slots stay as many and as wide as they are, unless they would then take more than ``limit`` bytes.
        """
        layers, old_rows, _, old_width, size = self._kv.shape
        rows, width = max(slots * self.heads, old_rows), max(self._width(tokens), old_width)
        if rows // self.heads * width * self.token_bytes > limit:
            rows, width = slots * self.heads, self._width(tokens)
        if (rows, width) == (old_rows, old_width):
            return
        kept, long = min(rows, old_rows), min(width, old_width)
        resized = self._kv.new_zeros((layers, rows, 2, width, size))
        resized[:, :kept, :, :long] = self._kv[:, :kept, :, :long]
        self._kv = resized

    def clear(self) -> None:
        """Free the memory of all slots."""
        layers, _, _, _, size = self._kv.shape
        self._kv = self._kv.new_zeros((layers, 0, 2, 0, size))

    def save(self, slot: int, start: int, end: int) -> Tensor:
        """Return a copy of the tokens from ``start`` to ``end``: ``[layers, heads, 2, tokens, head size]``."""
        return self._of(slot)[:, :, :, start:end].clone()

    def load(self, slot: int, start: int, saved: Tensor) -> None:
        """Write what ``save`` returned, with its first token at ``start``."""
        self._of(slot)[:, :, :, start : start + saved.shape[3]] = saved

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first ``tokens`` tokens of slot ``source`` to slot ``target``."""
        self._of(target)[:, :, :, :tokens] = self._of(source)[:, :, :, :tokens]

    def _width(self, tokens: int) -> int:
        return min(-(-tokens // _TOKENS) * _TOKENS, self._context)

    def _of(self, slot: int) -> Tensor:
        return self._kv[:, slot * self.heads : (slot + 1) * self.heads]
