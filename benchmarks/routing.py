"""Compare a run with the draft alone and the target alone, in rounds, with 64 problems and with one problem in flight.

    python benchmarks/routing.py [pocket] [--problems 1000] [--single 100] [--rounds 5] [--json]

All runs are in this process, each with newly loaded models. A round has one run of each kind, and the rounds begin with
another kind each time. Seconds are medians of the rounds. A ratio is that of the target alone to the run in the same
round, and the median of the rounds counts. So other work on the machine changes ratios little. Wall seconds are without
loading the models. CPU seconds are those of this process. Accuracies and tokens are those of the last round.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from fleets import POCKET, say, solved

from arbiter.config.config import Config, load_config, override
from arbiter.runs.baseline_runs import compared_run
from arbiter.runs.baselines import baselines_of
from arbiter.runs.intervals import Interval
from arbiter.runs.reports.numbers import NOTHING, percent
from arbiter.runs.reports.short_form import accuracies_agree
from arbiter.runs.reports.tables import with_interval
from arbiter.runs.results import Summary, written_tokens

IN_FLIGHT = 64
DRAFT, TARGET = "draft alone", "target alone"


class Row(msgspec.Struct, frozen=True):
    """One kind of run with one number of problems in flight.

    ``wall`` and ``cpu`` are seconds; their ratios are those of the target alone to this run. ``token_share`` is the
    share of the tokens of the target alone (None: it wrote none). ``agrees`` says whether the accuracy and that of the
    target alone lie within each other's 95 % intervals.
    """

    name: str
    in_flight: int
    problems: int
    accuracy: float | None
    interval: Interval | None
    agrees: bool | None
    token_share: float | None
    wall: float
    cpu: float
    wall_ratio: float
    cpu_ratio: float


def main(
    config: str = POCKET,
    *,
    problems: int = 1000,
    single: int = 100,
    rounds: int = 5,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Run the comparison, and print the table.

    Parameters
    ----------
    config
        The configuration. Its run type may be neither `draft`, `target` nor `generate`.
    problems
        The number of problems with 64 in flight.
    single
        The number of problems with one in flight.
    rounds
        The number of rounds.
    """
    chosen = load_config(config)
    rows = [*measure(chosen, IN_FLIGHT, problems, rounds), *measure(chosen, 1, single, rounds)]
    sys.stdout.write(f"{msgspec.json.encode(rows).decode()}\n" if as_json else table(rows))


def measure(config: Config, in_flight: int, problems: int, rounds: int) -> list[Row]:
    """Return the rows of ``config`` and its baselines with ``in_flight`` problems at a time."""
    config = override(config, {"limits": {"problems": in_flight}, "data": {"limit": problems}}, "command line")
    baselines = baselines_of(config)
    kinds = {DRAFT: baselines["draft"], config.run_type: config, TARGET: baselines["target"]}
    found: dict[str, list[Summary]] = {name: [] for name in kinds}
    names = list(kinds)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            say(f"{in_flight} in flight, round {number + 1} of {rounds}: {name}")
            found[name].append(run(kinds[name]))
    return [row(name, in_flight, found) for name in names]


def run(config: Config) -> Summary:
    """Run a configuration in an event loop of its own, and return its summary."""
    with tempfile.TemporaryDirectory() as folder:
        return anyio.run(partial(solved, config, Path(folder) / "run")).summary


def row(name: str, in_flight: int, found: Mapping[str, Sequence[Summary]]) -> Row:
    """Return the row of one kind of run from the summaries of all kinds, by round."""
    runs, targets = found[name], found[TARGET]
    last, target = runs[-1], targets[-1]
    walls, cpus = [one.wall_seconds or 0.0 for one in runs], [one.cpu_seconds or 0.0 for one in runs]
    of_target = written_tokens(target, "target")
    return Row(
        name=name,
        in_flight=in_flight,
        problems=last.problems,
        accuracy=last.accuracy,
        interval=last.accuracy_interval,
        agrees=accuracies_agree(compared_run(last, Path()), compared_run(target, Path())),
        token_share=written_tokens(last, "target") / of_target if of_target else None,
        wall=median(walls),
        cpu=median(cpus),
        wall_ratio=median((one.wall_seconds or 0.0) / wall for one, wall in zip(targets, walls, strict=True)),
        cpu_ratio=median((one.cpu_seconds or 0.0) / cpu for one, cpu in zip(targets, cpus, strict=True)),
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    headings = [
        "in flight",
        "problems",
        "run",
        "accuracy (95 % interval)",
        "agrees with the target",
        "target tokens",
        "wall s",
        "CPU s",
        "target alone / run: wall",
        "CPU",
    ]
    lines = [headings, ["---"] * len(headings), *map(_cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Row) -> list[str]:
    return [
        str(row.in_flight),
        f"{row.problems:,}",
        row.name,
        with_interval(row.accuracy, row.interval),
        {True: "yes", False: "no", None: NOTHING}[row.agrees],
        percent(row.token_share),
        f"{row.wall:.1f}",
        f"{row.cpu:.1f}",
        f"{row.wall_ratio:.2f}",
        f"{row.cpu_ratio:.2f}",
    ]


if __name__ == "__main__":
    cyclopts.run(main)
