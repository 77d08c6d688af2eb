"""Find the threshold that meets a budget from the graded runs of a sweep, by linear interpolation between runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from arbiter.evaluation.tuning import ESCALATES, Policy, Tuned
from arbiter.protocols.errors import DataError, RunError
from arbiter.runs.documents import read_document
from arbiter.runs.folder import read_results
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.remedies import SWEEP_REMEDY
from arbiter.runs.reports.curves import Curve, CurvePoint, Figure, curve
from arbiter.runs.reports.problem_outcomes import outcomes_of
from arbiter.runs.reports.resampling import Floats, Integers, drawn, estimate
from arbiter.sweep.sweep_results import FILE

Budget = Literal["escalated", "target_tokens", "seconds", "accuracy"]

_OPTIONS: dict[Budget, str] = {
    "escalated": "--escalation",
    "target_tokens": "--target-tokens",
    "seconds": "--latency",
    "accuracy": "--accuracy",
}
_FIGURES: tuple[Figure, ...] = ("accuracy", "seconds", "target_tokens")


class _Planned(msgspec.Struct, frozen=True):
    point: str
    run_type: str
    threshold: float | None


class _Sweep(msgspec.Struct, frozen=True):
    points: tuple[_Planned, ...]


def read_sweep(folder: Path, policy: Policy) -> Curve:
    """Read the runs of ``policy`` in a sweep, in the order of increasing escalation.

    Raises ``RunError`` if a file cannot be read. Raises ``DataError`` if the policy has fewer than two thresholds, or
    if the runs have different problems.
    """
    sweep = read_document(folder / FILE, _Sweep, SWEEP_REMEDY)
    if sweep is None:
        raise RunError(f"{str(folder)!r} is not a sweep folder: it has no {FILE}; give the folder of a sweep")
    found = [(point.threshold, point.point) for point in sweep.points if point.run_type == policy]
    thresholds = sorted(
        ((threshold, name) for threshold, name in found if threshold is not None), reverse=ESCALATES[policy] == 1
    )
    if len(thresholds) < 2:
        raise DataError(
            f"{folder} has {len(thresholds)} thresholds of {policy!r}, but at least two are needed: "
            f"arbiter sweep CONFIG --run-types {policy} --thresholds 0:1:0.1"
        )
    return curve([_point(folder / name, threshold) for threshold, name in thresholds])


def _point(folder: Path, threshold: float) -> CurvePoint:
    results, _ = read_results(folder / "results.jsonl")
    return CurvePoint(threshold, outcomes_of(results))


def tune(runs: Curve, policy: Policy, budget: Budget, level: float, resamples: int, seed: int) -> Tuned:
    """Return the τ at which the line through ``runs``, from ``read_sweep``, first reaches ``level``.

    In the order of increasing escalation, ``level`` is the lowest accuracy or the highest cost. Raises ``DataError`` if
    no threshold meets it.
    """
    weights = drawn(len(runs.problems), resamples, seed)
    thresholds = np.array(runs.thresholds, dtype=np.float64)
    point, resampled = (_reached(runs, thresholds, budget, level, each) for each in (runs.ones, weights))
    if not np.isfinite(point[0]):
        values = _values(runs, budget, runs.ones)[0]
        best = values.max() if budget == "accuracy" else values.min()
        raise DataError(
            f"{_OPTIONS[budget]} {level:g}: no threshold of the sweep meets it; the nearest one has {best:.4g}. "
            "Use that value, or sweep more thresholds"
        )
    threshold = estimate(float(point[0]), resampled)
    figures: tuple[Budget, ...] = ("escalated", *_FIGURES)
    given = {name: _at(runs, thresholds, name, float(point[0]), weights) for name in figures}
    return Tuned(policy, threshold, given)


def _reached(runs: Curve, thresholds: Floats, budget: Budget, level: float, weights: Floats) -> Floats:
    return np.array(
        [first_reached(thresholds, values, level, budget != "accuracy") for values in _values(runs, budget, weights)]
    )


def first_reached(points: Sequence[float] | Floats, values: Floats, level: float, is_cost: bool) -> float:
    """Return the point at which the line through (``points``, ``values``) first reaches ``level``, or nan if never.

    If a cost never reaches ``level``, the result is the last point. If it starts above ``level``, the result is nan.
    """
    if is_cost and values[0] > level:
        return float("nan")
    above = np.flatnonzero(values >= level)
    if not len(above):
        return float(points[-1]) if is_cost else float("nan")
    index = int(above[0])
    if index == 0:
        return float(points[0])
    part = (level - values[index - 1]) / (values[index] - values[index - 1])
    return float(points[index - 1] + part * (points[index] - points[index - 1]))


def _values(runs: Curve, budget: Budget, weights: Floats) -> Floats:
    """Return the figure of each run: (resamples, runs)."""
    return 1 - runs.acceptance(weights) if budget == "escalated" else runs.figure(budget, weights)


def _at(runs: Curve, thresholds: Floats, name: Budget, threshold: float, weights: Floats) -> BootstrapEstimate:
    """Return a figure at ``threshold``, interpolated between the thresholds of the sweep."""
    order: Integers = np.argsort(thresholds)

    def between(drawn: Floats) -> Floats:
        values = _values(runs, name, drawn)
        found = np.empty(len(values))
        for row in range(len(values)):
            found[row] = np.interp(threshold, thresholds[order], values[row][order])
        return found

    return estimate(float(between(runs.ones)[0]), between(weights))
