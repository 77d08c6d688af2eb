"""Plan the runs of the comparison. Thresholds are quantiles of the scores on a calibration set."""

from collections.abc import Iterable, Mapping, Sequence

from arbiter.config.config import Config
from arbiter.config.run_tables import RunType
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.scores import Name, scores
from arbiter.evaluation.thresholds import threshold_at
from arbiter.runs.reports.resampling import Floats
from arbiter.sweep.points import SweepPoint, point_of

ALONE: tuple[RunType, ...] = ("draft", "target")


def points(config: Config, thresholds: Mapping[RunType, Iterable[float]]) -> list[SweepPoint]:
    """Return the runs of the comparison: both models alone, and each run type at each of its thresholds."""
    alone = [point_of(config, run_type, None) for run_type in ALONE]
    return alone + [
        point_of(config, run_type, threshold) for run_type, values in thresholds.items() for threshold in values
    ]


def quantile_thresholds(
    rows: Sequence[TrainingRow], delta: Floats, predicted: Floats | None, acceptances: Sequence[float]
) -> dict[RunType, list[float]]:
    """Return the thresholds at which each run type accepts the shares ``acceptances`` (0 to 1) of drafts in ``rows``.

    Several shares may have the same threshold if many steps have the same score (an advantage of 0).
    """
    found: dict[RunType, list[float]] = {}
    for scored in scores(rows, delta, predicted):
        thresholds = (_threshold(scored.name, scored.score, 1 - accepted) for accepted in acceptances)
        found[scored.name] = sorted(set(thresholds))
    return found


def _threshold(name: Name, score: Floats, escalated: float) -> float:
    """Return τ on the scale of the run type. A higher ``score`` means that the step should rather be escalated."""
    if name == "random":
        return round(escalated, 6)  # removes the rounding error of 1 - 0.7
    at = threshold_at(score, escalated)
    own = -at if name in ("rsd", "confidence") else at
    return min(1.0, max(-1.0 if name == "oracle" else 0.0, own))
