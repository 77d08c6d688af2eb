"""``arbiter sweep``: a whole curve of run types and thresholds."""

import sys
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arbiter.cli.console import INTERRUPTED, guarded, stderr, stdout
from arbiter.cli.overrides import NOT_GIVEN, RunOverrides, configured
from arbiter.config.config import Config
from arbiter.config.run_tables import Level
from arbiter.log.event_lines import shown
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports.tables import COLUMNS, Column, ReportRow, cells, fitting
from arbiter.sweep.points import plan, run_types_of
from arbiter.sweep.sweep import SweepRequest, sweep
from arbiter.sweep.sweep_results import SweepResult, SweepRow, earlier

_FIGURES = (
    "accuracy",
    "95 % interval",
    "acceptance",
    "target calls",
    "tokens: draft / target",
    "seconds: mean / p50 / p95",
)


def sweep_command(
    config: str | None = None,
    /,
    *,
    thresholds: tuple[str, ...] = (),
    run_types: str | None = None,
    measure: bool = False,
    overrides: RunOverrides = NOT_GIVEN,
    out: Path | None = None,
    resume: Path | None = None,
    retry_failed: bool = False,
    log_level: Level | None = None,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Run every threshold of every run type, and print accuracy, acceptance and latency of each.

    The points run together and share their answers: a request that one of them has made is not made again by another.
    Each is a run folder of its own, `OUT/TYPE-THRESHOLD`, that `report`, `show`, `diff` and `replay` read. Their times
    are simulated from those of the requests, at the configured concurrency, and marked so; `--measure` runs each point
    alone.

    A sweep that was interrupted or killed is continued by `--resume`, or by the same command with the same `--out`;
    with other thresholds that command adds points, which ask only for what is not known yet (docs/sweep.md).

    Examples:

        arbiter sweep pocket --thresholds 0:1:0.1
        arbiter sweep pocket --run-types draft,router,rsd,target --thresholds 0.2,0.5,0.8 --out runs/curve
        arbiter sweep pocket --run-types router,oracle --thresholds 0:1:0.1 --thresholds oracle=-0.2:0.2:0.05
        arbiter sweep pocket --thresholds 0:1:0.25 --measure
        arbiter sweep --resume runs/curve

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one (`pocket`). With `--resume` it may be left out: it is then
        the sweep's own.
    thresholds
        `START:END:STEP`, the end among them, or a list, `0.2,0.5`; on the scale of each run type that has a threshold
        (-1 to 1 for `oracle`, 0 to 1 for the others). `TYPE=…` is for one run type and can be given beside it. Left
        out: the configured threshold.
    run_types
        A list with commas. By default the configured one. A run type without a threshold is one point.
    measure
        Run each point alone, one after the other, without shared answers: for latencies that were measured.
    out
        The sweep's folder. By default a new one under `runs/`. If it holds this very sweep, it is continued.
    resume
        The folder of a sweep to continue.
    retry_failed
        Of a sweep that is continued, solve the problems that failed once more, from their beginning.
    log_level
        Show the events of all points while they happen, on standard error, as `arbiter bench` does.
    json
        Print the figures of `sweep.json` on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        chosen = _load(configured(config, out, resume, _check), overrides, log_level)
        asked = resume is None or run_types is not None or bool(thresholds)
        types = run_types_of(chosen.run_type if run_types is None else run_types)
        before = None if resume is None else earlier(resume)
        measured = measure if before is None else measure or before.measured
        request = SweepRequest(chosen, plan(chosen, types, thresholds) if asked else (), measured, retry_failed)
        return _sweep(request, out or resume, json)

    return guarded(debug, action)


def _load(name: str, overrides: RunOverrides, log_level: Level | None) -> Config:
    """Raises ``ConfigError`` for those of a single run."""
    if overrides.run_type is not None or overrides.threshold is not None:
        raise ConfigError("a sweep takes --run-types and --thresholds: several, or one of each")
    return overrides.load(name, log_level)


def _check(folder: Path) -> None:
    """Raises ``RunError`` if ``folder`` holds no sweep."""
    if not (folder / "sweep.json").is_file():
        raise RunError(f"{str(folder)!r} holds no sweep: there is no sweep.json in it")


def _sweep(request: SweepRequest, folder: Path | None, as_json: bool) -> int:
    with watcher_for(stderr) as watcher:
        found, path = sweep(request, folder, watcher, shown(request.config.log.level, _tell))
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        _show(found)
    _tell(f"the sweep is in {path}, a run for each point")
    if not found.interrupted:
        return 0
    _tell(f"to go on with it: arbiter sweep --resume {path}")
    return INTERRUPTED


def _tell(line: str) -> None:
    stderr.print(line, highlight=False, markup=False, soft_wrap=True)


def _show(found: SweepResult) -> None:
    """The table in parts that fit the terminal, and what it cost."""
    entries = [ReportRow(row.point, row.summary) for row in found.points if row.summary is not None]
    for part in fitting(_columns(found), entries, stdout.width):
        table = Table(box=SIMPLE_HEAD)
        for heading in part:
            table.add_column(heading, justify="left" if heading == "point" else "right", overflow="fold")
        for row in cells(part, entries):
            table.add_row(*map(escape, row))
        stdout.print(table)
    if not found.measured:
        told = "seconds a problem are simulated, from those of its requests at the configured concurrency"
        stdout.print(f"{told}; --measure measures them", highlight=False, soft_wrap=True)
    stdout.print(_requests(found), highlight=False, soft_wrap=True)


def _columns(found: SweepResult) -> dict[str, Column]:
    counts = {row.point: row.requests for row in found.points}
    return {
        "point": lambda entry: entry.name,
        **{name: COLUMNS[name] for name in _FIGURES},
        "needed": lambda entry: str(counts[entry.name].needed.requests),
        "made": lambda entry: str(counts[entry.name].made.requests),
    }


def _requests(found: SweepResult) -> str:
    """The last line: requests made, needed, and those of the point that needs most."""
    needed, made, most = found.needed.requests, found.made.requests, found.most_expensive
    if most is None:
        return "no request was answered"
    return f"requests: {made} made, {needed} needed ({made / needed:.1%}); {_against(made, most)}"


def _against(made: int, most: SweepRow) -> str:
    needed = most.requests.needed.requests
    return f"{made / needed:.2f} times those of the most expensive point, {most.point} ({needed})"
