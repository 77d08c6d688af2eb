"""Compute PGR, CPT and APGR of runs, with intervals over problems. Needs numpy (the extra ``train``).

RouteLLM (Ong et al. 2024, arXiv 2406.18665) defines the three figures for a router between a weak and a strong model:
the performance gap recovered, its average over the share of calls to the strong model, and the share of calls at which
a given share of the gap is closed. Here the share is of the target's tokens, not of its calls, as for the stepwise
routers of TRIM (Kapoor et al. 2026, arXiv 2601.10245): a call for a step costs less than a call for an answer.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from arbiter.config.run_tables import WITHOUT_ESCALATION, RunType
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.curves import Curve, CurvePoint, curve, line, line_integral, resampled_problems
from arbiter.runs.reports.gap_figures import (
    ALONE,
    CLOSED,
    SHARES,
    CurveRecovery,
    GapRecovery,
    OutcomesOfRun,
    RunRecovery,
    shown,
)
from arbiter.runs.reports.resampling import Floats, estimate, estimates, ratio


class _Places(msgspec.Struct, frozen=True):
    """Where each run is in a plane: its share of the target's tokens, and PGR; both have the shape (resamples, runs).

    ``gap`` is the accuracy of the target alone minus that of the draft alone: (resamples,). Where it is not positive,
    PGR is nan.
    """

    gap: Floats
    shares: Floats
    recovered: Floats


def recovered(runs: Sequence[OutcomesOfRun], resamples: int, seed: int) -> GapRecovery:
    """Return the figures of ``runs``, which include each model alone once. Use ``gap_figures.gap_recovery``.

    Raises ``DataError`` if the runs have different problems.
    """
    whole = curve([CurvePoint(run.threshold, run.outcomes) for run in runs])
    draft, target = ([run.run_type for run in runs].index(alone) for alone in ALONE)
    once = _places(whole, whole.ones, draft, target)
    often = _places(whole, resampled_problems([whole], resamples, seed), draft, target)
    gap = estimate(float(once.gap[0]), often.gap)
    tokens = whole.figure("target_tokens", whole.ones)[0]
    reason = _undefined(gap, float(tokens[target]))
    if reason is not None:
        return GapRecovery(len(whole.problems), gap, reason)
    shares, parts = estimates(once.shares[0], often.shares), estimates(once.recovered[0], often.recovered)
    types: dict[RunType, None] = {run.run_type: None for run in runs if run.run_type not in ALONE}
    at: dict[RunType, _AtShares] = {one: _AtShares.of(_columns(runs, one), once, often) for one in types}
    best = _best(at)
    return GapRecovery(
        problems=len(whole.problems),
        gap=gap,
        runs=tuple(
            RunRecovery(run.name, run.run_type, run.threshold, float(tokens[place]), shares[place], parts[place])
            for place, run in enumerate(runs)
            if run.run_type not in ALONE
        ),
        curves=tuple(_curve(run_type, _columns(runs, run_type), once, often, at, best) for run_type in types),
        best=best,
    )


def share_that_closes(level: float, shares: Floats, parts: Floats) -> float:
    """Return CPT: the smallest share of the target's tokens at which the line through the runs reaches PGR ``level``.

    The line connects the runs in the order of their shares, so that a point between two runs is the mean of a mixture
    of both. nan if no run reaches ``level``, as where PGR has no value.
    """
    x, y = line(shares, parts)
    reached = np.flatnonzero(y >= level)
    if not len(reached):
        return float("nan")
    first = int(reached[0])
    if not first:
        return float(x[0])
    below, above = y[first - 1], y[first]
    return float(x[first - 1] + (level - below) / (above - below) * (x[first] - x[first - 1]))


def average_recovered(shares: Floats, parts: Floats) -> float:
    """Return APGR: the mean of PGR over all shares of the target's tokens from 0 to 1, exact for the line."""
    return line_integral(*line(shares, parts), 0.0, 1.0)


def _places(whole: Curve, weights: Floats, draft: int, target: int) -> _Places:
    accuracy, tokens = whole.figure("accuracy", weights), whole.figure("target_tokens", weights)
    above = accuracy - accuracy[:, [draft]]
    gap = above[:, [target]]
    return _Places(gap[:, 0], ratio(tokens, tokens[:, [target]]), ratio(above, np.where(gap > 0, gap, 0.0)))


def _undefined(gap: BootstrapEstimate, tokens: float) -> str | None:
    """Return why a share of the gap means nothing; None if it means something. ``tokens`` are of the target alone."""
    if gap.value is None:
        return "no answer of the draft alone or of the target alone is graded"
    if gap.value <= 0:
        return f"the target alone is not more accurate than the draft alone (the gap is {gap.value:.1%})"
    if gap.interval is None or gap.interval[0] <= 0:
        return f"the interval of the gap contains zero, {shown(gap)}; compare the runs over more problems"
    return None if tokens else "the run of the target alone has no count of the target's tokens"


def _columns(runs: Sequence[OutcomesOfRun], run_type: RunType) -> list[int]:
    return [place for place, run in enumerate(runs) if run.run_type in (*ALONE, run_type)]


class _AtShares(msgspec.Struct, frozen=True):
    """PGR of a run type at each share of ``SHARES``: ``once`` (shares,), and in the resamples (resamples, shares)."""

    once: Floats
    often: Floats

    @classmethod
    def of(cls, columns: Sequence[int], once: _Places, often: _Places) -> "_AtShares":
        pairs = zip(often.shares[:, columns], often.recovered[:, columns], strict=True)
        found = np.interp(SHARES, *line(once.shares[0, columns], once.recovered[0, columns]))
        return cls(found, np.array([np.interp(SHARES, *line(*pair)) for pair in pairs]))


def _best(at: Mapping[RunType, _AtShares]) -> tuple[RunType, ...]:
    """Return the run type with the highest PGR at each share; none if all of them have the target write every step."""
    realizable: dict[RunType, _AtShares] = {one: found for one, found in at.items() if one not in WITHOUT_ESCALATION}
    if not realizable:
        return ()
    return tuple(max(realizable, key=lambda one: realizable[one].once[place]) for place in range(len(SHARES)))


def _curve(
    run_type: RunType,
    columns: Sequence[int],
    once: _Places,
    often: _Places,
    at: Mapping[RunType, _AtShares],
    best: Sequence[RunType],
) -> CurveRecovery:
    """Return the figures of the line from the draft alone through the runs of a type to the target alone."""
    found = _figures(once.shares[0, columns], once.recovered[0, columns])
    pairs = zip(often.shares[:, columns], often.recovered[:, columns], strict=True)
    *thresholds, average = estimates(found, np.array([_figures(*pair) for pair in pairs]))
    own = at[run_type]
    behind = [
        estimate(
            float(own.once[place] - at[one].once[place]),
            own.often[:, place] - at[one].often[:, place],
        )
        for place, one in enumerate(best)
    ]
    return CurveRecovery(
        run_type,
        tuple(thresholds),
        average,
        tuple(estimates(own.once, own.often)) if best else (),
        tuple(behind),
    )


def _figures(shares: Floats, parts: Floats) -> Floats:
    thresholds = [share_that_closes(level, shares, parts) for level in CLOSED]
    return np.array([*thresholds, average_recovered(shares, parts)])
