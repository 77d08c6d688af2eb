"""``arbiter runs``: list runs."""

from collections.abc import Callable
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arbiter.cli.console import guarded, print_error, stderr, stdout
from arbiter.cli.terminal import print_table, write_json, write_text
from arbiter.runs.finding import RUNS
from arbiter.runs.listing import ListedRun, State, list_runs
from arbiter.runs.reports.numbers import NOTHING, percent

_COLOURS: dict[State, str] = {
    "running": "cyan",
    "interrupted": "yellow",
    "stopped early": "yellow",
    "unfinished": "yellow",
    "damaged": "red",
}
_UNLIMITED = 1000  # characters: no table is as wide


def runs_command(*folders: Path, paths: bool = False, json: bool = False, debug: bool = False) -> int:
    """List runs with their configuration, figures and state, the newest first.

    Each line is a run (`arbiter bench`) or one of its baselines, a sweep, a collection, a reproduction, or the log of
    calls that an endpoint keeps. The state is `finished`, `interrupted`, `stopped early`, `running`, `unfinished` if
    the run was killed, or `damaged`. `arbiter show FOLDER --verify` checks a run for further damage.

    Every command that takes a run's folder also takes `@last`, the newest run of the kind that the command needs, and
    the beginning of a folder's name if it fits one run only.

    Examples:

        arbiter runs
        arbiter runs runs/curve
        arbiter runs --json | jq -r 'select(.state == "interrupted") | .run'
        arbiter report $(arbiter runs --paths)
        arbiter show @last

    Parameters
    ----------
    folders
        The folders to search, with the folders below them. The points of a sweep are listed if its folder is given.
        Default: `runs`.
    paths
        Print only the folders of the runs, one per line.
    json
        Print only JSON lines on standard output, one per run.
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: _list(folders, paths, json))


def _list(folders: tuple[Path, ...], paths: bool, as_json: bool) -> int:
    given = folders or ((RUNS,) if RUNS.is_dir() else ())
    found = list_runs(given)
    if as_json:
        for run in found:
            write_json(run)
    elif paths:
        write_text("".join(f"{run.run}\n" for run in found))
    elif found:
        _show(found)
    if not found:
        where = ", ".join(map(str, folders)) or f"{RUNS}/"
        stderr.print(f"no runs in {where}; arbiter bench pocket makes one", highlight=False, markup=False)
    return 0


def _show(found: list[ListedRun]) -> None:
    """Print a line for each run, or two if a line does not fit the terminal. A pipe, as for grep, has one."""
    table = _table(("started", "configuration", "run type", "accuracy", "accepted", "state", "folder"), found, _line)
    needed = stdout.measure(table, options=stdout.options.update(width=_UNLIMITED)).maximum
    if stdout.is_terminal and needed > stdout.width:
        headings = ("folder\nconfiguration", "started\nrun type", "accuracy\naccepted", "state")
        table = _table(headings, found, _two_lines)
    print_table(stdout, table)
    for run in found:
        if run.error is not None:
            print_error(run.error)


def _table(headings: tuple[str, ...], runs: list[ListedRun], cells: Callable[[ListedRun], tuple[str, ...]]) -> Table:
    is_narrow = "folder" not in headings
    table = Table(box=None if is_narrow else SIMPLE_HEAD, pad_edge=not is_narrow, padding=(0, 2 - is_narrow, 0, 0))
    for heading in headings:
        justify = "right" if heading.startswith("acc") else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=not is_narrow)
    for run in runs:
        table.add_row(*cells(run))
    if is_narrow:
        table.columns[0].min_width = max(len(run.run) for run in runs)  # a folder stays in one line, to be copied
    return table


def _line(run: ListedRun) -> tuple[str, ...]:
    figures = percent(run.accuracy), percent(run.acceptance_rate)
    names = escape(_configuration(run)), escape(_run_type(run))
    return _started(run), *names, *figures, _state(run), escape(run.run)


def _two_lines(run: ListedRun) -> tuple[str, ...]:
    return (
        f"{escape(run.run)}\n{escape(_configuration(run))}",
        f"{_started(run)}\n{escape(_run_type(run))}",
        f"{percent(run.accuracy)}\n{percent(run.acceptance_rate)}",
        _state(run),
    )


def _started(run: ListedRun) -> str:
    return f"{run.started.astimezone():%Y-%m-%d %H:%M}"


def _state(run: ListedRun) -> str:
    colour = _COLOURS.get(run.state)
    return f"[{colour}]{run.state}[/{colour}]" if colour else run.state


def _configuration(run: ListedRun) -> str:
    """Return the models and the data, each as the last part of its name."""
    models = " + ".join(dict.fromkeys(name.rstrip("/").rpartition("/")[2] for name in run.models.values()))
    return ", ".join(filter(None, (models, run.data and run.data.rpartition("/")[2]))) or NOTHING


def _run_type(run: ListedRun) -> str:
    """Return what was run: a run type with its threshold, or what the folder holds besides."""
    types = ", ".join(run.run_types)
    if run.kind == "run":
        return f"{types} {run.threshold:g}" if run.threshold is not None else types
    return {
        "baseline": f"{types} (baseline)",
        "calls": "calls of an endpoint or a program",
        "collection": "collection",
        "sweep": "sweep" if run.points is None else f"sweep of {run.points} points: {types}",
        "reproduction": "reproduction",
    }[run.kind]
