"""``arbiter export``: export a run in the formats of other tools."""

from pathlib import Path

from arbiter.cli.console import guarded
from arbiter.cli.endings import say
from arbiter.exports.files import require
from arbiter.log.run import Run
from arbiter.protocols.errors import ConfigError
from arbiter.runs.finding import LOGGED, resolve


def export_command(
    run: Path,
    *,
    html: Path | None = None,
    problem: tuple[str, ...] = (),
    perfetto: Path | None = None,
    otlp: str | None = None,
    otlp_texts: bool = False,
    inspect: Path | None = None,
    parquet: Path | None = None,
    debug: bool = False,
) -> int:
    """Export a run's event log as an HTML page, a Perfetto trace, OpenTelemetry spans, an Inspect log or Parquet files.

    Give one or several of the options. A run that still continues, or was killed, is exported up to the end of its log.
    An export can have only what the log has. The key `log.record` can leave texts out of the log.

    Examples:

        arbiter export runs/first --html first.html
        arbiter export runs/first --html one.html --problem pocket-1-12
        arbiter export runs/first --perfetto first.pftrace
        arbiter export runs/first --otlp http://localhost:4318/v1/traces
        arbiter export runs/first --inspect logs/first.eval
        arbiter export runs/first --parquet tables/first

    Parameters
    ----------
    run
        The run folder that `arbiter bench` wrote, `@last` or the beginning of its name (see `arbiter runs`), or its
        event log.
    html
        Write one HTML file, which needs no network. It has the figures, filters, and each problem's transcript with the
        author, the reason and the time of every step. With more than 500 problems it is a folder, named without the
        suffix `.html`; open the `index.html` in it.
    problem
        Show only the problem with this id in the HTML page; may be given several times. The first time, the
        log is read to make its index; after that, only the lines of the problem are read.
    perfetto
        Write a trace file for the Perfetto UI (ui.perfetto.dev): actors, requests, messages and their causes, on the
        run's clock. Needs the extra `trace`.
    otlp
        Send OpenTelemetry spans to the collector at this URL, by OTLP over HTTP. The spans have no text of questions or
        steps. Needs the extra `otel`.
    otlp_texts
        The spans have the questions, the steps and the answers too. The log must have them.
    inspect
        Write a log for `inspect view`, named `.eval` or `.json`: each problem with its score, its steps and their
        authors. Needs the extra `inspect`.
    parquet
        Write `problems.parquet` and `steps.parquet` into this folder, for analysis: a row per problem or sample, and a
        row per kept step. Needs the extra `parquet`.
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: _export(run, html, problem, perfetto, otlp, otlp_texts, inspect, parquet))


def _export(
    folder: Path,
    html: Path | None,
    problems: tuple[str, ...],
    perfetto: Path | None,
    otlp: str | None,
    otlp_texts: bool,
    inspect: Path | None,
    parquet: Path | None,
) -> int:
    if problems and html is None:
        raise ConfigError("--problem chooses the problems of the HTML page: add --html FILE")
    if otlp_texts and otlp is None:
        raise ConfigError("--otlp-texts is about the spans: add --otlp URL")
    _check_formats(html, perfetto, otlp, inspect, parquet)
    run = Run.open(resolve(folder, LOGGED))
    if html is not None:
        _write_html(run, html, problems)
    if perfetto is not None:
        _write_perfetto(run, perfetto)
    if otlp is not None:
        _send(run, otlp, otlp_texts)
    if inspect is not None:
        _write_eval(run, inspect)
    if parquet is not None:
        _write_parquet(run, parquet)
    if run.torn:
        say("the last line of the log was half written and is left out")
    return 0


def _check_formats(
    html: Path | None, perfetto: Path | None, otlp: str | None, inspect: Path | None, parquet: Path | None
) -> None:
    """Raise ``ConfigError`` without a format, and for one that lacks a package or has a wrong name."""
    if html is None and perfetto is None and otlp is None and inspect is None and parquet is None:
        raise ConfigError(
            "no export format is given: add --html FILE (a page for the browser), --perfetto FILE (a trace for the "
            "Perfetto UI), --otlp URL (OpenTelemetry spans for a collector), --inspect FILE.eval (a log for inspect "
            "view) or --parquet FOLDER (tables for analysis), or several of them"
        )
    if perfetto is not None:
        require("perfetto", "trace", "a Perfetto trace")
    if otlp is not None:
        require("opentelemetry.sdk", "otel", "the export of spans")
        require("opentelemetry.exporter.otlp.proto.http", "otel", "the export of spans")
    if inspect is not None:
        _check_name(inspect)
        require("inspect_ai", "inspect", "an .eval log")
    if parquet is not None:
        require("pyarrow", "parquet", "a Parquet file")


def _write_html(run: Run, path: Path, problems: tuple[str, ...]) -> None:
    from arbiter.exports.html import write_page

    opened = write_page(run, path, problems)
    parts = "" if opened == path else ": keep it in its folder, which has the rest of the page"
    say(f"the page is in {opened}{parts}")


def _write_perfetto(run: Run, path: Path) -> None:
    from arbiter.exports.perfetto import write_trace  # its package is an extra

    write_trace(run, path)
    say(f"the trace is in {path}: open it at https://ui.perfetto.dev")


def _send(run: Run, endpoint: str, texts: bool) -> None:
    from arbiter.exports.otlp import send_spans, without_user  # its packages are an extra

    spans = send_spans(run, endpoint, texts=texts)
    say(f"sent {spans} spans to {without_user(endpoint)}")


def _check_name(path: Path) -> None:
    """Raise ``ConfigError`` for a file name that inspect would not open: it reads the format from the suffix."""
    if path.suffix not in (".eval", ".json"):
        raise ConfigError(f"--inspect {path}: the name must end in .eval or .json, because inspect opens no other log")


def _write_eval(run: Run, path: Path) -> None:
    from arbiter.exports.eval_log import write_eval  # its package is an extra

    write_eval(run, path)
    look = f": inspect view --log-dir {path.parent}" if path.suffix == ".eval" else ""  # it lists few .json files
    say(f"the log is in {path}{look}")


def _write_parquet(run: Run, folder: Path) -> None:
    from arbiter.exports.parquet_tables import PROBLEMS, STEPS, write_tables  # its package is an extra

    write_tables(run, folder)
    say(f"the tables are in {folder / PROBLEMS} and {folder / STEPS}")
