"""The plots of the comparison, as PNG and SVG: accuracy by acceptance, by target tokens and by latency, and others.

Needs the extra ``plot``.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbiter.config.run_tables import RunType
from arbiter.evaluation.paper.comparison import PAIRS, AccuracyDifference, CurveComparison, PointFigures
from arbiter.evaluation.paper.planned_runs import ALONE
from arbiter.runs.reports.plots import STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OUTCOMES = {"kept": "#BBBBBB", "improved": "#009E73", "wasted": "#F0E442", "harmed": "#D55E00"}
_GRID = "#E5E5E5"


def draw(found: CurveComparison, folder: Path) -> list[str]:
    """Draw all plots that have data into ``folder``, as PNG and SVG. Return their names. Needs matplotlib."""
    plots: dict[str, Any] = {
        "acceptance": by_acceptance(found),
        "target-tokens": by_target_tokens(found),
        "latency": by_latency(found.points),
        "differences": differences(found.differences),
        "steps": steps(found.points),
    }
    drawn: dict[str, Any] = {name: figure for name, figure in plots.items() if figure is not None}
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return list(drawn)


def by_acceptance(found: CurveComparison) -> "Figure":
    """Plot accuracy with its interval against the acceptance rate, with a line per run type."""
    figure, axes = _curves(found, lambda point: point.acceptance)
    axes.set(xlabel="acceptance rate (share of steps kept from the draft)", ylabel="accuracy with 95 % interval")
    _percent(axes.xaxis, axes.yaxis)
    axes.legend(frameon=False, loc="best")
    return figure


def by_target_tokens(found: CurveComparison) -> "Figure":
    """Plot accuracy with its interval against the target's tokens per problem, with a line per run type."""
    figure, axes = _curves(found, lambda point: point.target_tokens)
    axes.set(xlabel="tokens written by the target per problem", ylabel="accuracy with 95 % interval")
    _percent(axes.yaxis)
    axes.legend(frameon=False, loc="best")
    return figure


def _curves(found: CurveComparison, x_of: Callable[[PointFigures], float]) -> tuple[Any, Any]:
    """Plot the runs, and for each run type a line from the draft alone to the target alone."""
    figure, (axes,) = _canvas(1, 7.6, 5.2)
    ends = [point for point in found.points if point.run_type in ALONE]
    for name, points in _by_type(found.points).items():
        _bars(axes, points, name, x_of, lines=False)
        if name not in ALONE:
            whole = sorted([*ends, *points], key=x_of)
            x, y = [x_of(point) for point in whole], [point.accuracy.value for point in whole]
            axes.plot(x, y, color=STYLES[name][0], lw=1.6, zorder=2)
    return figure, axes


def by_latency(points: Sequence[PointFigures]) -> "Figure | None":
    """Plot accuracy against seconds per problem: simulated on the given hardware, or else as recorded."""
    if not points:
        return None
    stated = all(point.seconds_alone is not None for point in points)
    figure, (axes,) = _canvas(1, 7.6, 5.2)
    for name, found in _by_type(points).items():
        _bars(axes, found, name, _seconds, lines=name not in ALONE)
    axes.set(
        xlabel="seconds per problem, simulated one problem at a time" if stated else "seconds per problem",
        ylabel="accuracy with 95 % interval",
    )
    _percent(axes.yaxis)
    axes.legend(frameon=False, loc="best")
    return figure


def differences(found: Sequence[AccuracyDifference]) -> "Figure | None":
    """Plot the differences at matched acceptance with intervals, with a panel per pair."""
    pairs = [pair for pair in PAIRS if any((each.one, each.other) == pair for each in found)]
    if not pairs:
        return None
    figure, panels = _canvas(len(pairs), 2.6 * len(pairs) + 0.6, 3.4)
    for axes, (one, other) in zip(panels, pairs, strict=True):
        known = [each for each in found if (each.one, each.other) == (one, other) and each.difference.value is not None]
        rates = [each.acceptance for each in known]
        middle = [each.difference.value or 0.0 for each in known]
        low = [each.difference.interval[0] if each.difference.interval else 0.0 for each in known]
        high = [each.difference.interval[1] if each.difference.interval else 0.0 for each in known]
        colour = STYLES[one][0]
        axes.axhline(0, color="#444444", lw=0.9)
        axes.fill_between(rates, low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(rates, middle, color=colour, marker=STYLES[one][1], ms=5)
        axes.set_title(f"{one} − {other}", fontsize=11)
        axes.set_xlabel("acceptance rate")
        _percent(axes.xaxis, axes.yaxis)
    panels[0].set_ylabel("difference in accuracy")
    return figure


def steps(points: Sequence[PointFigures]) -> "Figure | None":
    """Plot the stacked outcomes of steps against the acceptance rate, with a panel per run type."""
    judged = {
        name: sorted(found, key=lambda point: point.acceptance)
        for name, found in _by_type([point for point in points if point.steps.kept is not None]).items()
        if len(found) > 1
    }
    if not judged:
        return None
    figure, panels = _canvas(len(judged), 2.4 * len(judged) + 1.2, 3.4)
    for axes, (name, found) in zip(panels, judged.items(), strict=True):
        rates = [point.acceptance for point in found]
        shares = [[getattr(point.steps, outcome) for point in found] for outcome in _OUTCOMES]
        axes.stackplot(rates, shares, colors=list(_OUTCOMES.values()), labels=list(_OUTCOMES), lw=0)
        axes.set_title(name, fontsize=11)
        axes.set_xlabel("acceptance rate")
        axes.set(xlim=(min(rates), max(rates)), ylim=(0, 1))
        _percent(axes.xaxis, axes.yaxis)
    panels[0].set_ylabel("share of steps")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _bars(
    axes: Any,  # noqa: ANN401 - matplotlib's axes
    points: Sequence[PointFigures],
    name: RunType,
    x_of: Callable[[PointFigures], float],
    *,
    lines: bool,
) -> None:
    """Draw the runs of a type, each with the interval of its accuracy."""
    known = sorted(
        (x_of(point), point.accuracy.value, *point.accuracy.interval)
        for point in points
        if point.accuracy.value is not None and point.accuracy.interval is not None
    )
    colour, marker = STYLES[name]
    x, y, low, high = ([row[column] for row in known] for column in range(4))
    below, above = ([abs(a - b) for a, b in zip(y, ends, strict=True)] for ends in (low, high))
    axes.errorbar(
        x, y, [below, above], color=colour, marker=marker, ms=6, ls="-" if lines else "none", lw=1.6, elinewidth=1,
        capsize=3, label=name, zorder=3,
    )  # fmt: skip


def _seconds(point: PointFigures) -> float:
    return point.seconds if point.seconds_alone is None else point.seconds_alone


def _by_type(points: Sequence[PointFigures]) -> dict[RunType, list[PointFigures]]:
    found: dict[RunType, list[PointFigures]] = {}
    for point in points:
        found.setdefault(point.run_type, []).append(point)
    return found


def _canvas(panels: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a figure and its panels. They are untyped because many of matplotlib's methods are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    found: Any = figure.subplots(1, panels, sharey=True, squeeze=False)
    for axes in found[0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color=_GRID)
        axes.set_axisbelow(True)
    return figure, list(found[0])


def _percent(*axes: Any) -> None:  # noqa: ANN401 - matplotlib's axis
    from matplotlib.ticker import PercentFormatter

    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
