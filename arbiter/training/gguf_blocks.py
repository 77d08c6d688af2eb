"""What the weights of a checkpoint lose as GGUF in blocks of 8 bits (Q8_0).

A block has 32 values in a row, as integers from -127 to 127, and one scale in half precision: the largest value divided
by 127. A scale below the smallest number of half precision is zero, and so are all values of its block. A scale above
its largest number is infinite. Source: ``gguf`` 0.19.0, ``quants.py``; llama.cpp computes the same.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open
from torch import Tensor

_BLOCK, _LARGEST = 32, 127


class BlockLosses(msgspec.Struct, frozen=True):
    """The number of ``blocks`` of weights, and how many become ``zero`` or ``infinite`` though they are neither."""

    blocks: int = 0
    zero: int = 0
    infinite: int = 0

    def plus(self, other: "BlockLosses") -> "BlockLosses":
        return BlockLosses(self.blocks + other.blocks, self.zero + other.zero, self.infinite + other.infinite)


def losses_of(weight: Tensor) -> BlockLosses:
    """Return the losses of one matrix. Vectors, and rows that are no whole blocks, are not stored in blocks."""
    if weight.dim() < 2 or not weight.is_floating_point() or weight.shape[-1] % _BLOCK:
        return BlockLosses()
    highest = weight.reshape(-1, _BLOCK).float().abs().amax(-1)
    scales = (highest / _LARGEST).half()
    zero, infinite = (highest > 0) & (scales == 0), scales.isinf() & ~highest.isinf()
    return BlockLosses(len(highest), int(zero.sum()), int(infinite.sum()))


def losses_in(folder: Path) -> BlockLosses:
    """Return the losses of all matrices in the safetensors files of ``folder``, one matrix in memory at a time."""
    found = BlockLosses()
    for file in sorted(folder.glob("*.safetensors")):
        for weight in _weights(file):
            found = found.plus(losses_of(weight))
    return found


def _weights(file: Path) -> Iterable[Tensor]:
    with safe_open(file, "pt") as opened, torch.no_grad():
        for name in opened.keys():  # noqa: SIM118 - not a mapping
            yield opened.get_tensor(name)
