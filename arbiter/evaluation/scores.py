"""What a score says of each step: how much an escalation is wanted there. Higher means: escalate rather here."""

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec
import numpy as np

from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.resampling import Floats, Integers
from arbiter.protocols.errors import DataError

Name = Literal["router", "rsd", "confidence", "random", "oracle"]
NAMES: tuple[Name, ...] = get_args(Name)

_HALF = 0.5
_CUTS: dict[Name, float | None] = {"router": _HALF, "rsd": -_HALF, "confidence": -_HALF, "random": None, "oracle": 0.0}


class StepScores(msgspec.Struct, frozen=True, eq=False):
    """Steps with the target's advantage Δ in [-1, 1] and a score each, arrays of the shape (steps,).

    ``problem`` numbers each step's problem, from 0 to ``problems`` - 1. ``cut`` is the threshold at which the score
    says of itself that Δ > 0 (None: it says nothing), and ``likely`` whether it is an estimate of P(Δ > 0).
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
    """The scores that ``rows`` have, with ``predicted`` as the router's ŷ in [0, 1] (None: there is no router).

    ``rsd`` is -h(x, z_d) and ``confidence`` minus the draft's own (left out unless all rows have it): 1 - h would make
    ties of rewards below 1e-16. ``oracle`` is Δ.
    ``random`` is the same for all steps: ties count in expectation, so that nothing is drawn.
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
    """The number of each row's problem, in the order in which they come."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(row.problem, len(numbers)) for row in rows], dtype=np.int64)


def target_names(rows: Sequence[TrainingRow]) -> tuple[str, ...]:
    """The targets of ``rows``, in the order in which they come; empty where there is one alone."""
    return tuple(dict.fromkeys(name for row in rows for name in row.target_names))


def advantages(rows: Sequence[TrainingRow], target: str = "") -> Floats:
    """Δ of each row against ``target``: the mean over its samples, less the draft's score. "" is all samples.

    Raises ``DataError`` naming a row that has no sample of it.
    """
    return np.array([_advantage(row, target) for row in rows])


def _advantage(row: TrainingRow, target: str) -> float:
    if not target:
        return row.advantage
    mine = [score for score, name in zip(row.target_scores, row.target_names, strict=False) if name == target]
    if not mine:
        raise DataError(f"step {row.step} of {row.problem} has no sample of the target {target!r}: collect it again")
    return sum(mine) / len(mine) - row.draft_score
