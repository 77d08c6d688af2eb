"""The labels of a router's training: classes of the advantage Δ, and the weight of each row."""

import random
from collections.abc import Sequence

import numpy as np

from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import DataError
from arbiter.training.batches import IGNORED
from arbiter.training.metadata import Balance, Labels

CLASSES: dict[Labels, int] = {"binary": 2, "4-class": 4, "10-class": 10, "ordinal": 4}


def target_names(rows: Sequence[TrainingRow]) -> tuple[str, ...]:
    """Return the target names in ``rows``, in the order of their appearance; empty with a single target."""
    return tuple(dict.fromkeys(name for row in rows for name in row.target_names))


def advantages(row: TrainingRow, targets: Sequence[str]) -> list[float | None]:
    """Return Δ for each of ``targets``: the mean over its candidates, or None without any.

    With empty ``targets``, return a single Δ.
    """
    if not targets:
        return [row.advantage]
    found: list[float | None] = []
    for target in targets:
        scores = [score for name, score in zip(row.target_names, row.target_scores, strict=False) if name == target]
        found.append(sum(scores) / len(scores) - row.draft_score if scores else None)
    return found


def edges_of(deltas: Sequence[float], labels: Labels) -> tuple[float, ...]:
    """Return the edges between the classes: 0, and on each side of it quantiles that divide that side's Δ evenly.

    Class c contains the Δ above exactly c edges, so the upper half of the classes is Δ > 0. Rows with Δ = 0 belong to
    the class just below. Raises ``DataError`` if a side has too few values to divide.
    """
    half = CLASSES[labels] // 2
    if half == 1:
        return (0.0,)
    shares = np.arange(1, half) / half
    sides = [np.asarray([delta for delta in deltas if sign * delta > 0]) for sign in (-1, 1)]
    if min(map(len, sides)) < half:
        raise DataError(
            f"--labels {labels} needs {half} rows with Δ < 0 and {half} with Δ > 0 in the training split, but there "
            f"are {len(sides[0])} and {len(sides[1])}: use --labels binary, or collect more"
        )
    low, high = (np.quantile(side, shares).tolist() for side in sides)
    edges = (*low, 0.0, *high)
    if len(set(edges)) < len(edges):
        raise DataError(f"Δ has too few different values for --labels {labels}: use --labels binary")
    return edges


def labels_of(deltas: Sequence[float | None], edges: Sequence[float], labels: Labels) -> list[int]:
    """Return the labels of a row: the class for each target, or, for ordinal labels, whether Δ is above each edge."""
    if labels == "ordinal":
        return [IGNORED if deltas[0] is None else int(deltas[0] > edge) for edge in edges]
    return [IGNORED if delta is None else sum(delta > edge for edge in edges) for delta in deltas]


def is_better(deltas: Sequence[float | None]) -> bool:
    """Return y = 1[Δ > 0]: whether the target, or any of several targets, wrote a better step."""
    return any(delta is not None and delta > 0 for delta in deltas)


def balanced(better: Sequence[bool], balance: Balance, seed: int) -> list[tuple[int, float]]:
    """Return the indices of the rows to learn from, each with its weight.

    ``downsample`` takes as many rows of the majority as there are of the minority. ``weights`` takes all rows, weighted
    so that both classes count the same. ``none`` takes all rows with equal weights. Raises ``DataError`` if all rows
    are of one class: nothing can be learned from them.
    """
    classes = [[index for index, found in enumerate(better) if found is kind] for kind in (False, True)]
    if not all(classes):
        count = "none" if not classes[1] else "all"
        raise DataError(
            f"the target writes a better step (Δ > 0) in {count} of the {len(better)} rows of the training split, but "
            "a router needs both kinds: collect more problems, or check the PRM's scores"
        )
    if balance == "none":
        return [(index, 1.0) for index in range(len(better))]
    if balance == "weights":
        return [(index, len(better) / (2 * len(classes[found]))) for index, found in enumerate(better)]
    rng, size = random.Random(seed), min(map(len, classes))
    return [(index, 1.0) for found in classes for index in rng.sample(found, size)]
