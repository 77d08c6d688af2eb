"""The figures of scores. Point estimates have weights of 1, resamples have drawn weights; both use the same code."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from arbiter.evaluation.calibration import OUTCOMES, Bins, bins_of, brier, class_accuracy, outcomes
from arbiter.evaluation.evaluation_results import Bin, Gain, Outcomes, ScoreDifference, ScoreMetrics, TargetEvaluation
from arbiter.evaluation.ranking import Gains, Order, Ordered, order_of, rank_correlation
from arbiter.evaluation.scores import StepScores
from arbiter.evaluation.thresholds import threshold_at
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.resampling import Floats, by_step, estimate, estimates, ratio, summed

SHARES: Floats = np.arange(51) / 50
"""The shares of steps escalated, 0 to 1, at which gain curves are computed."""

AIMED: Floats = np.arange(1, 20) / 20
"""The shares of steps to escalate. Outcomes are computed at the thresholds that reach them on the calibration split."""


class Ranked(msgspec.Struct, frozen=True, eq=False):
    """The figures that depend on the order of a score, in each resample."""

    spearman: Floats
    auroc: Floats
    gains: Gains


def measure(
    target: str, scored: Sequence[StepScores], calibration: Mapping[str, StepScores], weights: Floats
) -> TargetEvaluation:
    """Return the figures of all scores of the same steps against ``target``.

    ``weights`` have the shape (resamples, problems). ``calibration`` has the same scores by name, over the steps whose
    quantiles are the thresholds.
    """
    first = scored[0]
    ones = np.ones((1, first.problems))
    orders = [order_of(each.score) for each in scored]
    point, resampled = (_ranked(scored, orders, each) for each in (ones, weights))
    columns: Floats = np.stack([np.ones(len(first.delta)), (first.delta > 0).astype(np.float64), first.delta], axis=1)
    kinds = summed(columns, first.problem, first.problems)
    means = [ratio(sums[:, 1:], sums[:, :1]) for sums in (ones @ kinds, weights @ kinds)]
    improving, advantage = estimates(means[0][0], means[1])
    columns_of = {each.name: column for column, each in enumerate(scored)}
    return TargetEvaluation(
        target=target,
        problems=first.problems,
        steps=len(first.delta),
        improving=improving,
        mean_advantage=advantage,
        scores=tuple(
            _of_score(each, calibration.get(each.name), point[column], resampled[column], weights)
            for column, each in enumerate(scored)
        ),
        differences=tuple(
            _difference((scored[one], scored[other]), (point[one], point[other]), (resampled[one], resampled[other]))
            for one, other in _pairs(columns_of)
        ),
    )


def _pairs(columns_of: dict[str, int]) -> list[tuple[int, int]]:
    """Return the pairs to compare: the router with each score that needs no training."""
    router = columns_of.get("router")
    others = [columns_of[name] for name in ("rsd", "confidence", "random") if name in columns_of]
    return [] if router is None else [(router, other) for other in others]


def _ranked(scored: Sequence[StepScores], orders: Sequence[Order], weights: Floats) -> list[Ranked]:
    """Return the figures of each score over all resamples. The ranks of Δ are computed once for all scores."""
    parts: list[list[Ranked]] = [[] for _ in scored]
    delta, problem = scored[0].delta, scored[0].problem
    by_delta = order_of(delta)
    positive = (delta > 0).astype(np.float64)
    for some in by_step(weights, problem):
        best = Ordered(by_delta, some).ranks()
        for order, part in zip(orders, parts, strict=True):
            ordered = Ordered(order, some)
            correlation = rank_correlation(ordered.ranks(), best, some)
            part.append(Ranked(correlation, ordered.auroc(positive), ordered.gains(delta, SHARES)))
    return [_joined(part) for part in parts]


def _joined(parts: Sequence[Ranked]) -> Ranked:
    return Ranked(
        np.concatenate([part.spearman for part in parts]),
        np.concatenate([part.auroc for part in parts]),
        Gains(
            np.concatenate([part.gains.captured for part in parts]),
            np.concatenate([part.gains.net for part in parts]),
            np.concatenate([part.gains.area for part in parts]),
        ),
    )


def _of_score(
    scored: StepScores, calibration: StepScores | None, point: Ranked, resampled: Ranked, weights: Floats
) -> ScoreMetrics:
    captured = estimates(point.gains.captured[0], resampled.gains.captured)
    net = estimates(point.gains.net[0], resampled.gains.net)
    bins = bins_of(scored) if scored.likely else None
    return ScoreMetrics(
        score=scored.name,
        threshold=scored.cut,
        spearman=estimate(point.spearman[0], resampled.spearman),
        auroc=estimate(point.auroc[0], resampled.auroc),
        area=estimate(point.gains.area[0], resampled.gains.area),
        accuracy_improving=_accuracy(scored, True, weights),
        accuracy_others=_accuracy(scored, False, weights),
        ece=None if bins is None else _both(bins.ece, weights),
        brier=_both(lambda drawn: brier(scored, drawn), weights) if scored.likely else None,
        gains=tuple(map(Gain, SHARES.tolist(), captured, net)),
        outcomes=() if calibration is None else _outcomes(scored, calibration, weights),
        reliability=() if bins is None else _reliability(bins, weights),
    )


def _both(figure: Callable[[Floats], Floats], weights: Floats) -> BootstrapEstimate:
    """Return a figure of the original problems, with the interval of its resamples."""
    return estimate(float(figure(np.ones((1, weights.shape[1])))[0]), figure(weights))


def _accuracy(scored: StepScores, positive: bool, weights: Floats) -> BootstrapEstimate | None:
    cut = scored.cut
    return None if cut is None else _both(lambda drawn: class_accuracy(scored, cut, positive, drawn), weights)


def _outcomes(scored: StepScores, calibration: StepScores, weights: Floats) -> tuple[Outcomes, ...]:
    """Return the outcomes at the thresholds of all shares in ``AIMED``, or none if all steps have the same score."""
    if not np.ptp(calibration.score):
        return ()
    found: list[Outcomes] = []
    for aimed in AIMED.tolist():
        threshold = threshold_at(calibration.score, aimed)
        escalated = (scored.score > threshold).astype(np.float64)
        point, drawn = (
            outcomes(scored.problem, scored.delta, escalated, each)
            for each in (np.ones((1, weights.shape[1])), weights)
        )
        shares = dict(zip(OUTCOMES, estimates(point[0], drawn), strict=True))
        found.append(Outcomes(aimed, threshold, **shares))
    return tuple(found)


def _reliability(bins: Bins, weights: Floats) -> tuple[Bin, ...]:
    steps, predicted, positive = bins.means(np.ones((1, weights.shape[1])))
    _, _, drawn = bins.means(weights)
    shares = estimates(positive[0], drawn)
    return tuple(map(Bin, steps[0].astype(int).tolist(), predicted[0].tolist(), shares))


def _difference(
    names: tuple[StepScores, StepScores], points: tuple[Ranked, Ranked], drawn: tuple[Ranked, Ranked]
) -> ScoreDifference:
    """Return the first score minus the second one, paired by resample."""

    def minus(figure: Callable[[Ranked], Floats]) -> BootstrapEstimate:
        point, resampled = (figure(one) - figure(other) for one, other in (points, drawn))
        return estimate(float(point[0]), resampled)

    captured, resampled = (one.gains.captured - other.gains.captured for one, other in (points, drawn))
    return ScoreDifference(
        score=names[0].name,
        other=names[1].name,
        spearman=minus(lambda ranked: ranked.spearman),
        auroc=minus(lambda ranked: ranked.auroc),
        area=minus(lambda ranked: ranked.gains.area),
        captured=tuple(estimates(captured[0], resampled)),
    )
