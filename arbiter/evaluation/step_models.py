"""Learn from collected rows how often steps are right, and how a score of a draft depends on it. Needs numpy.

The process reward of a step is taken as the probability that it and all steps before it are right. So no labels are
needed, and the model is as good as the reward model is calibrated.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from arbiter.actors.beliefs import StepModel
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import DataError

ObservedScore = Literal["confidence", "prm"]
"""What a policy sees of a draft: its own confidence, or its process reward."""

_FEWEST = 20  # rows per bin: fewer give no probability worth the name


def learned_model(rows: Sequence[TrainingRow], score: ObservedScore, bins: int) -> StepModel:
    """Return the model of the steps in ``rows``, with ``bins`` bins of about equal size, 2 or more.

    Equal scores share a bin, so there may be fewer. One row is added to each bin of both kinds, so that no score is
    impossible. Raises ``DataError`` if there are too few rows, or if they lack the draft's confidence.
    """
    seen = [row.confidence if score == "confidence" else row.draft_score for row in rows]
    scores = np.array([one for one in seen if one is not None])
    if len(scores) < len(seen):
        raise DataError(
            f"{len(seen) - len(scores)} of {len(seen)} rows have no confidence of the draft: collect them again with "
            "confidences (confidence = 'mean'), or use --score prm"
        )
    if len(scores) < _FEWEST * bins:
        raise DataError(f"{len(scores)} rows are too few for {bins} bins: {_FEWEST * bins} or more are needed")
    inner = np.quantile(scores, np.arange(1, bins) / bins)
    edges = tuple(sorted({round(float(edge), 6) for edge in inner if 0 < edge < 1}))
    places = np.searchsorted(np.array(edges), scores, side="right")
    right = np.array([row.draft_score for row in rows])
    target = np.array([row.target_scores[0] for row in rows])
    before = _right_before(rows)
    if not before.sum():
        raise DataError("no step of the rows follows right steps, by their process rewards: check the reward model")
    ok = before * right
    of_bin = np.bincount(places, before, len(edges) + 1)
    target_right = float(before @ target / before.sum())
    targets = (np.bincount(places, before * target, len(edges) + 1) + target_right) / (of_bin + 1)
    return StepModel(
        draft_right=round(float(ok.sum() / before.sum()), 6),
        target_right=round(target_right, 6),
        edges=edges,
        right=_shares(places, ok, len(edges) + 1),
        wrong=_shares(places, 1 - ok, len(edges) + 1),
        target_by_bin=tuple(round(float(one), 6) for one in targets),
    )


def _right_before(rows: Sequence[TrainingRow]) -> NDArray[np.float64]:
    """Return the probability that all steps before each row are right: the reward of the step that was kept before it.

    A step whose step before it has no row counts as one after right steps.
    """
    kept = {
        (row.problem, row.sample, row.step): row.target_scores[0] if row.kept == "target" else row.draft_score
        for row in rows
    }
    return np.array([kept.get((row.problem, row.sample, row.step - 1), 1.0) for row in rows])


def _shares(places: NDArray[np.intp], weights: NDArray[np.float64], bins: int) -> tuple[float, ...]:
    """Return the share of ``weights`` in each bin, which adds up to 1."""
    sums = np.bincount(places, weights, bins) + 1
    shares = [round(float(share), 6) for share in sums / sums.sum()]
    return (*shares[:-1], round(1 - sum(shares[:-1]), 6))
