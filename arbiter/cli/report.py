"""``arbiter report``: compare runs side by side."""

from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arbiter.cli.console import guarded, stderr, stdout
from arbiter.cli.recovered_gap import show_recovery
from arbiter.cli.terminal import print_table, write_json, write_text
from arbiter.config.serve_tables import SloTable
from arbiter.protocols.errors import ConfigError
from arbiter.runs.finding import GRADED, resolve
from arbiter.runs.reports.report import Report, report_on, write_report
from arbiter.runs.reports.stream_figures import HEADS, stream_rows
from arbiter.runs.reports.tables import cells, columns_for, fitting


def report_command(
    *runs: Path,
    out: Path | None = None,
    times: bool = False,
    slo: list[str] | None = None,
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
        arbiter report runs/router --slo first_token=2 --slo latency=20

    Parameters
    ----------
    runs
        One or several run folders that `arbiter bench` wrote, or the folders of sweeps. `@last` is the newest, and the
        beginning of a name is enough (see `arbiter runs`). Of several folders, those that hold no run are passed over.
    out
        A folder for `report.md`, `report.csv`, and plots of accuracy by acceptance rate and by the
        target's tokens, latency, tokens and cost. Plots need the extra `plot`. Default: no files are written.
    times
        Also report the times of the answers as a client would see them if they were streamed by steps: to the first
        token, to the first output token after a thought, between tokens, and to the last one. They come from the logs.
    slo
        A bound in seconds on one of these times, as `NAME=SECONDS`, with the names of the table `[serve.slo]`:
        `first_token`, `first_output_token`, `inter_token`, `latency`. The option can be given several times. The report
        then has the answers that keep all bounds, and their number per second (goodput).
    json
        Print only the report, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: _report(runs, out, _bounds(slo or []) if times or slo else None, json))


def _bounds(given: list[str]) -> SloTable:
    """Return the stated bounds. Raises ``ConfigError`` if one is not ``NAME=SECONDS``."""
    bounds = {name: bound for name, _, bound in (one.partition("=") for one in given)}
    try:
        return msgspec.convert(bounds, SloTable, strict=False)
    except msgspec.ValidationError as error:
        names = ", ".join(SloTable.__struct_fields__)
        raise ConfigError(f"--slo {' '.join(given)}: {error}; write NAME=SECONDS, with a name of {names}") from error


def _report(folders: tuple[Path, ...], out: Path | None, slo: SloTable | None, as_json: bool) -> int:
    report = report_on([resolve(folder, (*GRADED, "sweep")) for folder in folders], slo)
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
    if report.times:
        table = Table(*HEADS, box=SIMPLE_HEAD, title="times of streamed answers: p50 / p95 s", title_justify="left")
        for row in stream_rows(report.times):
            table.add_row(*map(escape, row))
        print_table(stdout, table)
    for warning in report.warnings:
        stdout.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False)
