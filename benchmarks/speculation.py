"""Compare step-level and token-level speculation, each alone and both together: four runs of the same problems.

    python benchmarks/speculation.py llama3-1b-8b-eagle3 [--limit 100] [--concurrency 16] [--json]
    python benchmarks/speculation.py                  # the pocket models, behind vLLM on the CPU

The target alone and the ring (``--run-type``) run with and without speculation in the target's engine. The
configuration says how the engine speculates (``[models.target.server.speculation]``). The runs without speculation use
the same configuration without that table, or another one (``--plain llama3-1b-8b``).

Each run starts its own servers, as ``arbiter up`` does. So no run profits from the caches of an earlier one, and the
metrics of an engine cover this run only. Seconds are means per problem; gains are speed-ups over the target alone
without speculation. Greedy transcripts should be the same with and without speculation in the engine; those that differ
are counted. *Tokens per pass* are those that one pass of the target produced for a request, where its engine
speculated. For sglang it is the server's average since its start, without up to 40 last passes that it has not counted
yet. For vLLM it is 1 + accepted / drafts.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from fleets import POCKET, Ran, behind_servers, differing, say, serving, solved

from arbiter.cli.console import guarded, show_notices
from arbiter.config.config import Config, load_config, override, parse
from arbiter.config.model_tables import ServedTable
from arbiter.config.run_tables import RunType
from arbiter.config.server_tables import Program, SpeculationTable
from arbiter.pocket import resolved
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.records import Model
from arbiter.runs.reports.numbers import NOTHING, percent, seconds
from arbiter.servers.engine_metrics import figures
from arbiter.servers.fleet import ServerProcess
from arbiter.servers.plan_types import Launch

PROPOSED = 3  # tokens that the pocket draft proposes per pass
_VLLM = "vllm:spec_decode_num_{}_total"


class Decoding(msgspec.Struct, frozen=True):
    """What the target's servers report.

    ``written`` is the number of tokens written. ``a_step`` is the number of tokens per pass where they speculate; None
    if a server does not report it or has not speculated yet.
    """

    written: float
    a_step: float | None


class Row(msgspec.Struct, frozen=True):
    """A run; ``latency`` and ``wall`` are in seconds.

    ``decoding`` is None for engines that report nothing. ``different`` counts the problems whose steps differ from
    those of the same run without speculation in the engine.
    """

    run_type: RunType
    speculates: bool
    problems: int
    failed: int
    accuracy: float | None
    latency: float | None
    wall: float | None
    requests: dict[Model, int]
    tokens: dict[Model, int]
    decoding: Decoding | None
    different: int | None


class Gains(msgspec.Struct, frozen=True):
    """Speed-ups over the target alone without speculation, by seconds per problem.

    ``product`` is the product of ``step`` and ``token``: what ``both`` would be if the two did not interfere.
    """

    step: float
    token: float
    both: float
    product: float


class Found(msgspec.Struct, frozen=True):
    """The four runs and the gains; None where a run solved no problem."""

    rows: list[Row]
    gains: Gains | None


def main(
    config: str | None = None,
    /,
    *,
    plain: str | None = None,
    run_type: RunType = "router",
    limit: int = 40,
    concurrency: int | None = None,
    port: int = 30400,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Run ``limit`` problems of ``config`` four times.

    ``concurrency`` defaults to that of the configuration. ``port`` is the first port of the pocket models' servers. The
    exit status is 1 if a problem failed, and 2 if the options or this machine do not allow the runs.
    """

    def action() -> int:
        show_notices()
        changes: dict[str, Any] = {"data": {"limit": limit}}
        changes |= {} if concurrency is None else {"limits": {"problems": concurrency}}
        pair = chosen(config, plain, port)
        plainly, speculating = (override(one, changes, "command line") for one in pair)
        measured = anyio.run(partial(_measured, plainly, speculating, run_type, config or POCKET))
        sys.stdout.write(msgspec.json.encode(measured).decode() if as_json else table(measured))
        sys.stdout.write("\n")
        return int(any(row.failed for row in measured.rows))

    return guarded(False, action)


def chosen(config: str | None, plain: str | None, port: int) -> tuple[Config, Config]:
    """Return the configuration without speculation in the engine, and the one with it.

    Without ``config`` they are those of the pocket models. Raises ``ConfigError`` if the first one speculates, if the
    second one does not, or if the two differ in their problems or limits.
    """
    speculating = pocket(port) if config is None else load_config(config)
    source = config or POCKET
    if speculation_of(speculating) is None:
        raise ConfigError(f"{source}: no table [models.target.server.speculation], so there is nothing to compare")
    if plain is None:
        tree: dict[str, Any] = msgspec.to_builtins(speculating)
        del tree["models"]["target"]["server"]["speculation"]
        return parse(tree, source), speculating
    other = load_config(plain)
    if speculation_of(other) is not None:
        raise ConfigError(f"--plain: the engine of {plain}'s target speculates as well: name one without it")
    for key in ("data", "limits", "sampling", "seed", "separator", "thresholds"):
        if getattr(other, key) != getattr(speculating, key):
            raise ConfigError(f"--plain: {key} differs between {plain} and {source}, so the runs cannot be compared")
    return other, speculating


def speculation_of(config: Config) -> SpeculationTable | None:
    """Return how the engine of the target speculates; None if it does not."""
    target = config.models.target
    server = target.server if isinstance(target, ServedTable) else None
    return server.speculation if server else None


def pocket(port: int) -> Config:
    """Return the pocket models behind vLLM on the CPU. The draft model also proposes tokens in the target's server."""
    servers: dict[str, dict[str, Any]] = {
        name: {"engine": "vllm", "path": f"pocket:{name}", "device": "cpu", "args": ["--max-num-seqs", "64"]}
        for name in ("draft", "target", "prm", "router")
    }
    proposer = {"algorithm": "draft_model", "model": resolved("pocket:draft"), "tokens": PROPOSED}
    servers["target"]["speculation"] = proposer
    changes: dict[str, dict[str, Any]] = {name: {"server": server} for name, server in servers.items()}
    for scorer in ("prm", "router"):
        changes[scorer]["scores"] = "vllm-classify"
    return behind_servers(load_config(POCKET), port, changes)


async def _measured(plain: Config, speculating: Config, run_type: RunType, source: str) -> Found:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("target", run_type):
            reference: Ran | None = None
            for speculates, config in enumerate((plain, speculating)):
                place = Path(folder) / f"{kind}-{speculates}"
                config = override(config, {"run_type": kind}, "--run-type")
                say(f"{kind}, {'with' if speculates else 'without'} speculation in the engine")
                ran, decoding = await _ran(config, source, place, bool(speculates))
                rows.append(_row(ran, bool(speculates), decoding, reference))
                reference = ran
    return Found(rows, gains(rows))


async def _ran(config: Config, source: str, folder: Path, speculates: bool) -> tuple[Ran, Decoding | None]:
    """Run the benchmark over its own servers; return the run and what the target's servers report."""
    called = config.called_tables().items()
    only = [name for name, table in called if isinstance(table, ServedTable) and table.server is not None]
    async with serving(config, source, folder / "logs", only) as fleet:
        ran = await solved(config, folder / "run")
        return ran, await _decoding(fleet.servers, speculates)


def _row(ran: Ran, speculates: bool, decoding: Decoding | None, reference: Ran | None) -> Row:
    summary = ran.summary
    return Row(
        run_type=summary.run_type,
        speculates=speculates,
        problems=summary.problems,
        failed=summary.failed,
        accuracy=summary.accuracy,
        latency=summary.latency.mean,
        wall=summary.wall_seconds,
        requests={model: calls.requests for model, calls in summary.requests.items()},
        tokens={model: one.kept + one.discarded for model, one in summary.tokens.items() if one.kept + one.discarded},
        decoding=decoding,
        different=len(differing(reference.solutions, ran.solutions)) if speculates and reference else None,
    )


async def _decoding(servers: Sequence[ServerProcess], speculates: bool) -> Decoding | None:
    """Return what the servers of the target report, over all replicas."""
    launches = [server.launch for server in servers if server.launch.place.endswith("models.target")]
    engines = [launch for launch in launches if launch.program in ("sglang", "vllm")]
    async with aiohttp.ClientSession() as session:
        return together([await _reported_by(session, launch, speculates) for launch in engines])


async def _reported_by(session: aiohttp.ClientSession, launch: Launch, speculates: bool) -> Decoding:
    try:
        async with session.get(f"{launch.address}/metrics") as answer:
            metrics = await answer.text()
        if launch.program != "sglang":
            return decoding_of("vllm", metrics, {}, speculates)
        async with session.get(f"{launch.address}/server_info") as answer:
            return decoding_of("sglang", metrics, await answer.json(), speculates)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BackendError(f"{launch.name} does not report its metrics: {error}") from error


def decoding_of(program: Program, metrics: str, info: dict[str, Any], speculates: bool) -> Decoding:
    """Parse an engine's page of ``metrics``, and for sglang its server ``info``."""
    written = figures(program, metrics).written or 0.0
    if not speculates:
        return Decoding(written, 1.0)
    if program == "sglang":
        lengths = [state.get("avg_spec_accept_length") for state in info.get("internal_states", [])]
        known = [float(length) for length in lengths if length]
        return Decoding(written, sum(known) / len(known) if known else None)
    drafts, accepted = (_sum(metrics, _VLLM.format(name)) for name in ("drafts", "accepted_tokens"))
    return Decoding(written, 1 + accepted / drafts if drafts else None)


def _sum(metrics: str, name: str) -> float:
    """Return the sum of a metric over all of its labels."""
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith((f"{name}{{", f"{name} ")))


def together(reports: Sequence[Decoding]) -> Decoding | None:
    """Return the total tokens of servers, and their tokens per pass weighted by passes; None without servers."""
    written = sum(one.written for one in reports)
    known = [(one.written, one.a_step) for one in reports if one.a_step and one.written]
    passes = sum(tokens / a_step for tokens, a_step in known)
    return Decoding(written, sum(tokens for tokens, _ in known) / passes if passes else None) if reports else None


def gains(rows: Sequence[Row]) -> Gains | None:
    """Return the gains of the four runs, which are in their order; None if a run has no latency."""
    times = [row.latency for row in rows]
    target, token, step, both = (time or 0.0 for time in times)
    if not all(times):
        return None
    return Gains(target / step, target / token, target / both, (target / step) * (target / token))


def table(measured: Found) -> str:
    """Return the rows as a table, and the gains in a line below it."""
    lines = [
        "| run | in the engine | accuracy | failed | seconds per problem | / first row | wall | requests "
        "| tokens written | target's tokens per pass | different transcripts |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = measured.rows[0].latency
    for row in measured.rows:
        cells = [
            row.run_type,
            "speculation" if row.speculates else "plain",
            percent(row.accuracy),
            f"{row.failed}",
            seconds(row.latency),
            seconds(row.latency / first if row.latency and first else None),
            seconds(row.wall),
            _listed(row.requests.items()),
            _listed(row.tokens.items()),
            seconds(row.decoding and row.decoding.a_step),
            NOTHING if row.different is None else f"{row.different} of {row.problems}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    one = measured.gains
    if one is not None:
        alone = f"step-level alone {one.step:.2f}, token-level alone {one.token:.2f}"
        lines.append(f"speed-up over the target alone: {alone}, both {one.both:.2f} (product {one.product:.2f})")
    return "\n".join(lines)


def _listed(parts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {number}" for name, number in parts) or NOTHING


if __name__ == "__main__":
    sys.exit(cyclopts.App(default_command=main, result_action="return_value")())
