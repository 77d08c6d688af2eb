"""``arbiter replay``: repeat a recorded run without its models."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.table import Table

from arbiter.cli.console import guarded, stderr, stdout
from arbiter.cli.overrides import given
from arbiter.cli.terminal import write_json
from arbiter.config.config import Config, load_config
from arbiter.config.run_tables import RunType
from arbiter.log.identity import check_unchanged
from arbiter.log.run import NO_END, Run
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.protocols.records import Model
from arbiter.replay.check import ReplayResult, check
from arbiter.replay.message_comparison import ComparedMessage, MessageDifference
from arbiter.replay.policy_comparison import LIMITS, Decisions, compare_decisions
from arbiter.replay.recorded_answers import Speeds
from arbiter.replay.whatif import WhatIf, what_if
from arbiter.runs.finding import LOGGED, resolve
from arbiter.runs.reports.numbers import percent, seconds, steps_line
from arbiter.runs.results import Summary

DIFFERS = 1
_CAUSES = 12  # shown for a difference, the nearest ones
_SERVERS: tuple[Model, ...] = ("draft", "target", "prm", "router", "judge")


def replay_command(
    run: Path,
    /,
    *,
    threshold: float | None = None,
    run_type: RunType | None = None,
    concurrency: int | None = None,
    server_speed: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    json: bool = False,
    debug: bool = False,
) -> int:
    """Repeat a recorded run without its models, to check the log or to try other settings (what-if replay).

    Without options, the actors receive the recorded answers at the recorded times, in virtual time. Every message must
    equal the recorded one. If one differs, the first difference is shown with its causes, and the exit status is 1.

    With options, the actors run with other settings over the recorded answers. A problem that needs an answer that the
    run did not record cannot be replayed, and is counted separately. A recording of `generate` or `oracle` has both
    candidates of each step. For it, the decisions of draft, random, rsd, oracle and target at these steps are compared
    as well.

    Examples:

        arbiter replay runs/first
        arbiter replay runs/first --threshold 0.4
        arbiter replay runs/oracle --run-type rsd --threshold 0.8
        arbiter replay runs/first --concurrency 64 --server-speed target=0.5

    Parameters
    ----------
    run
        The run folder, `@last` or the beginning of its name (see `arbiter runs`). An event log without its
        folder can be checked, but not replayed with other settings.
    threshold
        Replay with this threshold τ, on the scale of the run type. Default: that of the run.
    run_type
        Replay with this run type. Default: that of the run.
    concurrency
        Replay with this number of problems solved concurrently. Default: that of the run.
    server_speed
        Replay with a faster or slower server of a model, given as MODEL=FACTOR. With `target=0.5` the target's server
        is half as fast as in the run. Repeat the option for several models. Default: 1 for each.
    json
        Print only the result, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        opened = Run.open(resolve(run, LOGGED))
        if threshold is None and run_type is None and concurrency is None and not server_speed:
            return _check(opened, json)
        before = _config_of(opened, {})
        check_unchanged(opened.path.parent / "config.toml", before, opened.started.identity)
        config = _config_of(opened, given(run_type=run_type, limits=given(problems=concurrency)))
        config = config if threshold is None else config.with_threshold(threshold)
        return _what_if(opened, before, config, _speeds(server_speed), json)

    return guarded(debug, action)


def _check(run: Run, as_json: bool) -> int:
    verdict = check(run)
    if not run.ended:
        stderr.print(NO_END, highlight=False, soft_wrap=True)
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
        raise RunError(f"there is no {path}, and a what-if replay needs the run's configuration: give a run folder")
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
            raise ConfigError(
                f"--server-speed {option}: write MODEL=FACTOR, FACTOR above 0 and MODEL one of {', '.join(_SERVERS)}"
            )
        speeds[_SERVERS[_SERVERS.index(name)]] = speed
    return speeds


def _decisions(run: Run, threshold: float | None) -> list[Decisions]:
    both = run.started.identity.get("run_type") in ("generate", "oracle")
    return compare_decisions(run.problems(), threshold) if both else []


def _write(found: dict[str, Any]) -> None:
    write_json(found)


def _show_verdict(verdict: ReplayResult) -> None:
    _print(f"{verdict.problems} problems, {verdict.messages} messages")
    if verdict.unfinished:
        _print(f"{verdict.unfinished} problems are unfinished in the log, and were replayed up to its end")
    if not verdict.differences:
        _print("every message equals the recorded one")
        return
    _print(f"{len(verdict.differences)} problems differ; the first difference:")
    _show_difference(verdict.differences[0])


def _show_difference(difference: MessageDifference) -> None:
    sample = f", sample {difference.sample}" if difference.sample else ""
    step = "" if difference.step is None else f", step {difference.step + 1}"
    _print(f"\nproblem {difference.problem}{sample}{step}")
    _print(f"  recorded  {_line(difference.recorded)}")
    _print(f"  replayed  {_line(difference.replayed)}")
    _print("  causes, the latest first")
    for cause in reversed(difference.causes[-_CAUSES:]):
        _print(f"    {cause}")
    if len(difference.causes) > _CAUSES:
        _print(f"    … and {len(difference.causes) - _CAUSES} earlier (--json prints all)")


def _line(message: ComparedMessage | None) -> str:
    if message is None:
        return "no message"
    fields = ", ".join(f"{name}={value!r}" for name, value in msgspec.structs.asdict(message.payload).items())
    to = f" → {message.to}" if message.to else ""
    return f"{message.actor}{to}  {message.payload.__struct_config__.tag}  {fields}".rstrip()


def _show_what_if(found: WhatIf) -> None:
    whole = found.exact + len(found.left)
    _print(f"{found.exact} of {whole} problems replayed exactly, {len(found.left)} need answers that were not recorded")
    if found.unfinished:
        _print(f"{found.unfinished} more are unfinished in the log, and were left out")
    missing = Counter((left.step, left.model) for left in found.left)
    for (step, model), count in sorted(missing.items()):
        _print(f"  at step {step + 1}: {count}, because the run has no such answer of the {model} model")
    if found.exact:
        table = Table(title="problems replayed exactly", title_justify="left")
        for heading in ("", "recorded", "what if"):
            table.add_column(heading)
        for (name, was), (_, would_be) in zip(_figures(found.recorded), _figures(found.replayed), strict=True):
            table.add_row(name, was, would_be)
        stdout.print(table)
    if found.left or found.unfinished:
        _print("times are not known: the problems that could not be replayed would have used the same servers")
    else:
        _print("each request takes its recorded time, divided by the given server speed; the load is that of the run")


def _figures(summary: Summary) -> list[tuple[str, str]]:
    threshold = "" if summary.threshold is None else f", τ = {summary.threshold:g}"
    written = {model: tokens.kept + tokens.discarded for model, tokens in summary.tokens.items()}
    return [
        ("run type", f"{summary.run_type}{threshold}"),
        ("accuracy", percent(summary.accuracy)),
        ("acceptance rate", percent(summary.acceptance_rate)),
        ("steps", steps_line(summary.run_type, summary.steps, summary.escalations, summary.acceptance_rate)),
        ("target requests", str(summary.target_calls)),
        ("tokens written", ", ".join(f"{name} {count}" for name, count in sorted(written.items()) if count)),
        ("seconds per problem", f"mean {seconds(summary.latency.mean)}, p95 {seconds(summary.latency.p95)}"),
        ("total seconds", seconds(summary.wall_seconds)),
    ]


def _show_decisions(decisions: list[Decisions]) -> None:
    if not decisions:
        return
    table = Table(title="decisions at the recorded steps", title_justify="left")
    for heading in ("policy", "τ", "escalated", "agrees with oracle", "acceptance rate", "wasted", "gain"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for row in decisions:
        shares = (percent(row.agreement), percent(row.saved), percent(row.wasted), percent(row.gain))
        table.add_row(row.policy, "" if row.threshold is None else f"{row.threshold:g}", str(row.escalated), *shares)
    stdout.print(table)
    stderr.print(f"[dim]{LIMITS}[/dim]", highlight=False)


def _print(line: str) -> None:
    stdout.print(line, highlight=False, markup=False, soft_wrap=True)
