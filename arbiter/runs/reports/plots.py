"""Plots of runs, drawn with matplotlib (the extra ``plot``), which is imported on first use.

Thresholds of different run types have different scales, so no axis shows them. The x axis is the acceptance rate, and
thresholds are labels next to the points.
"""

import importlib.util
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from arbiter.config.run_tables import RunType
from arbiter.protocols.errors import not_installed
from arbiter.protocols.records import Author, Model
from arbiter.runs.reports.tables import ReportRow
from arbiter.runs.results import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The colours of Okabe and Ito, and four of Tol, which are distinguishable with any colour vision. Markers differ.
STYLES: dict[RunType, tuple[str, str]] = {
    "draft": ("#E69F00", "D"),
    "target": ("#000000", "P"),
    "random": ("#7F7F7F", "X"),
    "router": ("#0072B2", "o"),
    "rsd": ("#D55E00", "s"),
    "oracle": ("#009E73", "^"),
    "generate": ("#CC79A7", "v"),
    "confidence": ("#56B4E9", "*"),
    "judge": ("#F0E442", "h"),
    "trigger": ("#882255", "<"),
    "paced": ("#44AA99", ">"),
    "glimpse": ("#332288", "p"),
    "pomdp": ("#117733", "d"),
}
_MODELS: dict[Model, str] = {
    "draft": "#E69F00",
    "target": "#0072B2",
    "prm": "#009E73",
    "router": "#CC79A7",
    "judge": "#F0E442",
}
_BASELINES: tuple[RunType, ...] = ("draft", "target")
_WRITERS: tuple[Author, ...] = ("draft", "target")
_DPI = 150
_WIDTH = 9.0
_LONGEST_NAME = 40

# One part of a stacked bar: its name in the legend, its colour, whether it is hatched, and its length in each row.
Part = tuple[str, str, bool, list[float]]


def why_not() -> str | None:
    """Return why nothing can be drawn and how to fix it, or None if matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return not_installed("a plot", "matplotlib", "plot")
    return None


def draw(entries: Sequence[ReportRow], folder: Path) -> list[str]:
    """Draw all plots that have data into ``folder``. Return the file names. Needs matplotlib."""
    plots: dict[str, Callable[[Sequence[ReportRow]], Figure | None]] = {
        "accuracy.png": accuracy_by_acceptance,
        "target-tokens.png": accuracy_by_target_tokens,
        "latency.png": latency,
        "tokens.png": tokens,
        "cost.png": cost,
    }
    figures: dict[str, Any] = {name: plot(entries) for name, plot in plots.items()}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    for name, figure in drawn.items():
        figure.savefig(folder / name)
    return list(drawn)


def accuracy_by_acceptance(entries: Sequence[ReportRow]) -> "Figure | None":
    """Plot accuracy with its interval against the acceptance rate: a line per run type, baselines as single points."""
    from matplotlib.ticker import PercentFormatter

    series = _series(entries, lambda summary: summary.acceptance_rate)
    if not series:
        return None
    figure, axes = _accuracies(series)
    axes.set_xlabel("acceptance rate (share of steps kept from the draft)")
    axes.set_xlim(*_span([point[0] for points in series.values() for point in points]))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    _place_thresholds(figure, axes, series)
    return figure


def accuracy_by_target_tokens(entries: Sequence[ReportRow]) -> "Figure | None":
    """Plot accuracy with its interval against the tokens that the target wrote per problem, kept or discarded."""
    series = _series(entries, _target_tokens)
    if not any(point[0] for points in series.values() for point in points):
        return None
    figure, axes = _accuracies(series)
    axes.set_xlabel(f"mean tokens written by the target {_each(entries)}")
    axes.set_xlim(left=0)
    _place_thresholds(figure, axes, series)
    return figure


def _target_tokens(summary: Summary) -> float | None:
    found = summary.tokens.get("target")
    written = found.kept + found.discarded if found else 0
    return written / summary.decoded if summary.decoded else None


Point = tuple[float, float, float, float, float | None]  # x, accuracy, its interval's ends, threshold


def _series(entries: Sequence[ReportRow], x_of: Callable[[Summary], float | None]) -> dict[RunType, list[Point]]:
    """Return the points of each run type, ordered by x. Runs that lack one of the figures are left out."""
    series: dict[RunType, list[Point]] = {}
    for entry in entries:
        found, x = entry.summary, x_of(entry.summary)
        if found.accuracy is not None and found.accuracy_interval is not None and x is not None:
            point = (x, found.accuracy, *found.accuracy_interval, found.threshold)
            series.setdefault(found.run_type, []).append(point)
    return {run_type: sorted(points, key=lambda point: point[:4]) for run_type, points in series.items()}


def _accuracies(series: dict[RunType, list[Point]]) -> tuple[Any, Any]:
    """Plot the points of each run type, with intervals and a legend. Return the figure and its axes."""
    from matplotlib.ticker import PercentFormatter

    figure, axes = _canvas(5.2)
    for run_type, points in series.items():
        colour, marker = STYLES[run_type]
        x, y = [point[0] for point in points], [point[1] for point in points]
        low, high = [point[1] - point[2] for point in points], [point[3] - point[1] for point in points]
        joined = "none" if run_type in _BASELINES else "-"
        axes.errorbar(
            x, y, [low, high], color=colour, marker=marker, ms=7, ls=joined, lw=1.6, elinewidth=1, capsize=3,
            label=run_type, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set_ylabel("accuracy with 95 % interval")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(visible=True, axis="both", color="#E5E5E5")
    figure.legend(loc="outside right upper", frameon=False, title="run type")
    return figure, axes


def _place_thresholds(figure: Any, axes: Any, series: dict[RunType, list[Point]]) -> None:  # noqa: ANN401 - matplotlib
    """Write the thresholds next to their points."""
    from arbiter.runs.reports.plot_labels import Label, place_labels

    labels: list[Label] = []
    for run_type, points in series.items():
        labels += [Label(*place, text, STYLES[run_type][0]) for place, text in _thresholds(points).items()]
    place_labels(figure, axes, labels, _bars(series))


def _thresholds(points: Sequence[Point]) -> dict[tuple[float, float], str]:
    """Return the label of each plotted point of a run type: its threshold, or the range of all thresholds there."""
    thresholds: dict[tuple[float, float], list[float]] = {}
    for point in points:
        if point[4] is not None:
            thresholds.setdefault((point[0], point[1]), []).append(point[4])
    return {
        place: f"τ = {min(found):.3g}" + (f" to {max(found):.3g}" if max(found) > min(found) else "")
        for place, found in thresholds.items()
    }


def _span(rates: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows ``rates`` and at least a fifth of the scale."""
    middle, half = (min(rates) + max(rates)) / 2, max((max(rates) - min(rates)) / 2 * 1.1, 0.1)
    return max(-0.02, middle - half), min(1.02, middle + half)


def _bars(series: dict[RunType, list[Point]]) -> list[list[tuple[float, float]]]:
    """Return the drawn lines in the units of the axes: the error bars, and the lines between points."""
    bars = [[(point[0], point[2]), (point[0], point[3])] for points in series.values() for point in points]
    joined = [points for run_type, points in series.items() if run_type not in _BASELINES]
    return bars + [[(point[0], point[1]) for point in points] for points in joined]


def latency(entries: Sequence[ReportRow]) -> "Figure | None":
    """Plot the seconds per problem: the mean as a bar, median and 95th percentile as marks."""
    known = [entry for entry in entries if entry.summary.latency.mean is not None]
    if not known:
        return None
    means, medians, tails = (
        [getattr(entry.summary.latency, name) for entry in known] for name in ("mean", "p50", "p95")
    )
    figure, axes = _canvas(_height(len(known)))
    rows = range(len(known))
    colours = [STYLES[entry.summary.run_type][0] for entry in known]
    axes.barh(rows, means, height=0.62, color=colours)
    marks: dict[str, Any] = {"ls": "none", "color": "#222222", "ms": 7, "zorder": 3}
    axes.plot(medians, rows, marker="o", mfc="white", label="median (p50)", **marks)
    axes.plot(tails, rows, marker=">", label="95th percentile (p95)", **marks)
    _name_rows(axes, list(map(_marked, known)), max(means + tails))
    axes.set_xlabel(f"seconds {_each(known)} (bar: mean)")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _marked(entry: ReportRow) -> ReportRow:
    """Add the remark "simulated" to a run whose times are simulated."""
    remarks = [entry.remark] * bool(entry.remark) + ["simulated"] * entry.summary.simulated
    return msgspec.structs.replace(entry, remark=", ".join(remarks))


def tokens(entries: Sequence[ReportRow]) -> "Figure | None":
    """Plot the tokens written per problem, by model, kept or discarded."""
    rows = [entry for entry in entries if entry.summary.decoded]
    parts: list[Part] = []
    for role in _WRITERS:
        found = [entry.summary.tokens.get(role) for entry in rows]
        kept = [found.kept / row.summary.decoded if found else 0.0 for found, row in zip(found, rows, strict=True)]
        lost = [f.discarded / row.summary.decoded if f else 0.0 for f, row in zip(found, rows, strict=True)]
        parts += [(f"{role}, kept", _MODELS[role], False, kept), (f"{role}, discarded", _MODELS[role], True, lost)]
    return _stacked(rows, parts, f"mean tokens written {_each(rows)}")


def cost(entries: Sequence[ReportRow]) -> "Figure | None":
    """Plot the cost of a thousand problems, by model, without audits."""
    rows = [entry for entry in entries if entry.summary.decoded and entry.summary.cost]
    parts: list[Part] = []
    for model, colour in _MODELS.items():
        costs = [entry.summary.cost.models.get(model) if entry.summary.cost else None for entry in rows]
        each = [1000 * (cost or 0.0) / row.summary.decoded for cost, row in zip(costs, rows, strict=True)]
        parts.append((model, colour, False, each))
    incomplete = any(entry.summary.cost and entry.summary.cost.total is None for entry in rows)
    missing = ", without models that have no price" if incomplete else ""
    return _stacked(rows, parts, f"cost per 1,000 {_unit(rows)}s{missing}")


def _stacked(rows: Sequence[ReportRow], parts: Sequence[Part], meaning: str) -> "Figure | None":
    """Plot stacked bars, one row per run. Return None if all parts are empty."""
    visible = [part for part in parts if any(part[3])]
    if not visible:
        return None
    figure, axes = _canvas(_height(len(rows)))
    left = [0.0] * len(rows)
    for name, colour, hatched, lengths in visible:
        look: dict[str, Any] = {"color": colour}
        if hatched:
            look = {"facecolor": "white", "edgecolor": colour, "hatch": "/////", "linewidth": 0.8}
        seen = [row for row, length in enumerate(lengths) if length]  # a part of length 0 would show its edge
        axes.barh(
            seen, [lengths[row] for row in seen], left=[left[row] for row in seen], height=0.62, label=name, **look
        )
        left = [before + length for before, length in zip(left, lengths, strict=True)]
    _name_rows(axes, rows, max(left))
    axes.set_xlabel(meaning)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _canvas(height: float) -> tuple[Any, Any]:
    """Return a figure and its axes. They are untyped because many of matplotlib's methods are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return figure, axes


def _height(rows: int) -> float:
    return 1.3 + 0.34 * max(rows, 2)


def _name_rows(axes: Any, entries: Sequence[ReportRow], longest: float) -> None:  # noqa: ANN401 - matplotlib's axes
    """Label one row per run, the first on top, and set an x axis from 0 to just above ``longest``."""
    axes.set_yticks(range(len(entries)), names(entries), parse_math=False)
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(0, 1.04 * longest)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color="#E5E5E5")


def names(entries: Sequence[ReportRow]) -> list[str]:
    """Return the name of each run in a plot: its type and threshold, and its folder where those are ambiguous."""

    def label(entry: ReportRow) -> str:
        threshold = entry.summary.threshold
        return entry.summary.run_type + ("" if threshold is None else f", τ = {threshold:.3g}")

    count = Counter(map(label, entries))
    ends = Counter((label(entry), Path(entry.name).name) for entry in entries)
    named: list[str] = []
    for entry in entries:
        end = Path(entry.name).name
        folder = end if ends[label(entry), end] == 1 else entry.name
        short = folder if len(folder) <= _LONGEST_NAME else f"…{folder[1 - _LONGEST_NAME :]}"
        named.append(label(entry) if count[label(entry)] == 1 else f"{label(entry)} ({short})")
    return [name + (f", {entry.remark}" if entry.remark else "") for name, entry in zip(named, entries, strict=True)]


def _each(rows: Sequence[ReportRow]) -> str:
    return f"per {_unit(rows)}"


def _unit(rows: Sequence[ReportRow]) -> str:
    return "sample" if any(row.summary.samples > 1 for row in rows) else "problem"
