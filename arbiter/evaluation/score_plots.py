"""Plots of an evaluation, with a panel per target and the colours that reports use for run types.

Needs matplotlib (the extra ``plot``).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbiter.evaluation.evaluation_results import Evaluation, ScoreMetrics, TargetEvaluation
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.plots import STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 150
_PANEL = (6.2, 4.8)
_GRID = "#E5E5E5"
_FORMATS = ("png", "svg")
_BANDS = ("router", "rsd", "confidence")  # more intervals would hide these


def draw(evaluation: Evaluation, folder: Path) -> list[str]:
    """Draw the gain curves, and a router's reliability diagram, as PNG and SVG. Return the file names."""
    figures = {"gain": gain(evaluation), "reliability": reliability(evaluation)}
    drawn: list[str] = []
    for name, figure in figures.items():
        for kind in _FORMATS if figure is not None else ():
            any_figure: Any = figure
            any_figure.savefig(folder / f"{name}.{kind}", metadata={"Date": None} if kind == "svg" else {})
            drawn.append(f"{name}.{kind}")
    return drawn


def gain(evaluation: Evaluation) -> "Figure":
    """Plot the share of the positive advantage captured against the share of steps escalated, a line per score."""
    figure, panels = _canvas(evaluation.targets)
    for target, axes in zip(evaluation.targets, panels, strict=True):
        for score in target.scores:
            _gain(axes, score)
        axes.set(xlabel="share of steps escalated", xlim=(0, 1), ylim=(0, 1.02), title=_title(target))
        _in_percent(axes)
    panels[0].set_ylabel("share of the total positive advantage captured")
    panels[-1].legend(loc="lower right", frameon=False)
    return figure


def reliability(evaluation: Evaluation) -> "Figure | None":
    """Plot the share of steps with Δ > 0 against ŷ, in bins of equal mass. Return None without a router."""
    if not any(score.reliability for target in evaluation.targets for score in target.scores):
        return None
    figure, panels = _canvas(evaluation.targets)
    for target, axes in zip(evaluation.targets, panels, strict=True):
        axes.plot([0, 1], [0, 1], color="#7F7F7F", ls="--", lw=1, label="calibrated")
        for score in target.scores:
            if score.reliability:
                _reliability(axes, score)
        axes.set(xlabel="mean ŷ per bin", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), title=_title(target))
        _in_percent(axes)
    panels[0].set_ylabel("share of steps with Δ > 0, with 95 % interval")
    panels[-1].legend(loc="upper left", frameon=False)
    return figure


def _gain(axes: Any, score: ScoreMetrics) -> None:  # noqa: ANN401 - matplotlib's axes
    colour, _ = STYLES[score.score]
    shares = [gain.escalated for gain in score.gains]
    look = {"ls": "--" if score.score == "random" else "-", "lw": 1.8, "zorder": 3}
    axes.plot(shares, [gain.captured.value for gain in score.gains], color=colour, label=score.score, **look)
    if score.score in _BANDS:
        low, high = zip(*(_ends(gain.captured) for gain in score.gains), strict=True)
        axes.fill_between(shares, low, high, color=colour, alpha=0.18, lw=0)


def _reliability(axes: Any, score: ScoreMetrics) -> None:  # noqa: ANN401 - matplotlib's axes
    colour, marker = STYLES[score.score]
    predicted = [found.predicted for found in score.reliability]
    values = [found.positive.value or 0.0 for found in score.reliability]
    ends = [_ends(found.positive) for found in score.reliability]
    low = [max(value - end[0], 0.0) for value, end in zip(values, ends, strict=True)]
    high = [max(end[1] - value, 0.0) for value, end in zip(values, ends, strict=True)]
    axes.errorbar(
        predicted, values, [low, high], color=colour, marker=marker, ms=6, lw=1.2, elinewidth=1, capsize=3,
        label=f"{score.score}, bins of equal mass", zorder=3,
    )  # fmt: skip


def _ends(found: BootstrapEstimate) -> tuple[float, float]:
    value = found.value or 0.0
    return found.interval or (value, value)


def _title(target: TargetEvaluation) -> str:
    name = f"target {target.target}, " if target.target else ""
    return f"{name}{target.steps:,} steps of {target.problems:,} problems"


def _in_percent(axes: Any) -> None:  # noqa: ANN401 - matplotlib's axes
    from matplotlib.ticker import PercentFormatter

    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.title.set_fontsize(10)
    axes.grid(visible=True, color=_GRID)


def _canvas(targets: tuple[TargetEvaluation, ...]) -> tuple[Any, list[Any]]:
    """Return a figure and one panel per target, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_PANEL[0] * len(targets), _PANEL[1]), dpi=_DPI, layout="constrained")
    grid: Any = figure.subplots(1, len(targets), squeeze=False)
    panels: list[Any] = list(grid[0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    return figure, panels
