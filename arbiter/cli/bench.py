"""``arbiter bench``: many problems at once."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import anyio
import msgspec
from rich.table import Table

from arbiter.cli.console import INTERRUPTED, guarded, stderr, stdout
from arbiter.cli.overrides import NOT_GIVEN, RunOverrides, configured
from arbiter.config.config import Config
from arbiter.config.run_tables import Level
from arbiter.log.event_lines import shown
from arbiter.log.reader import log_path
from arbiter.protocols.records import LookaheadStats, Model
from arbiter.runs.bench import bench
from arbiter.runs.intervals import Interval
from arbiter.runs.prefix_cache import PrefixCacheUse, lacking
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports.tables import NOTHING, from_to, money, percent, seconds
from arbiter.runs.results import Cost, Summary, VerificationSavings

WRITERS: tuple[Model, ...] = ("draft", "target")


def bench_command(
    config: str | None = None,
    /,
    *,
    overrides: RunOverrides = NOT_GIVEN,
    out: Path | None = None,
    resume: Path | None = None,
    retry_failed: bool = False,
    log_level: Level | None = None,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Solve many problems at once, grade them, and store and print the figures.

    A run that was interrupted or killed is continued by `--resume`, or by the same command with the same `--out`: what
    is done stays done, and no answer is paid for twice.

    Examples:

        arbiter bench pocket
        arbiter bench pocket --run-type rsd --threshold 0.8
        arbiter bench pocket --samples 4 --temperature 0.7
        arbiter bench configs/mine.toml --data problems.jsonl --limit 100 --out runs/first --json
        arbiter bench --resume runs/first

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in one (`pocket`). With `--resume` it may be left out: it is then
        the run's own.
    out
        The run's folder. By default a new one under `runs/`. If it holds this very run, unfinished, it is continued.
    resume
        The folder of a run to continue. What decides its results must be as it was (docs/log.md); addresses,
        concurrency and time-outs may be others.
    retry_failed
        Of a run that is continued, solve the problems that failed once more, from their beginning.
    log_level
        Show the run's events while they happen, on standard error: `warning` what goes wrong, `info` problems as well,
        `debug` every message and request. The log in the run's folder has all of them in any case.
    json
        Print the summary as JSON on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        chosen = overrides.load(configured(config, out, resume, log_path), log_level)
        return _bench(chosen, out or resume, json, retry_failed)

    return guarded(debug, action)


def _bench(config: Config, folder: Path | None, as_json: bool, retry_failed: bool) -> int:
    with watcher_for(stderr) as watcher:
        show = shown(config.log.level, _tell_event)
        summary, path = anyio.run(partial(bench, config, folder, watcher, show, retry_failed))
    if as_json:
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    else:
        stdout.print(_figures(summary))
    for line in lacking(summary.prefix_caches, WRITERS):
        stderr.print(f"warning: {line}", highlight=False, soft_wrap=True)
    stderr.print(f"the run is in {path}", highlight=False, soft_wrap=True)
    if not summary.interrupted:
        return 0
    stderr.print(f"to go on with it: arbiter bench --resume {path}", highlight=False, soft_wrap=True)
    return INTERRUPTED


def _tell_event(line: str) -> None:
    stderr.print(line, highlight=False, markup=False, soft_wrap=True)


def _figures(summary: Summary) -> Table:
    """The summary for people."""
    knob = "" if summary.threshold is None else f", τ = {summary.threshold:g}"
    table = Table(title=f"{summary.run_type}{knob}", title_justify="left", show_header=False)
    for name, value in _rows(summary):
        table.add_row(name, value)
    return table


def _rows(summary: Summary) -> list[tuple[str, str]]:
    waste, latency = summary.wasted_escalations, summary.latency
    accuracy, acceptance = summary.accuracy, percent(summary.acceptance_rate)
    return [
        ("problems", _problems(summary)),
        ("accuracy", _estimate(accuracy, summary.accuracy_interval)),
        *(_samples(summary) if summary.samples > 1 else ()),
        ("acceptance", f"{acceptance} of steps, {percent(summary.acceptance_rate_tokens)} of tokens"),
        ("steps", f"{summary.steps}, of which {summary.escalations} escalated"),
        (
            "wasted escalations",
            f"{percent(waste.share)} of {waste.judged} judged" if waste.judged else "not judged (see --audit)",
        ),
        ("requests", ", ".join(f"{model} {calls.requests}" for model, calls in summary.requests.items())),
        *(
            (f"tokens of {model}", f"{tokens.kept} kept, {tokens.discarded} discarded, {tokens.prompt} read")
            for model, tokens in summary.tokens.items()
        ),
        *([("prefix cache", _caches(summary.prefix_caches))] if summary.prefix_caches else ()),
        *([("drafted ahead", _ahead(summary.lookahead))] if summary.lookahead.started else ()),
        *([("shown to the target", _shown(summary.verification))] if summary.verification.shown else ()),
        *([("cost", _cost(summary.cost))] if summary.cost else ()),
        ("ended by", ", ".join(f"{reason} {count}" for reason, count in summary.finish_reasons.items())),
        (
            "seconds a sample" if summary.samples > 1 else "seconds a problem",
            f"mean {seconds(latency.mean)}, p50 {seconds(latency.p50)}, p95 {seconds(latency.p95)}",
        ),
        ("wall time", f"{summary.wall_seconds or 0.0:.1f} s" + (", interrupted" if summary.interrupted else "")),
    ]


def _problems(summary: Summary) -> str:
    ended = f"{summary.graded} graded, {summary.failed} failed"
    if summary.samples == 1:
        return f"{summary.problems}, of which {ended}"
    return f"{summary.problems}, in {summary.decoded} samples, of which {ended}"


def _samples(summary: Summary) -> list[tuple[str, str]]:
    """What several samples a problem tell; where fewer problems could be counted than there are, it is said."""
    told = {f"pass@{k}": (found.value, found.interval, found.problems, "") for k, found in summary.pass_at_k.items()}
    if vote := summary.majority_vote:
        told["majority vote"] = vote.value, vote.interval, vote.problems, f", {vote.ties} tied" if vote.ties else ""
    return [
        (name, _estimate(value, interval) + ("" if of == summary.problems else f" of {of} problems") + more)
        for name, (value, interval, of, more) in told.items()
    ]


def _estimate(value: float | None, interval: Interval | None) -> str:
    return NOTHING if value is None else f"{percent(value)}  (95 % interval {from_to(interval)})"


def _ahead(ahead: LookaheadStats) -> str:
    salvaged = f", {ahead.salvaged} more in another context" if ahead.salvaged else ""
    return f"{ahead.started} steps, of which {ahead.hits} used{salvaged}; {ahead.wasted_tokens} tokens for nothing"


def _caches(caches: Mapping[Model, PrefixCacheUse]) -> str:
    return ", ".join(
        f"{model} {percent(cache.cached / cache.prompt)} (implied {percent(cache.implied / cache.prompt)})"
        for model, cache in caches.items()
        if cache.prompt and (model in WRITERS or cache.cached)  # few servers tell it of scores
    )


def _shown(verified: VerificationSavings) -> str:
    told = f"{verified.shown} rejected drafts, {verified.whole} of them its own step"
    return f"{told}; {percent(verified.agreed / verified.tokens)} of its tokens it had not to write"


def _cost(cost: Cost) -> str:
    return f"{money(cost.total)} (" + ", ".join(f"{model} {money(part)}" for model, part in cost.models.items()) + ")"
