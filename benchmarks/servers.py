"""Run the pocket benchmark over four real sglang servers, and compare it with the same run in process.

    just sglang-env
    python benchmarks/servers.py [--limit 200] [--concurrency 64] [--run-types router,oracle] [--json]
    python benchmarks/servers.py --kill target       # kill this server in the middle of a run; it restarts

No GPU is needed. The servers are those of ``configs/pocket-sglang.toml``, started as ``arbiter up`` starts them; each
needs about 2 GB of memory. At temperature 0 the transcripts should equal those of the run in process. For each one that
does not, the output has its first different step and the scores that decided. Every escalated step is audited, so that
the PRM gets requests as well. The prefix caches are emptied before each run.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from fleets import (
    POCKET,
    SERVED,
    Ran,
    behind_servers,
    cached_and_read,
    console,
    differing,
    flush,
    hit_rates,
    kill_server,
    say,
    serving,
    solved,
)

from arbiter.cli.console import guarded, show_notices
from arbiter.config.config import Config, load_config, override
from arbiter.config.run_tables import RunType
from arbiter.log.diff import FirstDifference, KeptStep, compare
from arbiter.log.run import Run
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.events import LimitMoved
from arbiter.protocols.records import LookaheadStats, Model
from arbiter.runs.prefix_cache import PrefixCacheUse
from arbiter.runs.progress import PlainWatcher
from arbiter.runs.reports.numbers import NOTHING, percent, seconds
from arbiter.runs.results import ModelCalls, Result
from arbiter.servers.fleet import Fleet, ServerProcess

_OPENAI = {"backend": "openai", "api_key_env": ""}
_EMBEDDINGS = {**_OPENAI, "scores": "embeddings"}
KEYS: dict[str, dict[str, dict[str, Any]]] = {
    "http": {},
    "openai": {"draft": _OPENAI, "target": _OPENAI, "prm": _EMBEDDINGS, "router": _EMBEDDINGS},
}
"""What each backend changes in the models' tables."""


class Moves(msgspec.Struct, frozen=True):
    """How many times the limit of concurrent requests at a server was changed, and its lowest value."""

    times: int
    least: int


class Killed(msgspec.Struct, frozen=True):
    """A server that was killed after ``results`` problems, and the number of its ``starts`` by the end of the run."""

    server: str
    results: int
    starts: int


class Row(msgspec.Struct, frozen=True):
    """A run.

    ``requests`` are per kept step, and ``retries`` are attempts that were repeated. ``different`` has the problems
    whose kept steps differ from those of the run in process, ``divergences`` their first different steps. ``hit_rates``
    are the shares of prompt tokens that came from the servers' prefix caches, by the servers' metrics; for a killed
    server, since its restart. ``caches`` is what the answers report; those of sglang's ``/classify`` report nothing.
    ``lookahead`` counts the drafts that were written ahead.
    """

    run_type: RunType
    place: str
    problems: int
    failed: int
    accuracy: float | None
    seconds: float | None
    steps: int
    requests: dict[Model, float]
    caches: dict[Model, PrefixCacheUse]
    hit_rates: dict[str, float]
    lookahead: LookaheadStats
    cancelled: int
    retries: dict[str, int]
    limits: dict[str, Moves]
    different: list[str]
    divergences: list[FirstDifference]
    killed: Killed | None = None


class Killing(PlainWatcher):
    """Kills ``server`` once ``after`` problems have ended."""

    def __init__(self, server: ServerProcess, after: int) -> None:
        super().__init__(console)
        self._server, self._left = server, after

    def solved(self, result: Result) -> None:
        super().solved(result)
        self._left -= 1
        if self._left == 0:
            kill_server(self._server)


def main(
    *,
    limit: int = 200,
    concurrency: int = 64,
    run_types: str = "router",
    lookahead: str = "auto",
    kill: Literal["draft", "target", "prm", "router"] | None = None,
    backend: Literal["http", "openai"] = "http",
    port: int = 30100,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Run ``limit`` pocket problems in process, over servers, and over servers with steps drafted ahead.

    With ``kill``, run them once more, and kill the server of that model when half of the problems have ended. The
    servers listen on consecutive ports from ``port`` on. The exit status is 1 if a transcript differs or a problem
    failed, and 2
    if the options or this machine do not allow the runs.
    """

    def action() -> int:
        show_notices()
        ahead = lookahead if lookahead == "auto" else _number(lookahead)
        here = configured(run_types.split(","), limit, concurrency, kill)
        there = [behind_servers(config, port, KEYS[backend]) for config in here]
        rows = anyio.run(partial(_measured, here, there, ahead, kill))
        sys.stdout.write(msgspec.json.encode(rows).decode() if as_json else table(rows))
        sys.stdout.write("\n")
        return int(any(row.different or row.failed for row in rows))

    return guarded(False, action)


def configured(run_types: Sequence[str], limit: int, concurrency: int, kill: str | None) -> list[Config]:
    """Return the pocket configuration for each run type.

    Raises ``ConfigError`` for an unknown run type, and if ``kill`` names a model that a run type never calls or the run
    is too short to kill it in the middle.
    """
    changes = {"data": {"limit": limit}, "limits": {"problems": concurrency}, "audit": 1.0}
    named = [override(load_config(POCKET), {**changes, "run_type": name}, "--run-types") for name in run_types]
    for config in named if kill else ():
        called = config.called_tables()
        if kill not in called:
            raise ConfigError(f"--kill: {config.run_type} never calls {kill}; it calls {', '.join(called)}")
    if kill and limit < 2:
        raise ConfigError("--kill: needs at least 2 problems (--limit), to kill the server in the middle of the run")
    return named


async def _measured(here: Sequence[Config], there: Sequence[Config], ahead: int | str, killed: str | None) -> list[Row]:
    """Make all runs. Those in process come first, because even idle servers use the machine's CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = {config.run_type: await _announced_run("in process", config, folder) for config in here}
        rows = [_row("in process", ran, ran) for ran in alone.values()]
        async with serving(there[0], SERVED, folder / "logs") as fleet:
            for config in there:
                reference = alone[config.run_type]
                drafting = override(config, {"lookahead": ahead}, "--lookahead")
                for place, one in {"sglang": config, f"sglang, lookahead {ahead}": drafting}.items():
                    rows.append(await _over_servers(fleet, place, one, folder, reference))
                if killed:
                    rows.append(await _with_a_kill(fleet, killed, drafting, folder, reference))
        return rows


async def _announced_run(place: str, config: Config, folder: Path, watcher: PlainWatcher | None = None) -> Ran:
    say(f"{config.run_type}, {place}")
    return await solved(config, folder / f"{config.run_type}, {place}", watcher)


async def _over_servers(
    fleet: Fleet, place: str, config: Config, folder: Path, reference: Ran, watcher: PlainWatcher | None = None
) -> Row:
    await flush(fleet.servers)
    before = await cached_and_read(fleet.servers)
    row = _row(place, await _announced_run(place, config, folder, watcher), reference)
    after = await cached_and_read(fleet.servers)
    return msgspec.structs.replace(row, hit_rates=hit_rates(before, after))


async def _with_a_kill(fleet: Fleet, name: str, config: Config, folder: Path, reference: Ran) -> Row:
    """Kill the server ``name`` in the middle of a run. Raises ``BackendError`` if it did not restart before the end."""
    server = next(server for server in fleet.servers if server.launch.name == name)
    before, after = server.starts, (config.data.limit or 2) // 2
    place = f"sglang, lookahead {config.lookahead}, {name} killed"
    row = await _over_servers(fleet, place, config, folder, reference, Killing(server, after))
    if server.starts == before:
        raise BackendError(f"the run ended before {name}, which was killed in the middle, was restarted")
    return msgspec.structs.replace(row, killed=Killed(name, after, server.starts))


def _row(place: str, ran: Ran, reference: Ran) -> Row:
    summary, run = ran.summary, Run.open(ran.path)
    moves: dict[str, list[int]] = {}
    for event in run.events():
        if isinstance(event.payload, LimitMoved):
            moves.setdefault(event.payload.model, []).append(event.payload.limit)
    retries = Counter[str]()
    for call in run.table("calls"):
        retries[call["model"]] += call["retries"]
    different = differing(reference.solutions, ran.solutions)
    return Row(
        run_type=summary.run_type,
        place=place,
        problems=summary.problems,
        failed=summary.failed,
        accuracy=summary.accuracy,
        seconds=summary.wall_seconds,
        steps=summary.steps,
        requests={model: round(calls.requests / max(1, summary.steps), 4) for model, calls in summary.requests.items()},
        caches=summary.prefix_caches,
        hit_rates={},
        lookahead=summary.lookahead,
        cancelled=summary.requests.get("draft", ModelCalls(0, 0, 0)).cancelled,
        retries=dict(+retries),
        limits={model: Moves(len(limits), min(limits)) for model, limits in moves.items()},
        different=different,
        divergences=list(compare(Run.open(reference.path), run).differences) if different else [],
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table, and below it each transcript that differs."""
    lines = [
        "| run | accuracy | failed | seconds | requests per step | prompt tokens from the cache (implied by texts) "
        "| drafts ahead: begun / used / cancelled | retries | limit changes (lowest) | different transcripts |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ahead = row.lookahead
        implied = {model: cache.implied / max(1, cache.prompt) for model, cache in row.caches.items()}
        cells = [
            f"{row.run_type}, {row.place}",
            percent(row.accuracy),
            f"{row.failed}",
            seconds(row.seconds),
            _listed(f"{model} {number:.2f}" for model, number in row.requests.items()),
            _listed(f"{name} {percent(rate)} ({percent(implied.get(name))})" for name, rate in row.hit_rates.items()),
            f"{ahead.started} / {ahead.hits} / {row.cancelled}" if ahead.started else NOTHING,
            _listed(f"{model} {number}" for model, number in row.retries.items()),
            _listed(f"{model} {moves.times} ({moves.least})" for model, moves in row.limits.items()),
            f"{len(row.different)} of {row.problems}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(line for row in rows for line in _differences(row))])


def _differences(row: Row) -> Iterable[str]:
    first = {divergence.problem: divergence for divergence in row.divergences}
    for problem in row.different:
        divergence = first.get(problem)
        if divergence is None:
            yield f"{row.run_type}, {row.place}: {problem} has the same steps by different authors"
            continue
        yield f"{row.run_type}, {row.place}: {problem} differs from step {divergence.step + 1} on:"
        yield f"  in process  {_kept(divergence.a)}"
        yield f"  servers     {_kept(divergence.b)}"


def _kept(kept: KeptStep | None) -> str:
    return "has ended" if kept is None else f"{kept.author}: {kept.text!r} ({kept.decision})"


def _listed(parts: Iterable[str]) -> str:
    return ", ".join(parts) or NOTHING


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"--lookahead: {text!r} is neither a number of steps nor auto")
    return int(text)


if __name__ == "__main__":
    sys.exit(cyclopts.App(default_command=main, result_action="return_value")())
