"""``arbiter bench``: many problems at once."""

import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import anyio
import msgspec
from rich.table import Table

from arbiter.bench import bench
from arbiter.commands.overrides import NOT_GIVEN, Overrides
from arbiter.commands.shell import INTERRUPTED, app, guarded, stderr, stdout
from arbiter.config import Config, load_config
from arbiter.progress import LiveWatcher, PlainWatcher
from arbiter.results import Summary


@app.command(name="bench")
def bench_command(
    config: str,
    /,
    *,
    overrides: Overrides = NOT_GIVEN,
    out: Path | None = None,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Solve many problems at once, grade them, and store and print the figures.

    Examples:

        arbiter bench pocket
        arbiter bench pocket --run-type rsd --threshold 0.8
        arbiter bench configs/mine.toml --data problems.jsonl --limit 100 --out runs/first --json

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one (`pocket`).
    out
        The run's folder. By default a new one under `runs/`.
    json
        Print the summary as JSON on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: _bench(overrides.applied_to(load_config(config)), out, json))


def _bench(config: Config, folder: Path | None, as_json: bool) -> int:
    live = LiveWatcher(stderr) if stderr.is_terminal else nullcontext(PlainWatcher(stderr))
    with live as watcher:
        summary, path = anyio.run(partial(bench, config, folder, watcher))
    if as_json:
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    else:
        stdout.print(_figures(summary))
    stderr.print(f"the run is in {path}", highlight=False, soft_wrap=True)
    return INTERRUPTED if summary.interrupted else 0


def _figures(summary: Summary) -> Table:
    """The summary for people."""
    knob = "" if summary.threshold is None else f", τ = {summary.threshold:g}"
    table = Table(title=f"{summary.run_type}{knob}", title_justify="left", show_header=False)
    for name, value in _rows(summary):
        table.add_row(name, value)
    return table


def _rows(summary: Summary) -> list[tuple[str, str]]:
    low, high = summary.accuracy_interval or (0.0, 0.0)
    waste, latency = summary.wasted_escalations, summary.latency
    return [
        ("problems", f"{summary.problems}, of which {summary.graded} graded, {summary.failed} failed"),
        ("accuracy", f"{_percent(summary.accuracy)}  (95 % interval {low:.1%} to {high:.1%})"),
        (
            "acceptance",
            f"{_percent(summary.acceptance_rate)} of steps, {_percent(summary.acceptance_rate_tokens)} of tokens",
        ),
        ("steps", f"{summary.steps}, of which {summary.escalations} escalated"),
        (
            "wasted escalations",
            f"{_percent(waste.share)} of {waste.judged} judged" if waste.judged else "not judged (see --audit)",
        ),
        ("requests", ", ".join(f"{model} {calls.requests}" for model, calls in summary.calls.items())),
        *(
            (f"tokens of {model}", f"{tokens.kept} kept, {tokens.discarded} discarded, {tokens.prompt} read")
            for model, tokens in summary.tokens.items()
        ),
        ("ended by", ", ".join(f"{reason} {count}" for reason, count in summary.finish.items())),
        (
            "seconds a problem",
            f"mean {_seconds(latency.mean)}, p50 {_seconds(latency.p50)}, p95 {_seconds(latency.p95)}",
        ),
        ("wall time", f"{summary.wall_seconds:.1f} s" + (", interrupted" if summary.interrupted else "")),
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
