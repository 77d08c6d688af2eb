"""Labelled rows, and batches of them: equal lengths together, so that little is padding."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import torch
from torch.utils.data import Dataset

IGNORED = -100
"""The label of what is read and not learned (the value that torch's losses skip)."""

Batch = dict[str, torch.Tensor]


class Labelled(msgspec.Struct, frozen=True):
    """Token ids, and labels: one for each token, or where only the last one is read, one for each head.

    ``IGNORED`` stands where there is none. ``weight`` is by how much the row counts.
    """

    ids: list[int]
    labels: Sequence[float]
    weight: float = 1.0


def windows(rows: Iterable[Labelled], size: int, rng: random.Random) -> list[list[Labelled]]:
    """``rows`` in batches of ``size``: equal lengths together, so that little is padding; in random order."""
    order = sorted(rows, key=lambda row: len(row.ids))
    found = [order[start : start + size] for start in range(0, len(order), size)]
    rng.shuffle(found)
    return found


def epochs(rows: Sequence[Labelled], size: int, seed: int) -> Iterator[list[Labelled]]:
    """Endless epochs of batches, each in an order of its own: rows of equal length meet others each time."""
    rng = random.Random(seed)
    while True:
        yield from windows(rng.sample(rows, len(rows)), size, rng)


def collated(rows: Sequence[Labelled], pad: int) -> Batch:
    """Tensors of shape (rows, longest row); padded on the right, since training needs no shared end.

    Labels of heads, of which there are as many in each row, are not padded: shape (rows, heads).
    """
    width = max(len(row.ids) for row in rows)
    missing = [width - len(row.ids) for row in rows]
    by_token = all(len(row.labels) == len(row.ids) for row in rows)
    labels = [[*row.labels, *([IGNORED] * lack if by_token else ())] for row, lack in zip(rows, missing, strict=True)]
    return {
        "input_ids": torch.tensor([row.ids + [pad] * lack for row, lack in zip(rows, missing, strict=True)]),
        "attention_mask": torch.tensor([[1] * (width - lack) + [0] * lack for lack in missing]),
        "labels": torch.tensor(labels),
        "weights": torch.tensor([row.weight for row in rows]),
    }


class BatchStream(Dataset[list[Labelled]]):
    """The first ``length`` batches of an endless stream, by their numbers; ``begin`` starts the stream again.

    A loader asks for them in order, and a training that is resumed for those after its checkpoint.
    """

    def __init__(self, begin: Callable[[], Iterator[list[Labelled]]], length: int) -> None:
        self._begin = begin
        self._length = length
        self._stream, self._next = begin(), 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> list[Labelled]:
        if index < self._next:
            self._stream, self._next = self._begin(), 0
        while True:
            batch = next(self._stream)
            self._next += 1
            if self._next > index:
                return batch
