"""Tables with one row per run. Terminal, Markdown and benchmarks share the same columns."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast, get_args

import msgspec

from arbiter.config.run_tables import RunType
from arbiter.protocols.records import Author, Record
from arbiter.runs.intervals import Interval
from arbiter.runs.reports.numbers import NOTHING, money, percent, seconds
from arbiter.runs.results import Summary

_GAP = 3  # between two columns on a terminal
_ORDER: tuple[RunType, ...] = (
    "draft",
    "confidence",
    "trigger",
    "paced",
    "glimpse",
    "pomdp",
    "judge",
    "rsd",
    "router",
    "oracle",
    "generate",
    "random",
    "target",
)


class ReportRow(msgspec.Struct, frozen=True):
    """A row of a table: the run's name, its figures, and a remark that is shown after the name."""

    name: str
    summary: Summary
    remark: str = ""


Column = Callable[[ReportRow], str]


def ordered(entries: Iterable[ReportRow]) -> list[ReportRow]:
    """Return the rows sorted by run type, threshold, samples and name."""

    def sort_key(entry: ReportRow) -> tuple[int, float, int, str]:
        found = entry.summary
        return _ORDER.index(found.run_type), found.threshold or 0.0, found.samples, entry.name

    return sorted(entries, key=sort_key)


def columns_for(entries: Sequence[ReportRow]) -> dict[str, Column]:
    """Return the columns of a report by heading. Those for targets, costs, graders and samples appear only if used."""
    names = ["run", "type", "τ", "problems", "accuracy", "95 % interval", "acceptance", "acceptance: tokens"]
    names += ["target calls", "draft: kept / discarded", "target: kept / discarded", "seconds: mean / p50 / p95"]
    names += ["wall time", "wasted"]
    columns = {name: COLUMNS[name] for name in names}
    if any(entry.summary.targets for entry in entries):
        columns["calls by target"] = COLUMNS["calls by target"]
    if any(entry.summary.cost for entry in entries):
        columns["cost"] = COLUMNS["cost"]
    if any(entry.summary.grader for entry in entries):
        columns["grader"] = COLUMNS["grader"]
    if any(entry.summary.samples > 1 for entry in entries):
        columns["samples"] = COLUMNS["samples"]
        for k in sorted({k for entry in entries for k in entry.summary.pass_at_k}):
            columns[f"pass@{k}"] = _pass_at(k)
        columns["majority vote"] = COLUMNS["majority vote"]
    return columns


def from_to(interval: Interval | None) -> str:
    """Format an interval of shares."""
    return NOTHING if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Format a share with its interval in brackets."""
    return NOTHING if value is None else f"{percent(value)} ({from_to(interval)})"


def _simulated(entry: ReportRow) -> str:
    """Return the suffix of simulated times."""
    return " (simulated)" if entry.summary.simulated else ""


def markdown(columns: Mapping[str, Column], entries: Iterable[ReportRow]) -> str:
    """Return the table of ``entries`` in Markdown, without a trailing newline."""
    return markdown_table(tuple(columns), cells(columns, entries))


def markdown_table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown, without a trailing newline."""

    def line(row: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"

    return "\n".join([line(heads), "|" + "---|" * len(heads), *map(line, rows)])


def cells(columns: Mapping[str, Column], entries: Iterable[ReportRow]) -> list[list[str]]:
    """Return the texts of a table, row by row."""
    return [[column(entry) for column in columns.values()] for entry in entries]


def fitting(columns: Mapping[str, Column], entries: Sequence[ReportRow], width: int) -> list[dict[str, Column]]:
    """Split ``columns`` into parts that fit into ``width`` characters. Each part starts with the first column."""
    first, *others = columns
    wide = {name: max(map(len, [name, *map(column, entries)])) + _GAP for name, column in columns.items()}
    parts: list[list[str]] = [[first]]
    for name in others:
        if len(parts[-1]) > 1 and sum(wide[other] for other in parts[-1]) + wide[name] >= width:
            parts.append([first])
        parts[-1].append(name)
    return [{name: columns[name] for name in part} for part in parts]


def as_csv(entries: Iterable[ReportRow]) -> str:
    """Return the summaries as CSV: ``run``, ``remark``, and the keys of ``summary.json`` joined with dots.

    The ends of an interval are ``.low`` and ``.high``. Null and missing values are empty.
    """
    return csv_of([{"run": entry.name, "remark": entry.remark, **flat(entry.summary)} for entry in entries])


def csv_of(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV. Null and missing values are empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    # a key that is null in one run and a table in another would add an empty column
    kept = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    text = io.StringIO()
    writer = csv.DictWriter(text, kept, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(record: Record) -> dict[str, object]:
    """Flatten a record: nested keys are joined with dots, and the ends of an interval are ``.low`` and ``.high``."""
    return _flat(msgspec.to_builtins(record, str_keys=True))


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            flat |= _flat(cast("dict[str, Any]", value), f"{name}.")
        elif isinstance(value, (list, tuple)):
            low, high = cast("Interval", value)
            flat |= {f"{name}.low": low, f"{name}.high": high}
        else:
            flat[name] = value
    return flat


def _name(entry: ReportRow) -> str:
    return f"{entry.name} ({entry.remark})" if entry.remark else entry.name


def _problems(entry: ReportRow) -> str:
    found = entry.summary
    return f"{found.problems} ({found.failed} failed)" if found.failed else str(found.problems)


def _kept_and_discarded(role: Author) -> Column:
    def column(entry: ReportRow) -> str:
        tokens = entry.summary.tokens.get(role)
        return NOTHING if tokens is None else f"{tokens.kept} / {tokens.discarded}"

    return column


def _written(entry: ReportRow) -> str:
    tokens = entry.summary.tokens
    roles: tuple[Author, ...] = get_args(Author)
    return " / ".join(str(tokens[role].kept + tokens[role].discarded) if role in tokens else "0" for role in roles)


def _latency(entry: ReportRow) -> str:
    found = entry.summary.latency
    return " / ".join(seconds(value) for value in (found.mean, found.p50, found.p95)) + _simulated(entry)


def _wall(entry: ReportRow) -> str:
    found = entry.summary.wall_seconds
    return NOTHING if found is None else f"{found:.1f} s{_simulated(entry)}"


def _wasted(entry: ReportRow) -> str:
    found = entry.summary.wasted_escalations
    return NOTHING if found.share is None else f"{found.share:.0%} of {found.judged}"


def _by_target(entry: ReportRow) -> str:
    found = entry.summary.targets
    return ", ".join(f"{name} {one.calls.requests}" for name, one in found.items()) or NOTHING


def _pass_at(k: int) -> Column:
    def column(entry: ReportRow) -> str:
        found = entry.summary.pass_at_k.get(k)
        return NOTHING if found is None else with_interval(found.value, found.interval)

    return column


def _majority(entry: ReportRow) -> str:
    found = entry.summary.majority_vote
    return NOTHING if found is None else with_interval(found.value, found.interval)


COLUMNS: dict[str, Column] = {
    "run": _name,
    "type": lambda entry: entry.summary.run_type,
    "τ": lambda entry: NOTHING if entry.summary.threshold is None else f"{entry.summary.threshold:.3g}",
    "problems": _problems,
    "accuracy": lambda entry: percent(entry.summary.accuracy),
    "95 % interval": lambda entry: from_to(entry.summary.accuracy_interval),
    "acceptance": lambda entry: percent(entry.summary.acceptance_rate),
    "acceptance: tokens": lambda entry: percent(entry.summary.acceptance_rate_tokens),
    "target calls": lambda entry: str(entry.summary.target_calls),
    "tokens: draft / target": _written,
    "draft: kept / discarded": _kept_and_discarded("draft"),
    "target: kept / discarded": _kept_and_discarded("target"),
    "seconds: mean / p50 / p95": _latency,
    "wall time": _wall,
    "wasted": _wasted,
    "calls by target": _by_target,
    "cost": lambda entry: NOTHING if entry.summary.cost is None else money(entry.summary.cost.total),
    "grader": lambda entry: entry.summary.grader or NOTHING,
    "samples": lambda entry: str(entry.summary.samples),
    "majority vote": _majority,
}
