"""A run in a few lines of plain words, and its comparison with the draft alone and the target alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from arbiter.protocols.records import Author
from arbiter.runs.baseline_runs import compared_run
from arbiter.runs.baselines import ComparedRun
from arbiter.runs.grading_figures import in_bounds, without_box
from arbiter.runs.intervals import Interval
from arbiter.runs.reports.numbers import NOTHING, money, percent, seconds
from arbiter.runs.reports.tables import from_to
from arbiter.runs.results import Summary, written_tokens

INTERVAL = "95 % interval"
"""The heading of the column whose cells may wrap."""


class ComparisonTable(NamedTuple):
    """The table of a comparison: its headings and its rows."""

    headings: list[str]
    rows: list[list[str]]


def heading(summary: Summary) -> str:
    """Return the line above the figures: the policy and the problems."""
    threshold = "" if summary.threshold is None else f", threshold τ = {summary.threshold:g}"
    samples = f", {summary.samples} samples each" if summary.samples > 1 else ""
    ended = ", interrupted" if summary.interrupted else ""
    return f"{summary.run_type}{threshold}: {_count(summary.problems, 'problem')}{samples}{ended}"


def lines_of(summary: Summary, in_process: bool) -> dict[str, str]:
    """Return the main figures by name. ``in_process`` says whether all models are in this process."""
    each, mean = "sample" if summary.samples > 1 else "problem", summary.latency.mean
    calls = summary.requests.get("target")
    sent = f" in {_count(calls.requests, 'request')}" if calls else ""
    spent = "" if mean is None else f"; {seconds(mean)} s per {each} on average"
    lines = {
        "accuracy": _estimate(summary.accuracy, summary.accuracy_interval),
        **_of_samples(summary),
        "acceptance": f"{percent(summary.acceptance_rate)} of {_count(summary.steps, 'step')} written by the draft",
        "target tokens": f"{written_tokens(summary, 'target'):,}{sent}",
        "wall time": f"{_decimal(summary.wall_seconds)} s{spent}",
        "CPU time": _cpu(summary, in_process),
    }
    if summary.ungraded:
        lines["not in accuracy"] = not_graded(summary)
    if unboxed := without_box(summary.found_by):
        rules = counted({f'"{rule}"': count for rule, count in unboxed.items()})
        lines["without a box"] = f"{_count(sum(unboxed.values()), 'answer')}, found after a phrase: {rules}"
    if summary.cost:
        lines["cost"] = money(summary.cost.total)
    return lines


def comparison_table(summary: Summary) -> ComparisonTable:
    """Return the figures of a compared run and of its baselines, ordered by how much the target does."""
    rows = _rows(summary)
    each = "sample" if summary.samples > 1 else "problem"
    has_cost = any(row.cost is not None for row in rows.values())
    headings = [
        _count(summary.problems, "problem"),
        "accuracy",
        INTERVAL,
        "wall s",
        "CPU s",
        "target tokens",
        f"s/{each}",
    ]
    return ComparisonTable(
        headings + (["cost"] if has_cost else []),
        [_cells(name, row) + ([money(row.cost)] if has_cost else []) for name, row in rows.items()],
    )


def sentences(summary: Summary, in_process: bool, targets: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what the figures of a comparison say.

    CPU seconds are compared only if all models are ``in_process``, because those of servers are not known. ``targets``
    names several targets.
    """
    rows = _rows(summary)
    name = next((name for name in rows if name not in _ALONE.values()), _ALONE["draft"])
    shown = name if summary.threshold is None else f"{name} (τ = {summary.threshold:g})"
    yield _needed(shown, rows[name], rows[_ALONE["target"]], in_process)
    yield _accuracies(name, rows)
    for each, row in rows.items():
        if left_out := _left_out(row.failed, row.decoded - row.graded - row.failed):
            yield f"The accuracy of {each} leaves out: {left_out}."
    if len(targets) > 1:
        yield f"The target alone is {targets[0]}, the first target. The target tokens are those of all targets."


def not_graded(summary: Summary) -> str:
    """Return how many samples are ungraded for each reason, and the bounds of the accuracy."""
    reasons = ", ".join(f"{count} ({reason})" for reason, count in summary.ungraded.items())
    if summary.accuracy_bounds is None:
        return reasons
    low, high = map(percent, summary.accuracy_bounds)
    counted_in = in_bounds(summary.ungraded)
    which = "them" if counted_in is None else f"the {counted_in} that have a reference answer"
    return f"{reasons}; with {which} it is {low} if all are wrong, {high} if all are right"


def counted(counts: Mapping[str, int]) -> str:
    """Return names with their counts, the largest first."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def accuracies_agree(one: ComparedRun, other: ComparedRun) -> bool | None:
    """Return whether both accuracies lie within the other's interval; None if one is not known."""
    if one.accuracy is None or other.accuracy is None or not one.accuracy_interval or not other.accuracy_interval:
        return None
    (low, high), (other_low, other_high) = one.accuracy_interval, other.accuracy_interval
    return low <= other.accuracy <= high and other_low <= one.accuracy <= other_high


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_ALONE: dict[Author, str] = {"draft": "draft alone", "target": "target alone"}


def _rows(summary: Summary) -> dict[str, ComparedRun]:
    baselines = dict(summary.comparison or {})
    run = compared_run(summary, Path())
    if summary.run_type == "draft" or summary.run_type == "target":
        baselines[summary.run_type] = run
        return {_ALONE[role]: baselines[role] for role in _ALONE}
    return {_ALONE["draft"]: baselines["draft"], summary.run_type: run, _ALONE["target"]: baselines["target"]}


def _cells(name: str, row: ComparedRun) -> list[str]:
    return [
        name,
        percent(row.accuracy),
        from_to(row.accuracy_interval),
        _decimal(row.wall_seconds),
        _decimal(row.cpu_seconds),
        f"{row.target_tokens:,}",
        seconds(row.mean_seconds),
    ]


def _needed(name: str, run: ComparedRun, target: ComparedRun, in_process: bool) -> str:
    """Return how much of the tokens and seconds of the target alone ``run`` needed."""
    wall = _ratio(run.wall_seconds, target.wall_seconds)
    ratios = {
        "target tokens": _ratio(run.target_tokens, target.target_tokens),
        "wall time": wall,
        "CPU time": _ratio(run.cpu_seconds, target.cpu_seconds) if in_process else None,
    }
    parts = [_share(ratio, what) for what, ratio in ratios.items() if ratio is not None]
    if not parts:
        return f"The tokens and seconds of {name} cannot be compared with those of the target alone."
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    longer = ": it took longer" if wall is not None and _exceeds(wall) else ""
    return f"Compared with the target alone, {name} needed {listed}{longer}."


def _share(ratio: float, what: str) -> str:
    return f"{ratio:.2f} times the {what}" if _exceeds(ratio) else f"{percent(ratio)} of the {what}"


def _exceeds(ratio: float) -> bool:
    return round(ratio, 2) > 1


def _accuracies(name: str, rows: dict[str, ComparedRun]) -> str:
    others = [role for role in (_ALONE["target"], _ALONE["draft"]) if role != name]
    agreed = [accuracies_agree(rows[name], rows[other]) for other in others]
    if None in agreed:
        return "The accuracies cannot be compared, because a run has no graded answers."
    lie = "lie" if agreed[0] else "do not lie"
    first = f"The accuracies of {name} and {others[0]} {lie} within each other's 95 % intervals"
    match agreed:
        case [True, True]:
            second = f", and so do those of {name} and {others[1]}"
        case [True, False]:
            second = f", but those of {name} and {others[1]} do not"
        case [False, True]:
            second = f", but those of {name} and {others[1]} do"
        case [False, False]:
            second = f", and neither do those of {name} and {others[1]}"
        case _:
            second = ""
    return f"{first}{second}."


def _of_samples(summary: Summary) -> dict[str, str]:
    """Return pass@k for all samples, and the majority vote, if there are several samples of each problem."""
    if summary.samples == 1:
        return {}
    passed, vote = summary.pass_at_k.get(summary.samples), summary.majority_vote
    return {
        f"pass@{summary.samples}": _estimate(passed and passed.value, passed and passed.interval),
        "majority vote": _estimate(vote and vote.value, vote and vote.interval),
    }


def _estimate(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "not known, because no answer was graded"
    return f"{percent(value)} (95 % interval {from_to(interval)})"


def _cpu(summary: Summary, in_process: bool) -> str:
    if summary.cpu_seconds is None:
        return "not known, because the run was resumed"
    return f"{_decimal(summary.cpu_seconds)} s" + ("" if in_process else " in this process, without the servers")


def _left_out(failed: int, ungraded: int) -> str:
    parts = [f"{failed} failed"] if failed else []
    return ", ".join([*parts, *([f"{ungraded} could not be graded"] if ungraded else [])])


def _decimal(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
