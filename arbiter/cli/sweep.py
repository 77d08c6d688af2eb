"""``arbiter sweep``: run several run types and thresholds over the same problems."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arbiter.cli.console import guarded, stderr, stdout
from arbiter.cli.endings import FailFast, continuing, failures_of, interrupted, say, stopped
from arbiter.cli.model_options import NO_MODELS, ModelOptions
from arbiter.cli.overrides import NOT_GIVEN, RunOverrides, configured
from arbiter.cli.recovered_gap import show_recovery
from arbiter.cli.terminal import print_table, write_json
from arbiter.cli.worker_options import IN_THIS_PROCESS, WorkerOptions, refuse_workers
from arbiter.config.config import Config
from arbiter.config.run_tables import Level
from arbiter.log.event_lines import shown
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.runs.finding import resolve
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
    thresholds: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    run_types: str | None = None,
    measure: bool = False,
    overrides: RunOverrides = NOT_GIVEN,
    models: ModelOptions = NO_MODELS,
    workers: WorkerOptions = IN_THIS_PROCESS,
    out: Path | None = None,
    resume: Path | None = None,
    retry_failed: bool = False,
    fail_fast: FailFast = None,
    log_level: Level | None = None,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Solve the problems with each run type and threshold, and print accuracy, acceptance rate and latency of each.

    A point is one run type with one threshold. All points run together and share their answers: equal requests are sent
    once. Each point has its own run folder, `OUT/TYPE-THRESHOLD`, which `report`, `show`, `diff` and `replay` can read.
    The times of a point are simulated from its requests at the configured concurrency, and marked as simulated. With
    `--measure` each point runs alone and is measured. With the run types `draft` and `target` among the points, the
    sweep also has CPT, PGR and APGR (docs/reference/gap-recovery.md).

    To continue an interrupted sweep, use `--resume`, or repeat the command with the same `--out`. Repeated with other
    thresholds, the command adds points, and requests only answers that are not known yet (docs/how-to/sweep.md). A
    sweep refuses `--run-type` and `--threshold`: use `--run-types` and `--thresholds`. It also refuses `--workers` and
    `--ray`: its points share their answers within one process.

    Examples:

        arbiter sweep pocket --thresholds 0:1:0.1
        arbiter sweep pocket --run-types draft,rsd --thresholds 0.2,0.5 --out runs/curve
        arbiter sweep pocket --run-types oracle,rsd --thresholds oracle=-0.2:0.2:0.05
        arbiter sweep pocket --thresholds 0:1:0.25 --measure
        arbiter sweep --resume runs/curve

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration (`pocket`). Optional with `--draft` and
        `--target`, which name the models instead, and with `--resume`: the default is then the configuration that is
        stored in the sweep folder.
    thresholds
        The thresholds, as `START:END:STEP` (END included) or as a list such as `0.2,0.5`. They apply to each run type
        that has a threshold, and must be from 0 to 1, for `oracle` from -1 to 1. `TYPE=…` gives the thresholds of one
        run type only. Repeat the option to combine both forms. Default: the configured threshold of each run type.
    run_types
        The run types, separated by commas, for example `draft,router,target`. A run type without a threshold is one
        point. Default: the configured run type.
    measure
        Run the points one after the other, without shared answers, so that latencies are measured, not simulated.
    out
        The sweep folder. Default: a new folder under `runs/`. A folder that holds the same sweep is continued.
    resume
        The sweep folder to continue.
    retry_failed
        When continuing a sweep, solve its failed problems again, from their first step.
    fail_fast
        Stop early if the first 10 problems to end have all failed for one cause, for example a server that is down.
        Default: on for a new sweep, off with `--resume`.
    log_level
        Print the events of all points on standard error when they are logged: `off`, `debug`, `info` or `warning`, as
        for `arbiter bench`.
    json
        Print only the figures of `sweep.json` on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        refuse_workers(workers)
        resumed = None if resume is None else resolve(resume, ("sweep",))
        named = configured(config, out, resumed, _check, models, overrides)
        chosen = _load(named, overrides, log_level)
        has_points = resumed is None or run_types is not None or bool(thresholds)
        types = run_types_of(chosen.run_type if run_types is None else run_types)
        before = None if resumed is None else earlier(resumed)
        measured = measure if before is None else measure or before.measured
        points = plan(chosen, types, thresholds) if has_points else ()
        request = SweepRequest(chosen, points, measured, *failures_of(retry_failed, fail_fast, resumed))
        return _sweep(request, out or resumed, json)

    return guarded(debug, action, continuing("sweep", out, resume, ("sweep",)))


def _load(name: str | dict[str, Any], overrides: RunOverrides, log_level: Level | None) -> Config:
    """Return the configuration. Raises ``ConfigError`` for options of a single run."""
    if overrides.run_type is not None or overrides.threshold is not None:
        raise ConfigError("a sweep has no --run-type and --threshold: use --run-types and --thresholds")
    return overrides.load(name, log_level)


def _check(folder: Path) -> None:
    """Raise ``RunError`` if ``folder`` holds no sweep."""
    if not (folder / "sweep.json").is_file():
        raise RunError(f"{str(folder)!r} holds no sweep: it has no sweep.json; give the folder of a sweep")


def _sweep(request: SweepRequest, folder: Path | None, as_json: bool) -> int:
    with watcher_for(stderr) as watcher:
        found, path = sweep(request, folder, watcher, shown(request.config.log.level, say))
    if as_json:
        write_json(found)
    else:
        _show(found)
    say(f"the sweep is in {path}, one run folder per point")
    say(f"to compare its points, with plots: arbiter report {path} --out {path / 'report'}")
    if found.stopped is not None:
        return stopped(found.stopped, "sweep", path)
    return interrupted("sweep", path) if found.interrupted else 0


def _show(found: SweepResult) -> None:
    """Print the table in parts that fit the terminal, and the number of requests."""
    entries = [ReportRow(row.point, row.summary) for row in found.points if row.summary is not None]
    for part in fitting(_columns(found), entries, stdout.width):
        table = Table(box=SIMPLE_HEAD)
        for heading in part:
            table.add_column(
                heading, justify="left" if heading == "point" else "right", overflow="fold", no_wrap=heading == "point"
            )
        for row in cells(part, entries):
            table.add_row(*map(escape, row))
        print_table(stdout, table)
    if not found.measured:
        note = "seconds are simulated from the requests of each problem, at the configured concurrency"
        stdout.print(f"{note}; --measure measures them", highlight=False, soft_wrap=True)
    show_recovery(found.recovery)
    stdout.print(_requests(found), highlight=False, soft_wrap=True)


def _columns(found: SweepResult) -> dict[str, Column]:
    counts = {row.point: row.requests for row in found.points}
    return {
        "point": lambda entry: entry.name,
        **{name: COLUMNS[name] for name in _FIGURES},
        "requests needed": lambda entry: str(counts[entry.name].needed.requests),
        "requests sent": lambda entry: str(counts[entry.name].made.requests),
    }


def _requests(found: SweepResult) -> str:
    """Return the last line: requests sent, requests needed, and those of the most expensive point."""
    needed, made, most = found.needed.requests, found.made.requests, found.most_expensive
    if most is None:
        return "no request was answered"
    return f"requests: {made} sent, {needed} needed ({made / needed:.1%}); {_against(made, most)}"


def _against(made: int, most: SweepRow) -> str:
    needed = most.requests.needed.requests
    return f"{made / needed:.2f} times as many as the most expensive point needs, {most.point} ({needed})"
