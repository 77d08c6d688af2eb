"""What an evaluation found, ``evaluation.json``; ``docs/how-to/evaluate-a-router.md`` says what each figure means."""

from arbiter.data.training_rows import Split
from arbiter.evaluation.resampling import BootstrapEstimate
from arbiter.evaluation.scores import Name
from arbiter.protocols.records import Record

VERSION = 1


class Gain(Record, frozen=True):
    """At the share ``escalated`` of the steps, those with the highest scores: the share ``captured`` of the total
    positive advantage Σ max(Δ, 0), and ``net``, the same with the harm of the escalated steps taken off.
    """

    escalated: float
    captured: BootstrapEstimate
    net: BootstrapEstimate


class Outcomes(Record, frozen=True):
    """What the threshold τ does, in shares of all steps. ``aimed`` is the share of the calibration split's steps that
    it escalates at most; ``improved``, ``wasted`` and ``harmed`` are escalated steps, ``kept`` the others.
    """

    aimed: float
    threshold: float
    kept: BootstrapEstimate
    improved: BootstrapEstimate
    wasted: BootstrapEstimate
    harmed: BootstrapEstimate


class Bin(Record, frozen=True):
    """A bin of the reliability diagram: its steps, their mean ŷ, and the share of them with Δ > 0."""

    steps: int
    predicted: float
    positive: BootstrapEstimate


class ScoreMetrics(Record, frozen=True):
    """The figures of one score. Accuracies are at ``threshold``; those and what only a probability has may be None."""

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
    """``score`` − ``other`` on the same resamples; ``captured`` at the shares escalated of ``gains``."""

    score: Name
    other: Name
    spearman: BootstrapEstimate
    auroc: BootstrapEstimate
    area: BootstrapEstimate
    captured: tuple[BootstrapEstimate, ...]


class TargetEvaluation(Record, frozen=True):
    """The scores against the advantage of one target ("" where there is one alone).

    ``improving`` is the share of steps with Δ > 0, ``mean_advantage`` the mean of Δ: what escalating all would bring.
    """

    target: str
    problems: int
    steps: int
    improving: BootstrapEstimate
    mean_advantage: BootstrapEstimate
    scores: tuple[ScoreMetrics, ...]
    differences: tuple[ScoreDifference, ...]

    def of(self, name: Name) -> ScoreMetrics | None:
        """The figures of a score, if it was evaluated."""
        return next((score for score in self.scores if score.score == name), None)


class Evaluation(Record, frozen=True):
    """``evaluation.json``. Keys are added over time, and never renamed or removed.

    The figures are of the ``split``; thresholds are quantiles of the scores of the split ``calibrated_on``.
    """

    data: str
    model: str | None
    split: Split
    calibrated_on: Split
    resamples: int
    seed: int
    targets: tuple[TargetEvaluation, ...]
    version: int = VERSION
