"""Thresholds by position: what is added to a policy's threshold at each step. Pure functions."""

from collections.abc import Sequence


def threshold_at(threshold: float, offsets: Sequence[float], step: int) -> float:
    """Return the threshold of a step, from 0: ``threshold`` plus its offset.

    The last offset is for every further step. Without offsets, all steps have ``threshold``.
    """
    return threshold + offsets[min(step, len(offsets) - 1)] if offsets else threshold
