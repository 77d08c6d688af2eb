"""Curves of runs: accuracy, seconds or target tokens against the acceptance rate, compared at matched acceptance.

Needs numpy (the extra ``train``).

The points of a curve are runs over the same problems. Between neighbouring points it is linear. Its ends are the draft
alone (acceptance 1) and the target alone (acceptance 0). Each resample of the problems recomputes the pooled acceptance
and the figure of every point, and then interpolates.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np

from arbiter.protocols.errors import DataError
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.problem_outcomes import ProblemOutcome
from arbiter.runs.reports.resampling import RESAMPLES, Floats, drawn, estimate, estimates, ratio

Figure = Literal["accuracy", "seconds", "target_tokens"]


class CurvePoint(msgspec.Struct, frozen=True):
    """A run of a curve: its threshold (None for one model alone) and its outcomes, one per problem."""

    threshold: float | None
    outcomes: Sequence[ProblemOutcome]


class Curve(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Points over the same problems, as arrays of the shape (problems, points). Made by ``curve``.

    ``graded`` is 1 where there is a grade. ``right`` is 0 where there is none.
    """

    problems: tuple[str, ...]
    thresholds: tuple[float | None, ...]
    right: Floats
    graded: Floats
    draft_steps: Floats
    steps: Floats
    seconds: Floats
    target_tokens: Floats

    def acceptance(self, weights: Floats) -> Floats:
        """Return kept draft steps / kept steps, pooled over the problems: (resamples, points)."""
        return ratio(weights @ self.draft_steps, weights @ self.steps)

    def figure(self, name: Figure, weights: Floats) -> Floats:
        """Return the share of right answers, or a mean over problems, of each point: (resamples, points)."""
        if name == "accuracy":
            return ratio(weights @ self.right, weights @ self.graded)
        whole = self.seconds if name == "seconds" else self.target_tokens
        return (weights @ whole) / weights.sum(axis=1, keepdims=True)

    def at(self, acceptance: Sequence[float], figure: Figure = "accuracy") -> list[float]:
        """Return the figure at acceptance rates in [0, 1], by linear interpolation. Beyond an end it is constant."""
        return self.interpolated(np.asarray(acceptance, dtype=np.float64), self.ones, figure)[0].tolist()

    def interpolated(self, acceptance: Floats, weights: Floats, figure: Figure = "accuracy") -> Floats:
        """Return the figure at the acceptance rates, (rates,), in each resample: (resamples, rates)."""
        pairs = zip(self.acceptance(weights), self.figure(figure, weights), strict=True)
        return np.array([np.interp(acceptance, *line(*pair)) for pair in pairs])

    def areas(self, low: float, high: float, weights: Floats) -> Floats:
        """Return ∫ accuracy over acceptance rates from ``low`` to ``high``, exact for the lines: (resamples,)."""
        pairs = zip(self.acceptance(weights), self.figure("accuracy", weights), strict=True)
        return np.array([line_integral(*line(*pair), low, high) for pair in pairs])

    @cached_property
    def ones(self) -> Floats:
        """Weights with which each problem counts once: (1, problems)."""
        return np.ones((1, len(self.problems)))


def curve(points: Sequence[CurvePoint]) -> Curve:
    """Return the curve through ``points``, which include those of both models alone.

    Raises ``DataError`` if there is no point, or if the points have different problems.
    """
    if not points:
        raise DataError("a curve needs at least one run: give the runs of its thresholds and of both models alone")
    tables = [{outcome.problem: outcome for outcome in point.outcomes} for point in points]
    problems = tuple(sorted(tables[0]))
    for point, table in zip(points, tables, strict=True):
        if tuple(sorted(table)) != problems or not problems:
            missing = len(set(problems) ^ set(table))
            raise DataError(
                f"the run at threshold {point.threshold} has other problems than the first run of its curve "
                f"({missing} are not in both): give runs over the same problems, with at least one problem"
            )
    kept = [[table[problem] for table in tables] for problem in problems]
    return Curve(
        problems,
        tuple(point.threshold for point in points),
        right=np.array([[one.right or 0.0 for one in row] for row in kept]),
        graded=np.array([[float(one.right is not None) for one in row] for row in kept]),
        draft_steps=np.array([[float(one.draft_steps) for one in row] for row in kept]),
        steps=np.array([[float(one.steps) for one in row] for row in kept]),
        seconds=np.array([[one.seconds for one in row] for row in kept]),
        target_tokens=np.array([[float(one.target_tokens) for one in row] for row in kept]),
    )


def resampled_problems(curves: Sequence[Curve], resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Return weights for paired comparisons of ``curves``: (resamples, problems).

    Raises ``DataError`` if the curves have different problems.
    """
    if len({each.problems for each in curves}) != 1:
        raise DataError("the curves have different problems, so they cannot be compared problem by problem")
    return drawn(len(curves[0].problems), resamples, seed)


def along(
    one: Curve, acceptance: Sequence[float], weights: Floats, figure: Figure = "accuracy"
) -> list[BootstrapEstimate]:
    """Return the curve's figure at each acceptance rate, with its interval."""
    rates = np.asarray(acceptance, dtype=np.float64)
    return estimates(one.interpolated(rates, one.ones, figure)[0], one.interpolated(rates, weights, figure))


def difference(
    one: Curve, other: Curve, acceptance: Sequence[float], weights: Floats, figure: Figure = "accuracy"
) -> list[BootstrapEstimate]:
    """Return ``one`` − ``other`` at each acceptance rate, paired by problem.

    ``weights`` are from ``resampled_problems``.
    """
    rates = np.asarray(acceptance, dtype=np.float64)

    def minus(drawn: Floats) -> Floats:
        return one.interpolated(rates, drawn, figure) - other.interpolated(rates, drawn, figure)

    return estimates(minus(one.ones)[0], minus(weights))


def area_ratio(
    one: Curve, base: Curve, best: Curve, weights: Floats, low: float = 0.0, high: float = 1.0
) -> BootstrapEstimate:
    """Return (area of ``one`` − area of ``base``) / (area of ``best`` − area of ``base``): 0 for base, 1 for best.

    It has no value if the best is not above the base. It has no interval if that is so in more than 2.5 % of the
    resamples.
    """

    def share(drawn: Floats) -> Floats:
        base_area = base.areas(low, high, drawn)
        whole = best.areas(low, high, drawn) - base_area
        return ratio(one.areas(low, high, drawn) - base_area, np.where(whole > 0, whole, 0.0))

    return estimate(float(share(one.ones)[0]), share(weights))


def line(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the points that have values, ordered by x. Points with the same x are merged to the mean of their y."""
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return np.array([0.0]), np.array([np.nan])
    positions, which, counts = np.unique(x[known], return_inverse=True, return_counts=True)
    return positions, np.bincount(which, y[known]) / counts


def line_integral(x: Floats, y: Floats, low: float, high: float) -> float:
    """Return the integral from ``low`` to ``high`` of the line through the points, which are ordered by x."""
    knots = np.concatenate([[low], x[(x > low) & (x < high)], [high]])
    return float(np.trapezoid(np.interp(knots, x, y), knots))
