"""Plan the runs of the comparison.

Thresholds of the paper's run types are quantiles of the scores on a calibration set. Those of further run types are
given or stated, because rows do not have what these decide by: first tokens, or what came before.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from arbiter.config.config import Config
from arbiter.config.run_tables import RunType
from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.scores import Name, scores
from arbiter.evaluation.step_models import learned_model
from arbiter.evaluation.thresholds import threshold_at
from arbiter.protocols.errors import ConfigError
from arbiter.runs.reports.resampling import Floats
from arbiter.sweep.points import SweepPoint, plan, point_of

ALONE: tuple[RunType, ...] = ("draft", "target")

_STATED: dict[RunType, str] = {
    "glimpse": "0.3,0.6,0.8,0.9,0.95,0.99",
    "paced": "0.05,0.1,0.2,0.3,0.5",
    "pomdp": "0.003,0.01,0.02,0.05,0.1,0.2,0.3",
    "trigger": "0.9,0.97,0.99,0.999,1",
}
"""The thresholds of further run types, for which none are given."""

_BINS = 8  # of the scores in the learned table of the run type pomdp, as by ``arbiter fit``


def points(config: Config, thresholds: Mapping[RunType, Iterable[float]]) -> list[SweepPoint]:
    """Return the runs of the comparison: both models alone, and each run type at each of its thresholds."""
    alone = [point_of(config, run_type, None) for run_type in ALONE]
    return alone + [
        point_of(config, run_type, threshold) for run_type, values in thresholds.items() for threshold in values
    ]


def further_points(config: Config, run_types: Sequence[RunType], thresholds: Sequence[str]) -> list[SweepPoint]:
    """Return the runs of further run types at the given thresholds, or else at stated ones.

    ``thresholds`` are written as for a sweep. Raises ``ConfigError`` as ``arbiter.sweep.points.plan``, for thresholds
    without run types, and for a run type that collects.
    """
    if thresholds and not run_types:
        raise ConfigError("--thresholds are those of further run types: name these with --run-types")
    if "generate" in run_types:
        raise ConfigError("--run-types: 'generate' collects rows and decides nothing: leave it out")
    if not run_types:
        return []
    given = {option.rpartition("=")[0] for option in thresholds}
    stated = [f"{one}={_STATED[one]}" for one in run_types if one in _STATED and not {one, ""} & given]
    return plan(config, run_types, [*thresholds, *stated])


def with_learned_steps(config: Config, rows: Sequence[TrainingRow], run_types: Sequence[RunType]) -> Config:
    """Return ``config`` with the table of the run type ``pomdp`` learned from ``rows``, if it is among ``run_types``.

    Raises ``DataError`` if the rows are too few for it.
    """
    if "pomdp" not in run_types:
        return config
    learned = msgspec.structs.asdict(learned_model(rows, config.pomdp.score, _BINS))
    return msgspec.structs.replace(config, pomdp=msgspec.structs.replace(config.pomdp, **learned))


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
