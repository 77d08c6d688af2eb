"""Scores of steps. A higher score means that the step should rather be escalated."""

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec
import numpy as np

from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import DataError
from arbiter.runs.reports.resampling import Floats, Integers

Name = Literal["router", "rsd", "confidence", "random", "oracle"]
NAMES: tuple[Name, ...] = get_args(Name)

_HALF = 0.5
_CUTS: dict[Name, float | None] = {"router": _HALF, "rsd": -_HALF, "confidence": -_HALF, "random": None, "oracle": 0.0}


class StepScores(msgspec.Struct, frozen=True, eq=False):
    """Steps with the target's advantage Δ in [-1, 1] (``delta``) and a score each. Arrays have the shape (steps,).

    ``problem`` numbers the problem of each step, from 0 to ``problems`` - 1. ``cut`` is the threshold above which the
    score itself predicts Δ > 0 (None: it predicts nothing). ``likely`` says whether the score estimates P(Δ > 0).
    """

    name: Name
    problem: Integers
    delta: Floats
    score: Floats
    cut: float | None = None
    likely: bool = False

    @property
    def problems(self) -> int:
        return int(self.problem.max()) + 1


def scores(rows: Sequence[TrainingRow], delta: Floats, predicted: Floats | None = None) -> list[StepScores]:
    """Return the scores of ``rows``. ``predicted`` is the router's ŷ in [0, 1] (None: there is no router).

    - ``rsd`` is -h(x, z_d). 1 - h would make rewards below 1e-16 equal.
    - ``confidence`` is minus the draft's confidence. It is left out unless all rows have it.
    - ``oracle`` is Δ.
    - ``random`` is the same for all steps: ties count in expectation, so nothing is drawn.
    """
    confidences = [row.confidence for row in rows if row.confidence is not None]
    found: dict[Name, Floats | None] = {
        "router": predicted,
        "rsd": -np.array([row.draft_score for row in rows]),
        "confidence": -np.array(confidences) if len(confidences) == len(rows) else None,
        "random": np.zeros(len(rows)),
        "oracle": delta,
    }
    problem = numbered(rows)
    return [
        StepScores(name, problem, delta, score, _CUTS[name], name == "router")
        for name, score in found.items()
        if score is not None
    ]


def numbered(rows: Sequence[TrainingRow]) -> Integers:
    """Return the number of each row's problem. Problems are numbered in order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(row.problem, len(numbers)) for row in rows], dtype=np.int64)


def target_names(rows: Sequence[TrainingRow]) -> tuple[str, ...]:
    """Return the targets of ``rows`` in order of appearance. Empty if rows do not name a target."""
    return tuple(dict.fromkeys(name for row in rows for name in row.target_names))


def advantages(rows: Sequence[TrainingRow], target: str = "") -> Floats:
    """Return Δ of each row against ``target``: the mean score of its samples minus the draft's score.

    ``target`` "" means all samples. Raises ``DataError`` naming a row without a sample of the target.
    """
    return np.array([_advantage(row, target) for row in rows])


def _advantage(row: TrainingRow, target: str) -> float:
    if not target:
        return row.advantage
    samples = [score for score, name in zip(row.target_scores, row.target_names, strict=False) if name == target]
    if not samples:
        raise DataError(f"step {row.step} of {row.problem} has no sample of the target {target!r}: collect it again")
    return sum(samples) / len(samples) - row.draft_score
