"""Which runs the comparison needs: thresholds at the quantiles of a calibration set's scores."""

from collections.abc import Iterable, Mapping, Sequence

from arbiter.config.config import Config
from arbiter.config.run_tables import RunType
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.resampling import Floats
from arbiter.evaluation.scores import Name, scores
from arbiter.evaluation.thresholds import threshold_at
from arbiter.sweep.points import SweepPoint, point_of

ALONE: tuple[RunType, ...] = ("draft", "target")


def points(config: Config, thresholds: Mapping[RunType, Iterable[float]]) -> list[SweepPoint]:
    """The runs of the comparison: both models alone, and each run type at each of its thresholds."""
    alone = [point_of(config, run_type, None) for run_type in ALONE]
    return alone + [
        point_of(config, run_type, threshold) for run_type, values in thresholds.items() for threshold in values
    ]


def quantile_thresholds(
    rows: Sequence[TrainingRow], delta: Floats, predicted: Floats | None, acceptances: Sequence[float]
) -> dict[RunType, list[float]]:
    """The thresholds of each run type at which it accepts these shares (0 to 1) of the drafts in ``rows``.

    Several shares may have one threshold, where many steps have the same score (an advantage of 0).
    """
    found: dict[RunType, list[float]] = {}
    for scored in scores(rows, delta, predicted):
        wanted = (_threshold(scored.name, scored.score, 1 - accepted) for accepted in acceptances)
        found[scored.name] = sorted(set(wanted))
    return found


def _threshold(name: Name, score: Floats, escalated: float) -> float:
    """τ on the run type's own scale, of a score that is higher where an escalation is wanted more."""
    if name == "random":
        return round(escalated, 6)  # a share of a list like 0.3, 0.4: 1 - 0.7 has no other digits
    at = threshold_at(score, escalated)
    own = -at if name in ("rsd", "confidence") else at
    return min(1.0, max(-1.0 if name == "oracle" else 0.0, own))
