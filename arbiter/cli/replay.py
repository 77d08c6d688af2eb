"""``arbiter replay``: a recorded run again, without its models."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from arbiter.cli.console import guarded, stderr, stdout
from arbiter.cli.overrides import given
from arbiter.config.config import Config, load_config
from arbiter.config.run_tables import RunType
from arbiter.log.run import Run
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.protocols.records import Model
from arbiter.replay.check import ReplayResult, check
from arbiter.replay.message_comparison import ComparedMessage, MessageDifference
from arbiter.replay.policy_comparison import LIMITS, Decisions, compare_decisions
from arbiter.replay.recorded_answers import Speeds
from arbiter.replay.whatif import WhatIf, what_if
from arbiter.runs.reports.tables import percent, seconds
from arbiter.runs.results import Summary

DIFFERS = 1
_CAUSES = 12  # of a difference, the nearest ones
_SERVERS: tuple[Model, ...] = ("draft", "target", "prm", "router", "judge")


def replay_command(
    run: Path,
    /,
    *,
    threshold: float | None = None,
    run_type: RunType | None = None,
    concurrency: int | None = None,
    server_speed: tuple[str, ...] = (),
    json: bool = False,
    debug: bool = False,
) -> int:
    """Run a recorded run again, without its models: check it, or ask what other rules would have made of it.

    Without options the recorded answers are fed to the actors at their recorded times (in virtual time: it takes a
    moment), and every message must be the recorded one. The first that differs is shown with its causes, and the exit
    status is 1.

    With options the same actors work by other rules over the recorded answers. A problem that asks what the run did not
    ask leaves the recording, and is counted apart. A recording of `generate` or `oracle` has both candidates of each
    step; of it the decisions of all policies are compared as well.

    Examples:

        arbiter replay runs/first
        arbiter replay runs/first --threshold 0.4
        arbiter replay runs/oracle --run-type rsd --threshold 0.8
        arbiter replay runs/first --concurrency 64 --server-speed target=0.5 --server-speed draft=2

    Parameters
    ----------
    run
        The run's folder, or a log file (only to be checked).
    threshold
        Another threshold, on the scale of the run type.
    run_type
        Another policy.
    concurrency
        Another number of problems in the ring at once.
    server_speed
        How many times as fast as in the run a model's server is: `target=0.5` is half as fast. Can be given several
        times.
    json
        Print what was found as JSON on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        opened = Run.open(run)
        if threshold is None and run_type is None and concurrency is None and not server_speed:
            return _check(opened, json)
        before = _config_of(opened, {})
        config = _config_of(opened, given(run_type=run_type, limits=given(problems=concurrency)))
        config = config if threshold is None else config.with_threshold(threshold)
        return _what_if(opened, before, config, _speeds(server_speed), json)

    return guarded(debug, action)


def _check(run: Run, as_json: bool) -> int:
    verdict = check(run)
    decisions = _decisions(run, None)
    if as_json:
        _write({"verdict": verdict, "decisions": decisions})
    else:
        _show_verdict(verdict)
        _show_decisions(decisions)
    return DIFFERS if verdict.differences else 0


def _what_if(run: Run, before: Config, config: Config, speeds: Speeds, as_json: bool) -> int:
    found = what_if(run, before, config, speeds)
    decisions = _decisions(run, config.thresholds.rsd)
    if as_json:
        _write({"what_if": found, "decisions": decisions})
    else:
        _show_what_if(found)
        _show_decisions(decisions)
    return 0


def _config_of(run: Run, changes: dict[str, Any]) -> Config:
    path = run.path.parent / "config.toml"
    if not path.is_file():
        raise RunError(f"there is no {path}, which says what the run's rules were: give the folder of a run")
    return load_config(str(path), changes)


def _speeds(options: tuple[str, ...]) -> dict[Model, float]:
    speeds: dict[Model, float] = {}
    for option in options:
        name, _, factor = option.partition("=")
        try:
            speed = float(factor)
        except ValueError:
            speed = 0.0
        if name not in _SERVERS or not 0 < speed < float("inf"):
            raise ConfigError(f"--server-speed {option}: write MODEL=FACTOR, MODEL one of {', '.join(_SERVERS)}")
        speeds[_SERVERS[_SERVERS.index(name)]] = speed
    return speeds


def _decisions(run: Run, threshold: float | None) -> list[Decisions]:
    both = run.started.identity.get("run_type") in ("generate", "oracle")
    return compare_decisions(run.problems(), threshold) if both else []


def _write(found: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


def _show_verdict(verdict: ReplayResult) -> None:
    _print(f"{verdict.problems} problems, {verdict.messages} messages")
    if verdict.unfinished:
        _print(f"{verdict.unfinished} problems have no end in the log, and were replayed as far as it goes")
    if not verdict.differences:
        _print("every message is the recorded one")
        return
    _print(f"{len(verdict.differences)} problems differ; the first of them:")
    _show_difference(verdict.differences[0])


def _show_difference(difference: MessageDifference) -> None:
    sample = f", sample {difference.sample}" if difference.sample else ""
    step = "" if difference.step is None else f", step {difference.step + 1}"
    _print(f"\nproblem {difference.problem}{sample}{step}")
    _print(f"  recorded  {_line(difference.recorded)}")
    _print(f"  replayed  {_line(difference.replayed)}")
    _print("  caused by, the last first")
    for cause in reversed(difference.causes[-_CAUSES:]):
        _print(f"    {cause}")
    if len(difference.causes) > _CAUSES:
        _print(f"    … and {len(difference.causes) - _CAUSES} before (all of them: --json)")


def _line(told: ComparedMessage | None) -> str:
    if told is None:
        return "nothing"
    fields = ", ".join(f"{name}={value!r}" for name, value in msgspec.structs.asdict(told.payload).items())
    to = f" → {told.to}" if told.to else ""
    return f"{told.actor}{to}  {told.payload.__struct_config__.tag}  {fields}".rstrip()


def _show_what_if(found: WhatIf) -> None:
    whole = found.exact + len(found.left)
    _print(f"{found.exact} of {whole} problems answered exactly, {len(found.left)} left the recording")
    if found.unfinished:
        _print(f"{found.unfinished} more have no end in the log, and were left out")
    asked = Counter((left.step, left.model) for left in found.left)
    for (step, model), count in sorted(asked.items()):
        _print(f"  at step {step + 1}: {count}, for what the {model} model was not asked in the run")
    if found.exact:
        table = Table(title="the problems answered exactly", title_justify="left")
        for heading in ("", "as it was", "what if"):
            table.add_column(heading)
        for (name, was), (_, would_be) in zip(_figures(found.recorded), _figures(found.replayed), strict=True):
            table.add_row(name, was, would_be)
        stdout.print(table)
    if found.left or found.unfinished:
        _print("times are not known: those that left would have shared the servers")
    else:
        _print("each request takes as long as it did in the run, under its load, by the speeds that were given")


def _figures(summary: Summary) -> list[tuple[str, str]]:
    knob = "" if summary.threshold is None else f", τ = {summary.threshold:g}"
    written = {model: tokens.kept + tokens.discarded for model, tokens in summary.tokens.items()}
    return [
        ("policy", f"{summary.run_type}{knob}"),
        ("accuracy", percent(summary.accuracy)),
        ("acceptance", percent(summary.acceptance_rate)),
        ("steps", f"{summary.steps}, of which {summary.escalations} escalated"),
        ("target calls", str(summary.target_calls)),
        ("tokens written", ", ".join(f"{name} {count}" for name, count in sorted(written.items()) if count)),
        ("seconds a problem", f"mean {seconds(summary.latency.mean)}, p95 {seconds(summary.latency.p95)}"),
        ("seconds in all", seconds(summary.wall_seconds)),
    ]


def _show_decisions(decisions: list[Decisions]) -> None:
    if not decisions:
        return
    table = Table(title="decisions at the recorded steps", title_justify="left")
    for heading in ("policy", "τ", "escalated", "as the oracle", "escalations saved", "wasted", "gain"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for row in decisions:
        shares = (percent(row.agreement), percent(row.saved), percent(row.wasted), percent(row.gain))
        table.add_row(row.policy, "" if row.threshold is None else f"{row.threshold:g}", str(row.escalated), *shares)
    stdout.print(table)
    stderr.print(f"[dim]{LIMITS}[/dim]", highlight=False)


def _print(line: str) -> None:
    stdout.print(line, highlight=False, markup=False, soft_wrap=True)
