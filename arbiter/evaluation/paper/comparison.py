"""Compare the runs of a sweep at matched acceptance, paired by problem.

``docs/how-to/evaluate-a-router.md`` defines matched acceptance.
"""

from collections.abc import Mapping, Sequence

from arbiter.config.run_tables import RunType
from arbiter.evaluation.mcnemar import McNemar, mcnemar
from arbiter.evaluation.paper.planned_runs import ALONE
from arbiter.evaluation.paper.step_outcomes import StepOutcomes, steps_of
from arbiter.protocols.records import Record
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.curves import Curve, along, area_ratio, curve, difference, resampled_problems
from arbiter.runs.reports.curves import CurvePoint as CurvePoint
from arbiter.runs.reports.gap_figures import GapRecovery, OutcomesOfRun, gap_recovery
from arbiter.runs.reports.problem_outcomes import outcomes_of
from arbiter.runs.reports.resampling import Floats
from arbiter.runs.results import Result

PAIRS: tuple[tuple[RunType, RunType], ...] = (
    ("router", "random"),
    ("router", "confidence"),
    ("router", "rsd"),
    ("oracle", "router"),
)
"""The pairs of run types whose difference at matched acceptance is reported, if the sweep has both."""


class PointFigures(Record, frozen=True):
    """The threshold and the figures of one run.

    ``acceptance`` is the share of kept steps that the draft wrote. ``target_calls``, ``target_tokens`` (written, kept
    or not) and ``seconds`` are means per problem. ``seconds`` are those of the requests in the sweep.
    ``seconds_alone`` are simulated on the given hardware, one problem at a time (None: not simulated).
    """

    name: str
    run_type: RunType
    threshold: float | None
    acceptance: float
    accuracy: BootstrapEstimate
    target_calls: float
    target_tokens: float
    seconds: float
    steps: StepOutcomes
    seconds_alone: float | None = None


class AccuracyDifference(Record, frozen=True):
    """The accuracy of ``one`` minus that of ``other`` at an acceptance rate, interpolated on their curves.

    ``mcnemar`` tests the two runs whose acceptance rates are nearest to it.
    """

    one: RunType
    other: RunType
    acceptance: float
    difference: BootstrapEstimate
    mcnemar: McNemar


class CurveFigures(Record, frozen=True):
    """The interpolated figures of a run type.

    ``accuracy`` is given at each acceptance rate of the comparison. ``area`` is the share of the area between random
    escalation and the oracle, over acceptance rates from 0 to 1.
    """

    run_type: RunType
    accuracy: tuple[BootstrapEstimate, ...]
    area: BootstrapEstimate


class CurveComparison(Record, frozen=True):
    """All runs, over the same ``problems``. ``acceptances`` are the rates at which curves are compared.

    ``recovery`` compares them by the target's tokens instead.
    """

    problems: int
    acceptances: tuple[float, ...]
    points: tuple[PointFigures, ...]
    curves: tuple[CurveFigures, ...]
    differences: tuple[AccuracyDifference, ...]
    recovery: GapRecovery = GapRecovery()


class Ran(Record, frozen=True):
    """A run of the sweep with its results."""

    name: str
    run_type: RunType
    threshold: float | None
    results: Sequence[Result]
    seconds_alone: float | None = None


def compare(runs: Sequence[Ran], acceptances: Sequence[float], resamples: int, seed: int) -> CurveComparison:
    """Return the figures of all runs and curves. ``runs`` includes both models alone.

    Both runs of a pair are evaluated on the same resamples of the problems. Raises ``DataError`` if the runs have
    different problems.
    """
    curves = _curves(runs)
    weights = resampled_problems(list(curves.values()), resamples, seed)
    rates = list(acceptances)
    figures: list[PointFigures] = []
    for ran in runs:
        alone = curve([_point(ran)])
        accuracy = along(alone, [0.0], weights)[0]  # a curve of one point is constant
        figures.append(_figures(ran, accuracy, float(alone.acceptance(alone.ones)[0, 0])))
    return CurveComparison(
        problems=weights.shape[1],
        acceptances=tuple(rates),
        points=tuple(figures),
        curves=tuple(
            CurveFigures(name, tuple(along(each, rates, weights)), _area(curves, name, weights))
            for name, each in curves.items()
        ),
        differences=tuple(
            AccuracyDifference(one, other, rate, gap, mcnemar(curves[one], curves[other], rate))
            for one, other in PAIRS
            if one in curves and other in curves
            for rate, gap in zip(rates, difference(curves[one], curves[other], rates, weights), strict=True)
        ),
        recovery=gap_recovery(
            [OutcomesOfRun(ran.name, ran.run_type, ran.threshold, outcomes_of(ran.results)) for ran in runs],
            resamples,
            seed,
        ),
    )


def _curves(runs: Sequence[Ran]) -> dict[RunType, Curve]:
    """Return a curve for each run type with thresholds. The ends of all curves are the draft and the target alone."""
    ends = [_point(ran) for ran in runs if ran.run_type in ALONE]
    between: dict[RunType, list[CurvePoint]] = {}
    for ran in runs:
        if ran.run_type not in ALONE:
            between.setdefault(ran.run_type, []).append(_point(ran))
    return {name: curve([*ends, *found]) for name, found in between.items()}


def _point(ran: Ran) -> CurvePoint:
    return CurvePoint(ran.threshold, outcomes_of(ran.results))


def _area(curves: Mapping[RunType, Curve], name: RunType, weights: Floats) -> BootstrapEstimate:
    if "random" not in curves or "oracle" not in curves:
        return BootstrapEstimate(None)
    return area_ratio(curves[name], curves["random"], curves["oracle"], weights)


def _figures(ran: Ran, accuracy: BootstrapEstimate, acceptance: float) -> PointFigures:
    solutions = [result.solution for result in ran.results]
    targets = [solution.requests["target"] for solution in solutions if "target" in solution.requests]
    return PointFigures(
        name=ran.name,
        run_type=ran.run_type,
        threshold=ran.threshold,
        acceptance=acceptance,
        accuracy=accuracy,
        target_calls=sum(counts.requests for counts in targets) / len(solutions),
        target_tokens=sum(counts.usage.completion_tokens for counts in targets) / len(solutions),
        seconds=sum(solution.seconds for solution in solutions) / len(solutions),
        steps=steps_of(ran.results),
        seconds_alone=ran.seconds_alone,
    )
