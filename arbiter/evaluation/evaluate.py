"""Evaluate scores side by side on the steps of a collection."""

from collections.abc import Sequence

import numpy as np

from arbiter.data.training_rows import Split, TrainingRow
from arbiter.evaluation.checkpoints import RouterCheckpoint
from arbiter.evaluation.evaluation_results import Evaluation, TargetEvaluation
from arbiter.evaluation.score_metrics import measure
from arbiter.evaluation.scores import StepScores, advantages, scores, target_names
from arbiter.protocols.errors import DataError
from arbiter.runs.reports.resampling import RESAMPLES, Floats, drawn

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def rows_of(rows: Sequence[TrainingRow], split: str, data: str) -> list[TrainingRow]:
    """Return the rows of ``split``. Raises ``DataError`` if ``data`` has none, naming the splits that it has."""
    found = [row for row in rows if row.split == split]
    if not rows:
        raise DataError(f"{data} has no rows: collect some with a run of the type 'generate'")
    if not found:
        existing = ", ".join(name for name in _SPLITS if any(row.split == name for row in rows))
        raise DataError(f"{data} has no rows of the split {split!r}; choose another one with --split: {existing}")
    return found


def evaluate(
    rows: Sequence[TrainingRow],
    data: str,
    split: Split = "test",
    router: RouterCheckpoint | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Evaluate all scores on the rows of ``split``. Without a ``router``, only scores without training are evaluated.

    ``data`` is the name of the rows. Thresholds are calibrated on the validation split, or on ``split`` itself if there
    is none. Raises ``DataError`` if the split is empty, if all its steps are of one class, or if the router does not
    return one ŷ per target.
    """
    tested = rows_of(rows, split, data)
    validation = [row for row in rows if row.split == "validation"]
    calibrated_on: Split = "validation" if validation else split
    calibrating = tested if calibrated_on == split else validation
    targets = router.targets if router else target_names(tested)
    predicted = [predictions(router, some) if router else None for some in (tested, calibrating)]
    weights = drawn(len({row.problem for row in tested}), resamples, seed)
    found: list[TargetEvaluation] = []
    for column, target in enumerate(targets or ("",)):
        scored, calibration = (
            scores(some, advantages(some, target), None if known is None else known[:, column])
            for some, known in zip((tested, calibrating), predicted, strict=True)
        )
        _refuse_one_class(scored[0], data, split)
        found.append(measure(target, scored, {each.name: each for each in calibration}, weights))
    return Evaluation(data, router.name if router else None, split, calibrated_on, resamples, seed, tuple(found))


def predictions(router: RouterCheckpoint, rows: Sequence[TrainingRow]) -> Floats:
    """Return ŷ with the shape (rows, heads). Raises ``DataError`` if the router does not return one ŷ per target."""
    found = np.array(router.predict(rows), dtype=np.float64).reshape(len(rows), -1)
    heads = max(len(router.targets), 1)
    if found.shape[1] != heads:
        raise DataError(f"{router.name} returns {found.shape[1]} ŷ per step for {heads} targets: train it again")
    return found


def _refuse_one_class(scored: StepScores, data: str, split: str) -> None:
    positive = int((scored.delta > 0).sum())
    if positive in (0, len(scored.delta)):
        kind = "no step" if positive == 0 else "every step"
        raise DataError(
            f"{data}: {kind} of the split {split!r} has Δ > 0, so there are not two classes to distinguish. "
            "Evaluate more problems, or choose another split with --split"
        )
