"""The content of ``evaluation.json``; ``docs/how-to/evaluate-a-router.md`` explains each figure."""

from arbiter.data.training_rows import Split
from arbiter.evaluation.scores import Name
from arbiter.protocols.records import Record
from arbiter.runs.intervals import BootstrapEstimate

VERSION = 1


class Gain(Record, frozen=True):
    """A point of a gain curve, at which the share ``escalated`` of steps with the highest scores is escalated.

    ``captured`` is the share of the total positive advantage Σ max(Δ, 0). ``net`` is the same minus the harm of the
    escalated steps.
    """

    escalated: float
    captured: BootstrapEstimate
    net: BootstrapEstimate


class Outcomes(Record, frozen=True):
    """The outcomes of a threshold τ, as shares of all steps.

    ``aimed`` is the largest share of steps that τ may escalate on the calibration split. ``improved``, ``wasted`` and
    ``harmed`` are escalated steps, ``kept`` are the others.
    """

    aimed: float
    threshold: float
    kept: BootstrapEstimate
    improved: BootstrapEstimate
    wasted: BootstrapEstimate
    harmed: BootstrapEstimate


class Bin(Record, frozen=True):
    """A bin of the reliability diagram: the number of steps, their mean ŷ, and the share with Δ > 0."""

    steps: int
    predicted: float
    positive: BootstrapEstimate


class ScoreMetrics(Record, frozen=True):
    """The figures of one score. Accuracies are at ``threshold``, and None without it.

    ``ece`` and ``brier`` are None unless the score is a probability.
    """

    score: Name
    threshold: float | None
    spearman: BootstrapEstimate
    auroc: BootstrapEstimate
    area: BootstrapEstimate
    accuracy_improving: BootstrapEstimate | None
    accuracy_others: BootstrapEstimate | None
    ece: BootstrapEstimate | None
    brier: BootstrapEstimate | None
    gains: tuple[Gain, ...]
    outcomes: tuple[Outcomes, ...]
    reliability: tuple[Bin, ...]


class ScoreDifference(Record, frozen=True):
    """``score`` − ``other`` on the same resamples. ``captured`` has the same shares escalated as ``gains``."""

    score: Name
    other: Name
    spearman: BootstrapEstimate
    auroc: BootstrapEstimate
    area: BootstrapEstimate
    captured: tuple[BootstrapEstimate, ...]


class TargetEvaluation(Record, frozen=True):
    """The scores against the advantage of one target ("" if there is only one).

    ``improving`` is the share of steps with Δ > 0. ``mean_advantage`` is the mean of Δ: the gain of escalating all.
    """

    target: str
    problems: int
    steps: int
    improving: BootstrapEstimate
    mean_advantage: BootstrapEstimate
    scores: tuple[ScoreMetrics, ...]
    differences: tuple[ScoreDifference, ...]

    def of(self, name: Name) -> ScoreMetrics | None:
        """Return the figures of a score, or None if it was not evaluated."""
        return next((score for score in self.scores if score.score == name), None)


class Evaluation(Record, frozen=True):
    """The content of ``evaluation.json``. Keys are added over time, and never renamed or removed.

    The figures are of ``split``. Thresholds are quantiles of the scores on the split ``calibrated_on``.
    """

    data: str
    model: str | None
    split: Split
    calibrated_on: Split
    resamples: int
    seed: int
    targets: tuple[TargetEvaluation, ...]
    version: int = VERSION
