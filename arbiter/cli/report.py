"""``arbiter report``: compare runs side by side."""

from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arbiter.cli.console import guarded, stderr, stdout
from arbiter.cli.recovered_gap import show_recovery
from arbiter.cli.terminal import print_table, write_json, write_text
from arbiter.runs.finding import GRADED, resolve
from arbiter.runs.reports.report import Report, report_on, write_report
from arbiter.runs.reports.tables import cells, columns_for, fitting


def report_command(
    *runs: Path,
    out: Path | None = None,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Compare runs in a table, and with `--out` also in files and plots.

    Warnings below the table name what limits the comparison: different problems or seeds, failures, or a run that ended
    early. A run that still continues, or was killed, is reported from what it has stored.

    If the draft alone and the target alone are among the runs, the report also has how much of the gap between them
    each run recovers (PGR), and for each run type CPT and APGR (docs/reference/gap-recovery.md).

    Examples:

        arbiter report runs/first
        arbiter report runs/sweep-* --out report
        arbiter report runs/rsd runs/router --json

    Parameters
    ----------
    runs
        One or several run folders that `arbiter bench` wrote, or the folders of sweeps. `@last` is the newest, and the
        beginning of a name is enough (see `arbiter runs`). Of several folders, those that hold no run are passed over.
    out
        A folder for `report.md`, `report.csv`, and plots of accuracy by acceptance rate and by the
        target's tokens, latency, tokens and cost. Plots need the extra `plot`. Default: no files are written.
    json
        Print only the report, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: _report(runs, out, json))


def _report(folders: tuple[Path, ...], out: Path | None, as_json: bool) -> int:
    report = report_on([resolve(folder, (*GRADED, "sweep")) for folder in folders])
    if report.passed_over:
        names = ", ".join(map(str, report.passed_over))
        stderr.print(f"passed over, because they hold no run: {escape(names)}", highlight=False, soft_wrap=True)
    if as_json:
        write_json(msgspec.Raw(report.to_json()))
    elif stdout.is_terminal:
        _show(report)
    else:
        write_text(report.to_markdown())
    if out is not None:
        no_plots = write_report(report, out)
        if no_plots:
            stderr.print(f"[yellow]no plots:[/yellow] {escape(no_plots)}", highlight=False, soft_wrap=True)
        stderr.print(f"the report is in {escape(str(out))}", highlight=False, soft_wrap=True)
    return 0


def _show(report: Report) -> None:
    """Print the table for a terminal. Columns that do not fit follow in another table below."""
    columns = columns_for(report.entries)
    for part in fitting(columns, report.entries, stdout.width):
        table = Table(box=SIMPLE_HEAD)
        for heading in part:
            table.add_column(heading, overflow="fold", no_wrap=heading == "run")
        for row in cells(part, report.entries):
            table.add_row(*map(escape, row))
        print_table(stdout, table)
    show_recovery(report.recovery)
    for warning in report.warnings:
        stdout.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False)
