"""``arbiter bench``: solve and grade many problems."""

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
from arbiter.protocols.ports import KVMemory
from arbiter.protocols.records import LookaheadStats, Model
from arbiter.runs.bench import bench
from arbiter.runs.gathering_waits import GatheringWaits
from arbiter.runs.intervals import Interval
from arbiter.runs.prefix_cache import PrefixCacheUse, lacking
from arbiter.runs.progress import watcher_for
from arbiter.runs.reports.tables import NOTHING, from_to, money, percent, seconds
from arbiter.runs.results import Cost, Summary, VerificationSavings, Waste

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
    """Solve many problems concurrently, grade the answers, and print and store the results.

    To continue a run that was interrupted or killed, use `--resume`, or repeat the command with the same `--out`.
    Finished problems are not solved again, and recorded answers are not requested again.

    Examples:

        arbiter bench pocket
        arbiter bench pocket --run-type rsd --threshold 0.8
        arbiter bench pocket --samples 4 --temperature 0.7
        arbiter bench mine.toml --data problems.jsonl --limit 100 --out runs/first
        arbiter bench --resume runs/first

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration (`pocket`). Optional with `--resume`: the default
        is then the configuration that is stored in the run folder.
    out
        The run folder. Default: a new folder under `runs/`. A folder that holds the same run, unfinished, is continued.
    resume
        The run folder to continue. Every setting that decides results must be unchanged (docs/reference/log.md).
        Addresses, concurrency and timeouts may differ.
    retry_failed
        When continuing a run, solve its failed problems again, from their first step.
    log_level
        Print the run's events on standard error as they happen. `warning`: only what goes wrong. `info`: problems as
        well. `debug`: every message and request. The event log in the run folder always has all events. Default:
        `log.level` of the configuration (`off`).
    json
        Print only the summary, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        chosen = overrides.load(configured(config, out, resume, log_path), log_level)
        return _bench(chosen, out or resume, json, retry_failed)

    return guarded(debug, action)


def _bench(config: Config, folder: Path | None, as_json: bool, retry_failed: bool) -> int:
    with watcher_for(stderr) as watcher:
        show = shown(config.log.level, _print_event)
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
    stderr.print(f"to resume: arbiter bench --resume {path}", highlight=False, soft_wrap=True)
    return INTERRUPTED


def _print_event(line: str) -> None:
    stderr.print(line, highlight=False, markup=False, soft_wrap=True)


def _figures(summary: Summary) -> Table:
    """Return the summary as a table."""
    threshold = "" if summary.threshold is None else f", threshold τ = {summary.threshold:g}"
    table = Table(title=f"{summary.run_type}{threshold}", title_justify="left", show_header=False)
    for name, value in _rows(summary):
        table.add_row(name, value)
    return table


def _rows(summary: Summary) -> list[tuple[str, str]]:
    latency, accuracy, acceptance = summary.latency, summary.accuracy, percent(summary.acceptance_rate)
    return [
        ("problems", _problems(summary)),
        ("accuracy", _estimate(accuracy, summary.accuracy_interval)),
        *(_samples(summary) if summary.samples > 1 else ()),
        ("acceptance rate", f"{acceptance} of steps, {percent(summary.acceptance_rate_tokens)} of tokens"),
        ("steps", f"{summary.steps} ({summary.escalations} escalated)"),
        ("wasted escalations", _wasted(summary.wasted_escalations)),
        ("requests", ", ".join(f"{model} {calls.requests}" for model, calls in summary.requests.items())),
        *(
            (f"{model} tokens", f"{tokens.kept} kept, {tokens.discarded} discarded, {tokens.prompt} in prompts")
            for model, tokens in summary.tokens.items()
        ),
        *([("prefix cache", _caches(summary.prefix_caches))] if summary.prefix_caches else ()),
        *([("keys and values", _kv_memory(summary.kv_memory))] if summary.kv_memory else ()),
        *([("drafting ahead", _ahead(summary.lookahead))] if summary.lookahead.started else ()),
        *([("verified escalation", _verified(summary.verification))] if summary.verification.shown else ()),
        *([("gathering", _gathering(summary.gathering))] if summary.gathering.held else ()),
        *([("cost", _cost(summary.cost))] if summary.cost else ()),
        ("finish reasons", ", ".join(f"{reason} {count}" for reason, count in summary.finish_reasons.items())),
        (
            "seconds per sample" if summary.samples > 1 else "seconds per problem",
            f"mean {seconds(latency.mean)}, p50 {seconds(latency.p50)}, p95 {seconds(latency.p95)}",
        ),
        ("wall time", f"{summary.wall_seconds or 0.0:.1f} s" + (" (interrupted)" if summary.interrupted else "")),
    ]


def _problems(summary: Summary) -> str:
    ended = f"{summary.graded} graded, {summary.failed} failed"
    if summary.samples == 1:
        return f"{summary.problems} ({ended})"
    return f"{summary.problems} in {summary.decoded} samples ({ended})"


def _samples(summary: Summary) -> list[tuple[str, str]]:
    """Return the rows for several samples per problem. A row over fewer than all problems says how many it covers."""
    rows = {f"pass@{k}": (found.value, found.interval, found.problems, "") for k, found in summary.pass_at_k.items()}
    if vote := summary.majority_vote:
        rows["majority vote"] = vote.value, vote.interval, vote.problems, f", {vote.ties} tied" if vote.ties else ""
    return [
        (name, _estimate(value, interval) + ("" if of == summary.problems else f" of {of} problems") + more)
        for name, (value, interval, of, more) in rows.items()
    ]


def _wasted(waste: Waste) -> str:
    if not waste.judged:
        return "not measured (see --audit)"
    return f"{percent(waste.share)} of the {waste.judged} scored by the PRM"


def _estimate(value: float | None, interval: Interval | None) -> str:
    return NOTHING if value is None else f"{percent(value)} (95 % interval {from_to(interval)})"


def _ahead(ahead: LookaheadStats) -> str:
    salvaged = f", {ahead.salvaged} salvaged in another context" if ahead.salvaged else ""
    return f"{ahead.started} steps drafted, {ahead.hits} used{salvaged}; {ahead.wasted_tokens} tokens wasted"


def _caches(caches: Mapping[Model, PrefixCacheUse]) -> str:
    return ", ".join(
        f"{model} {percent(cache.cached / cache.prompt)} ({percent(cache.implied / cache.prompt)} possible)"
        for model, cache in caches.items()
        if cache.prompt and (model in WRITERS or cache.cached)  # few servers report cached tokens for scores
    )


def _kv_memory(memories: Mapping[str, KVMemory]) -> str:
    used = ", ".join(f"{model} {memory.peak / 2**20:.1f} MiB" for model, memory in memories.items())
    return f"at most {used}"


def _verified(verified: VerificationSavings) -> str:
    checked = f"{verified.shown} rejected drafts checked, {verified.whole} kept whole"
    return f"{checked}; saved {percent(verified.agreed / verified.tokens)} of the target's tokens for these steps"


def _gathering(waits: GatheringWaits) -> str:
    mean, largest = (1000 * (value or 0.0) for value in (waits.mean_seconds, waits.largest_seconds))
    held = f"{waits.held} escalations held, {mean:.0f} ms on average, {largest:.0f} ms at most"
    return f"{held}; {waits.together} released together"


def _cost(cost: Cost) -> str:
    return f"{money(cost.total)} (" + ", ".join(f"{model} {money(part)}" for model, part in cost.models.items()) + ")"
