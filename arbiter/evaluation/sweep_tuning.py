"""The threshold that meets a budget, from the graded runs of a sweep: lines between its neighbouring thresholds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from arbiter.evaluation.curves import Curve, CurvePoint, Figure, curve, outcomes_of
from arbiter.evaluation.resampling import BootstrapEstimate, Floats, Integers, drawn, estimate
from arbiter.evaluation.tuning import ESCALATES, Policy, Tuned
from arbiter.protocols.errors import DataError, RunError
from arbiter.runs.folder import read_results
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
    """The runs of ``policy`` in a sweep, from the one that escalates least to the one that escalates most.

    Raises ``RunError`` if a file cannot be read, ``DataError`` if there are not two thresholds of the policy, or if the
    runs are not over the same problems.
    """
    path = folder / FILE
    try:
        planned = msgspec.json.decode(path.read_bytes(), type=_Sweep).points
    except OSError as error:
        raise RunError(f"{str(folder)!r} holds no sweep: cannot read {FILE}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: {error}") from error
    found = [(point.threshold, point.point) for point in planned if point.run_type == policy]
    thresholds = sorted(
        ((threshold, name) for threshold, name in found if threshold is not None), reverse=ESCALATES[policy] == 1
    )
    if len(thresholds) < 2:
        raise DataError(
            f"{folder} has {len(thresholds)} thresholds of {policy!r}, and between two a line is drawn: "
            f"arbiter sweep CONFIG --run-types {policy} --thresholds 0:1:0.1"
        )
    return curve([_point(folder / name, threshold) for threshold, name in thresholds])


def _point(folder: Path, threshold: float) -> CurvePoint:
    results, _ = read_results(folder / "results.jsonl")
    return CurvePoint(threshold, outcomes_of(results))


def tune(runs: Curve, policy: Policy, budget: Budget, wanted: float, resamples: int, seed: int) -> Tuned:
    """The τ at which the line through ``runs``, from ``read_sweep``, first reaches what is ``wanted``.

    That is the accuracy that is reached, or the cost that is not yet passed, going from the run that escalates least to
    the one that escalates most. Raises ``DataError`` if no threshold meets it.
    """
    weights = drawn(len(runs.problems), resamples, seed)
    levels = np.array(runs.thresholds, dtype=np.float64)
    point, resampled = (_reached(runs, levels, budget, wanted, each) for each in (runs.ones, weights))
    if not np.isfinite(point[0]):
        values = _values(runs, budget, runs.ones)[0]
        best = values.max() if budget == "accuracy" else values.min()
        raise DataError(
            f"{_OPTIONS[budget]} {wanted:g}: no threshold of the sweep meets it, the nearest has {best:.4g}; "
            "ask for that, or sweep more thresholds"
        )
    threshold = estimate(float(point[0]), resampled)
    figures: tuple[Budget, ...] = ("escalated", *_FIGURES)
    given = {name: _at(runs, levels, name, float(point[0]), weights) for name in figures}
    return Tuned(policy, threshold, given)


def _reached(runs: Curve, levels: Floats, budget: Budget, wanted: float, weights: Floats) -> Floats:
    return np.array(
        [first_reached(levels, values, wanted, budget != "accuracy") for values in _values(runs, budget, weights)]
    )


def first_reached(levels: Sequence[float] | Floats, values: Floats, wanted: float, is_cost: bool) -> float:
    """The level at which the line through ``values`` first reaches ``wanted``, in the order given; nan if never.

    A cost that never reaches it is met by the last level, and one that begins above it by none.
    """
    if is_cost and values[0] > wanted:
        return float("nan")
    above = np.flatnonzero(values >= wanted)
    if not len(above):
        return float(levels[-1]) if is_cost else float("nan")
    place = int(above[0])
    if place == 0:
        return float(levels[0])
    part = (wanted - values[place - 1]) / (values[place] - values[place - 1])
    return float(levels[place - 1] + part * (levels[place] - levels[place - 1]))


def _values(runs: Curve, budget: Budget, weights: Floats) -> Floats:
    """Of each run, (resamples, runs)."""
    return 1 - runs.acceptance(weights) if budget == "escalated" else runs.figure(budget, weights)


def _at(runs: Curve, levels: Floats, name: Budget, threshold: float, weights: Floats) -> BootstrapEstimate:
    """A figure at a threshold between two of the sweep's."""
    order: Integers = np.argsort(levels)

    def between(drawn: Floats) -> Floats:
        values = _values(runs, name, drawn)
        found = np.empty(len(values))
        for place in range(len(values)):
            found[place] = np.interp(threshold, levels[order], values[place][order])
        return found

    return estimate(float(between(runs.ones)[0]), between(weights))
