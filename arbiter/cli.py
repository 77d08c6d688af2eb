"""The command line: ``arbiter COMMAND``. Errors are one line on standard error; the exit status says the kind."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arbiter.bench import bench
from arbiter.config import Config, RunType, load_config, override
from arbiter.progress import LiveWatcher, PlainWatcher
from arbiter.results import Summary
from protocols.errors import ArbiterError

FAILED, INTERRUPTED = 2, 130

app = cyclopts.App(
    name="arbiter",
    help_format="markdown",
    version=version("arbiter-reasoning"),
    default_parameter=Parameter(negative=()),
    help="Step-level speculative reasoning: a small model drafts, the big one is called only where it helps.",
)
stdout = Console(emoji=False)
stderr = Console(stderr=True, emoji=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Options that take the place of the configuration's keys."""

    run_type: RunType | None = None
    """Who is asked, and which step is kept: `router` escalates where the learned router expects the target to write a
    better step, `rsd` where the draft's process reward is low, `random` by chance; `oracle` and `generate` ask both
    models at every step; `draft` and `target` are one model alone."""

    threshold: float | None = None
    """The knob of the run type, on its own scale: a lower one escalates more for `router` and `oracle`, less for
    `rsd`; for `random` it is the probability of escalating."""

    data: str | None = None
    """`pocket`, `pocket:SEED`, or a JSONL file with the fields `question` and `answer`."""

    limit: int | None = None
    """Take only the first problems."""

    concurrency: int | None = None
    """How many problems are in the ring at once."""

    audit: float | None = None
    """The share of escalations (0 to 1) whose two candidates the PRM scores for the report. Those calls are counted
    apart."""

    seed: int | None = None
    """Decides the sampling noise above temperature 0, the choices of `random`, and the audited sample."""

    def applied_to(self, config: Config) -> Config:
        """``config`` with the options that were given. Raises ``ConfigError`` naming the key that is wrong."""
        changes = _given(
            run_type=self.run_type,
            audit=self.audit,
            seed=self.seed,
            data=_given(source=self.data, limit=self.limit),
            limits=_given(problems=self.concurrency),
        )
        changed = override(config, changes, "command line")
        return changed if self.threshold is None else changed.with_threshold(self.threshold)


@app.command(name="bench")
def bench_command(
    config: str,
    /,
    *,
    overrides: Overrides = Overrides(),
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
    return _guarded(debug, lambda: _bench(overrides.applied_to(load_config(config)), out, json))


def _given(**options: Any) -> dict[str, Any]:  # noqa: ANN401 - options are of any type
    return {key: value for key, value in options.items() if value is not None}


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


def _tell(error: str) -> int:
    stderr.print(f"[red]error:[/red] {escape(error)}", highlight=False, soft_wrap=True)
    return FAILED


def _guarded(debug: bool, action: Callable[[], int]) -> int:
    """Run ``action``; an error that Arbiter knows is told in a line, without a traceback."""
    try:
        return action()
    except ArbiterError as error:
        if debug:
            raise
        return _tell(str(error))
    except KeyboardInterrupt:
        stderr.print("interrupted", highlight=False)
        return INTERRUPTED


def main() -> None:
    """Run the command line."""
    try:
        status = app(exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        status = _tell(" ".join(str(error).split()))
    sys.exit(status)


if __name__ == "__main__":
    main()
