"""Measure how far the target agrees with rejected drafts, on the pocket models.

    python benchmarks/matches.py [--limit 1000] [--seed 7] [--json]

Each rejected draft is shown to the target. The target agrees with its tokens up to the first one that it would not have
written itself. The deciles of these shares over the router's rejections are ``AGREEING`` in
``arbiter/simulation/synthetic_workload.py``; simulated targets draw from them.
"""

import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console

from arbiter.config.config import load_config, override
from arbiter.config.run_tables import RunType
from arbiter.runs.bench import bench
from arbiter.runs.folder import read_records
from arbiter.runs.intervals import quantile
from arbiter.runs.progress import PlainWatcher
from arbiter.runs.results import Result

RUN_TYPES: tuple[RunType, ...] = ("router", "rsd")


class Matches(msgspec.Struct, frozen=True):
    """The agreement over a number of ``rejected`` drafts.

    ``same`` is the share of drafts whose text the target writes too. ``tokens`` is the share of all their tokens that
    the target agrees with. ``mean`` and ``deciles`` are over the shares of the individual drafts.
    """

    run_type: RunType
    rejected: int
    same: float
    tokens: float
    mean: float
    deciles: tuple[float, ...]


def main(*, limit: int = 1000, seed: int = 7, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Run ``limit`` pocket problems of ``seed`` through ``router`` and ``rsd`` at their default thresholds."""
    measured = [matches for run_type in RUN_TYPES if (matches := _measured(run_type, limit, seed))]
    sys.stdout.write(msgspec.json.encode(measured).decode() if as_json else _table(measured))
    sys.stdout.write("\n")


def _measured(run_type: RunType, limit: int, seed: int) -> Matches | None:
    changes = {"run_type": run_type, "verify": "on", "data": {"source": f"pocket:{seed}", "limit": limit}}
    config = override(load_config("pocket"), changes, "command line")
    with tempfile.TemporaryDirectory() as folder:
        _, path = anyio.run(partial(bench, config, Path(folder) / "run", PlainWatcher(Console(stderr=True))))
        return matches_of(run_type, read_records(path / "results.jsonl", Result))


def matches_of(run_type: RunType, results: Iterable[Result]) -> Matches | None:
    """Return the agreement over the rejected drafts of ``results``; None if no rejected draft was shown."""
    rejected = [step for result in results for step in result.solution.steps if step.verdict == "escalate"]
    agreements = [
        one.prefix_match for step in rejected for one in step.targets if one.prefix_match and one.prefix_match.proposed
    ]
    if not agreements:
        return None
    shares = [one.matched / one.proposed for one in agreements]
    return Matches(
        run_type=run_type,
        rejected=len(rejected),
        same=round(fmean(step.draft is not None and step.kept.text == step.draft.text for step in rejected), 4),
        tokens=round(sum(one.matched for one in agreements) / sum(one.proposed for one in agreements), 4),
        mean=round(fmean(shares), 4),
        deciles=tuple(round(quantile(shares, tenth / 10) or 0.0, 2) for tenth in range(11)),
    )


def _table(measured: list[Matches]) -> str:
    lines = [
        "| run type | rejected drafts | drafts equal to the target's step | tokens agreed on | mean share | deciles |",
        "|---|---|---|---|---|---|",
    ]
    for one in measured:
        deciles = ", ".join(f"{share:g}" for share in one.deciles)
        start = f"| {one.run_type} | {one.rejected} | {one.same:.1%} | {one.tokens:.1%} "
        lines.append(f"{start}| {one.mean:.3f} | {deciles} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cyclopts.run(main)
