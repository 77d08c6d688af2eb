"""Learn thresholds by position from collected rows: at each step, escalate while that gains enough. Needs numpy.

All steps have the same price of an escalation. At each position, the steps with the highest scores are escalated, as
many as give the largest sum of Δ − price. The price is the lowest at which the share of escalations is kept.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.thresholds import threshold_at
from arbiter.protocols.errors import DataError
from arbiter.runs.reports.resampling import Floats, Integers

_FEWEST = 50  # rows of a position; fewer join those of the position before it
_HALVINGS = 40  # of the interval of prices


class PositionThresholds(msgspec.Struct, frozen=True):
    """The threshold of all steps together, and what is added to it at each step; a higher score escalates."""

    threshold: float
    offsets: tuple[float, ...]


def learned_positions(
    rows: Sequence[TrainingRow], score: Floats, delta: Floats, escalated: float, positions: int
) -> PositionThresholds:
    """Return the thresholds at which at most the share ``escalated`` (0 to 1) of ``rows`` is escalated.

    ``score`` and ``delta`` have a number for each row: a higher score means that the step should rather be escalated,
    and Δ is what that gains. There are at most ``positions`` offsets, 1 or more. Raises ``DataError`` if there are too
    few rows.
    """
    steps = np.array([row.step for row in rows])
    groups = _groups(steps, positions)
    low, high = -1.0, 1.0
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        share = sum(_best(score[group], delta[group] - price)[0] for group in groups) / len(rows)
        low, high = (price, high) if share > escalated else (low, price)
    overall = threshold_at(score, escalated)
    taus = [_best(score[group], delta[group] - high)[1] for group in groups]
    return PositionThresholds(overall, tuple(tau - overall for tau in taus))


def _groups(steps: Integers, positions: int) -> list[Integers]:
    """Return the rows of each position; those of the last one have all further steps."""
    groups: list[Integers] = []
    for position in range(positions):
        own, later = np.flatnonzero(steps == position), np.flatnonzero(steps > position)
        if position == positions - 1 or min(len(own), len(later)) < _FEWEST:
            groups.append(np.concatenate([own, later]))
            break
        groups.append(own)
    if len(groups[-1]) < _FEWEST:
        if len(groups) == 1:
            raise DataError(f"{len(groups[0])} rows are too few to learn thresholds by position: {_FEWEST} are needed")
        groups[-2:] = [np.concatenate(groups[-2:])]
    return groups


def _best(score: Floats, gain: Floats) -> tuple[int, float]:
    """Return how many steps to escalate for the largest sum of ``gain``, and the threshold below their scores.

    Steps with the same score are escalated together. Of equal sums, the one with the fewest steps counts.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    ends = np.flatnonzero(np.append(ordered[:-1] > ordered[1:], True)) + 1
    counts = np.concatenate([[0], ends])
    sums = np.concatenate([[0.0], np.cumsum(gain[order])])[counts]
    count = int(counts[int(np.argmax(sums))])
    threshold = float(ordered[count]) if count < len(ordered) else float(np.nextafter(ordered[-1], -np.inf))
    return count, threshold
