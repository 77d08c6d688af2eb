"""Labelled rows, and batches of rows of similar length, to keep padding small."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import torch
from torch.utils.data import Dataset

IGNORED = -100
"""The label of tokens that are read but not learned (torch's losses skip this value)."""

Batch = dict[str, torch.Tensor]


class Labelled(msgspec.Struct, frozen=True):
    """Token ids with their labels. ``weight`` is the row's factor in the loss.

    There is one label per token, or one per head if only the last token is read. ``IGNORED`` means no label.
    """

    ids: list[int]
    labels: Sequence[float]
    weight: float = 1.0


def windows(rows: Iterable[Labelled], size: int, rng: random.Random) -> list[list[Labelled]]:
    """Return ``rows`` in batches of ``size``, in random order. Each batch has rows of similar length."""
    order = sorted(rows, key=lambda row: len(row.ids))
    found = [order[start : start + size] for start in range(0, len(order), size)]
    rng.shuffle(found)
    return found


def epochs(rows: Sequence[Labelled], size: int, seed: int) -> Iterator[list[Labelled]]:
    """Yield the batches of epochs without end. Each epoch has its own order, and mixes rows of equal length anew."""
    rng = random.Random(seed)
    while True:
        yield from windows(rng.sample(rows, len(rows)), size, rng)


def collated(rows: Sequence[Labelled], pad: int) -> Batch:
    """Return tensors of shape (rows, longest row), padded on the right with the token ``pad``.

    Labels of heads are not padded: every row has the same number, and their shape is (rows, heads).
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
    """The first ``length`` batches of an endless stream, by number. ``begin`` restarts the stream.

    A loader reads them in order. A resumed training reads those after its checkpoint.
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
