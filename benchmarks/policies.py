"""All policies on the same pocket problems, in one run: accuracy against acceptance, as a table.

    python benchmarks/policies.py [--limit 400] [--seed 1] [--audit 0.2] [--json]

``random`` is run at two escalation rates that are not chosen by hand: those of ``router`` and of ``rsd`` in
this very run, so that each can be compared with chance at its own acceptance. Accuracy differences are paired
by problem; their intervals come from a bootstrap over problems.
"""

import random
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console

from arbiter.bench import bench
from arbiter.config import Config, load_config, override
from arbiter.estimates import quantile
from arbiter.progress import PlainWatcher
from arbiter.reports.tables import COLUMNS, Entry, markdown
from arbiter.results import Result, Summary
from arbiter.run_tables import RunType
from arbiter.runs import read_records

RESAMPLES = 2000


class Point(msgspec.Struct, frozen=True):
    """One run of the table, and which of its problems it got right."""

    name: str
    summary: Summary
    right: dict[str, bool]


class Difference(msgspec.Struct, frozen=True):
    """Accuracy of ``better`` minus that of ``than`` on the same problems, with its 95 % bootstrap interval."""

    better: str
    than: str
    difference: float
    interval: tuple[float, float]


def main(
    limit: int = 400,
    seed: int = 1,
    audit: float = 0.0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Run the table over ``limit`` pocket problems of ``seed``; ``audit`` is the share of escalations to judge."""
    config = override(
        load_config("pocket"), {"data": {"source": f"pocket:{seed}", "limit": limit}, "audit": audit}, "command line"
    )
    points = {name: _point(name, config, name) for name in ("draft", "rsd", "router", "oracle", "target")}
    for name in ("router", "rsd"):
        escalated = 1 - (points[name].summary.acceptance_rate or 0.0)
        label = f"random at {name}'s rate"
        points[label] = _point(label, config, "random", escalated)
    differences = [
        _difference(points["router"], points["random at router's rate"]),
        _difference(points["rsd"], points["random at rsd's rate"]),
        _difference(points["router"], points["draft"]),
        _difference(points["oracle"], points["router"]),
    ]
    if as_json:
        found = {"points": {name: point.summary for name, point in points.items()}, "differences": differences}
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        sys.stdout.write(_table(points.values()) + "\n\n" + _differences(differences) + "\n")


def _point(name: str, config: Config, run_type: RunType, threshold: float | None = None) -> Point:
    chosen = override(config, {"run_type": run_type}, "command line")
    if threshold is not None:
        chosen = chosen.with_threshold(threshold)
    with tempfile.TemporaryDirectory() as folder:
        watcher = PlainWatcher(Console(stderr=True))
        summary, path = anyio.run(partial(bench, chosen, Path(folder) / "run", watcher))
        right = {
            result.solution.problem: result.grade.right is True
            for result in read_records(path / "results.jsonl", Result)
        }
    return Point(name, summary, right)


def _difference(better: Point, than: Point) -> Difference:
    """Paired by problem, so that what is hard for everyone cancels out."""
    gains = [better.right[problem] - than.right[problem] for problem in sorted(better.right)]
    rng = random.Random(0)
    means = [sum(rng.choices(gains, k=len(gains))) / len(gains) for _ in range(RESAMPLES)]
    low, high = quantile(means, 0.025) or 0.0, quantile(means, 0.975) or 0.0
    return Difference(better.name, than.name, sum(gains) / len(gains), (low, high))


def _table(points: Iterable[Point]) -> str:
    names = ("run", "τ", "accuracy", "95 % interval", "acceptance", "target calls", "tokens: draft / target", "wasted")
    entries = [Entry(point.name, point.summary) for point in points]
    return markdown({name: COLUMNS[name] for name in names}, entries)


def _differences(differences: Iterable[Difference]) -> str:
    lines = ["| on the same problems | difference in accuracy | 95 % interval |", "|---|---|---|"]
    for found in differences:
        low, high = found.interval
        lines.append(f"| {found.better} − {found.than} | {found.difference:+.1%} | {low:+.1%} to {high:+.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cyclopts.run(main)
