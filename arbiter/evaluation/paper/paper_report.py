"""The report on the comparison, in text and tables. ``paper_plots`` draws its pictures."""

from collections.abc import Iterable, Sequence

from arbiter.evaluation.evaluation_results import Evaluation
from arbiter.evaluation.paper.ablation import PAPER, Ablated
from arbiter.evaluation.paper.comparison import CurveComparison, PointFigures
from arbiter.evaluation.paper.document import Block, DocumentTable, Heading, Paragraph, Picture
from arbiter.evaluation.paper.planned_runs import ALONE
from arbiter.protocols.records import Record
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.gap_figures import GapRecovery
from arbiter.runs.reports.numbers import NOTHING, percent
from arbiter.runs.reports.tables import csv_of, flat, from_to

VERSION = 1
_SHOWN = {
    "acceptance": "Accuracy against acceptance rate. Each run has its 95 % interval.",
    "target-tokens": "Accuracy against the tokens that the target writes per problem.",
    "latency": "Accuracy against seconds per problem.",
    "differences": "Differences in accuracy at matched acceptance, with 95 % intervals.",
    "steps": "Outcomes of steps: kept drafts, and escalations that improved, wasted or harmed.",
}


class Reproduction(Record, frozen=True):
    """The content of ``reproduction.json``. Keys are added over time, and never renamed or removed.

    ``title`` names the configuration. ``hardware`` has one pair per model: the hardware on which ``seconds_alone`` were
    simulated, over ``timed`` problems. ``evaluation`` is of the router on the collected test split. ``ablation`` is of
    its variants.
    """

    title: str
    comparison: CurveComparison
    evaluation: Evaluation | None = None
    ablation: tuple[Ablated, ...] = ()
    hardware: tuple[tuple[str, str], ...] = ()
    timed: int = 0
    version: int = VERSION


def blocks(found: Reproduction, pictures: Sequence[str]) -> list[Block]:
    """Return the whole report."""
    comparison = found.comparison
    parts: list[Block] = [
        Heading(f"{found.title}: comparison of escalation policies", 1),
        Paragraph(
            f"All runs solve the same {comparison.problems} problems. Intervals are 95 % bootstrap intervals over "
            "problems. Differences are paired: both runs of a pair use the same resamples. Runs are compared at the "
            "same acceptance rate, the share of steps kept from the draft. Between neighbouring runs of a curve, "
            "figures are interpolated linearly."
        ),
    ]
    parts += [Picture(name, _SHOWN[name]) for name in ("acceptance", "target-tokens", "latency") if name in pictures]
    parts += [*_timing(found), Heading("Runs"), _runs(comparison.points)]
    parts += [Heading("Comparison at matched acceptance"), _accuracies(comparison)]
    parts += [Picture("differences", _SHOWN["differences"])] if "differences" in pictures else []
    parts += [_differences(comparison), *_areas(comparison)]
    parts += [Heading("Recovered gap"), *_recovered(comparison.recovery)]
    parts += [Heading("Outcomes of steps"), _steps(comparison.points)]
    parts += [Picture("steps", _SHOWN["steps"])] if "steps" in pictures else []
    if found.evaluation is not None:
        parts += [Heading("How well scores predict which steps to escalate"), *_evaluated(found.evaluation)]
    if found.ablation:
        parts += [Heading("Ablation"), *_ablated(found.ablation)]
    return parts


def table_csv(comparison: CurveComparison) -> str:
    """Return CSV with one line per run and all of its figures."""
    return csv_of([flat(point) for point in comparison.points])


def _timing(found: Reproduction) -> list[Block]:
    if not found.hardware:
        return []
    where = ", ".join(f"{model}: {place}" for model, place in found.hardware)
    return [
        Paragraph(
            f"Seconds are simulated for the first {found.timed} problems, one at a time ({where}). The speeds of the "
            "simulated servers are derived from data sheets, not measured."
        )
    ]


def _runs(points: Sequence[PointFigures]) -> DocumentTable:
    stated = any(point.seconds_alone is not None for point in points)
    heads = [
        "run",
        "τ",
        "acceptance",
        "accuracy",
        "95 % interval",
        "target calls per problem",
        "target tokens per problem",
        "seconds per problem",
    ]
    rows = [
        [
            point.run_type,
            NOTHING if point.threshold is None else f"{point.threshold:.3g}",
            percent(point.acceptance),
            percent(point.accuracy.value),
            from_to(point.accuracy.interval),
            f"{point.target_calls:.2f}",
            f"{point.target_tokens:.1f}",
            f"{(point.seconds_alone or 0.0) if stated else point.seconds:.2f}",
        ]
        for point in points
    ]
    return DocumentTable(heads, rows)


def _accuracies(comparison: CurveComparison) -> DocumentTable:
    rates = [percent(rate) for rate in comparison.acceptances]
    rows = [[curve.run_type, *(percent(each.value) for each in curve.accuracy)] for curve in comparison.curves]
    return DocumentTable(["accuracy at acceptance", *rates], rows)


def _differences(comparison: CurveComparison) -> DocumentTable:
    rows = [
        [
            f"{each.one} − {each.other}",
            percent(each.acceptance),
            _signed(each.difference.value),
            _signed_interval(each.difference),
            f"{each.mcnemar.first} / {each.mcnemar.second}",
            f"{each.mcnemar.p:.2g}",
        ]
        for each in comparison.differences
    ]
    return DocumentTable(["pair", "acceptance", "difference", "95 % interval", "only one right", "McNemar's p"], rows)


def _areas(comparison: CurveComparison) -> list[Block]:
    rows = [[curve.run_type, percent(curve.area.value), from_to(curve.area.interval)] for curve in comparison.curves]
    return [
        Paragraph(
            "The share is the area between a curve and random escalation, over all acceptance rates. The area between "
            "the oracle and random escalation is 100 %."
        ),
        DocumentTable(["curve", "share", "95 % interval"], rows),
    ]


def _recovered(recovery: GapRecovery) -> list[Block]:
    return [Paragraph(recovery.text), *(DocumentTable(heads, rows) for heads, *rows in recovery.tables)]


def _steps(points: Iterable[PointFigures]) -> DocumentTable:
    rows = [
        [
            f"{point.run_type}, τ = {point.threshold:.3g}",
            percent(point.acceptance),
            *(
                percent(share)
                for share in (point.steps.kept, point.steps.improved, point.steps.wasted, point.steps.harmed)
            ),
        ]
        for point in points
        if point.threshold is not None and point.run_type not in ALONE and point.steps.judged
    ]
    return DocumentTable(["run", "acceptance", "kept", "improved", "wasted", "harmed"], rows)


def _evaluated(found: Evaluation) -> list[Block]:
    figures = found.targets[0]
    rows = [
        [each.score, *map(_number, (each.spearman, each.auroc, each.area))]
        for each in figures.scores
        if each.score != "random"
    ]
    return [
        Paragraph(
            f"The collection has {figures.steps} steps of {figures.problems} problems in the {found.split} split. The "
            f"target's step is better in {percent(figures.improving.value)} of them. ρ is Spearman's rank correlation "
            "of the score with Δ. The area is under the curve of gain captured against share of steps escalated."
        ),
        DocumentTable(["score", "ρ", "AUROC", "area"], rows),
    ]


def _ablated(found: Sequence[Ablated]) -> list[Block]:
    rows = [
        [
            each.variant,
            _number(each.spearman),
            f"{PAPER[each.variant]:.4f}" if each.variant in PAPER else NOTHING,
            _number(each.auroc),
            _share(each.others),
            _share(each.improving),
        ]
        for each in found
    ]
    heads = ["router", "ρ", "ρ in the paper", "AUROC", "accuracy on Δ ≤ 0", "accuracy on Δ > 0"]
    return [
        Paragraph(
            "Each router is trained on the same rows, with one change from the first one, and evaluated on the same "
            "held-out steps. The paper's figures are of other models and problems: only the order is comparable."
        ),
        DocumentTable(heads, rows),
    ]


def _number(estimate: BootstrapEstimate) -> str:
    if estimate.value is None:
        return NOTHING
    ends = estimate.interval
    return f"{estimate.value:.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")


def _share(estimate: BootstrapEstimate | None) -> str:
    return NOTHING if estimate is None else percent(estimate.value)


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.1%}"


def _signed_interval(estimate: BootstrapEstimate) -> str:
    return (
        NOTHING if estimate.interval is None else f"{_signed(estimate.interval[0])} to {_signed(estimate.interval[1])}"
    )
