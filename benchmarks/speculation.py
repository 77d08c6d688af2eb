"""What step-level and token-level speculation gain, each alone and both together: four runs of the same problems.

    python benchmarks/speculation.py llama3-1b-8b-eagle3 [--limit 100] [--concurrency 16] [--json]
    python benchmarks/speculation.py                  # the pocket models, behind vLLM on the CPU

The target alone and the ring (``--run-type``), each with the target's server as the configuration has it, which says
how it speculates (``[models.target.server.speculation]``), and without: with the same configuration but for that table,
or with another one (``--plain llama3-1b-8b``).

Each run has servers of its own, which start for it as ``arbiter up`` starts them: no run finds in a cache what another
one left, and what an engine tells of itself is of this run. Seconds are those of a problem, the mean; gains say how
many times as fast as the plain target's. Greedy transcripts should be the same with and without speculation in the
engine; where they are not, it is counted. *Tokens a step* are those that one pass of the target brought for a request,
where it speculated: sglang's average over its life, without the up to 40 passes at the end that it has not yet counted,
and for vLLM 1 + accepted / drafts.
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
from arbiter.runs.reports.tables import NOTHING, percent, seconds
from arbiter.servers.engine_metrics import figures
from arbiter.servers.fleet import ServerProcess
from arbiter.servers.plan_types import Launch

PROPOSED = 3  # tokens that the pocket draft proposes at once
_VLLM = "vllm:spec_decode_num_{}_total"


class Decoding(msgspec.Struct, frozen=True):
    """What a target's servers tell: the tokens that they wrote, and those that one pass brought where they speculated
    (None where they do not tell, or wrote nothing so).
    """

    written: float
    a_step: float | None


class Row(msgspec.Struct, frozen=True):
    """A run; ``latency`` and ``wall`` are in seconds. ``decoding`` is None for engines that tell nothing, ``different``
    counts the problems whose steps are not those of the same run without speculation in the engine.
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
    """How many times as fast as the plain target alone, by the seconds of a problem; ``product`` is what both would be
    if neither took anything from the other.
    """

    step: float
    token: float
    both: float
    product: float


class Found(msgspec.Struct, frozen=True):
    """The four runs, and what came of them; no gains where no problem was solved."""

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

    ``concurrency`` is that of the configuration, if it is not set. ``port`` is for the pocket models. The exit status
    is 1 if a problem failed, and 2 for what cannot be run.
    """

    def action() -> int:
        show_notices()
        changes: dict[str, Any] = {"data": {"limit": limit}}
        changes |= {} if concurrency is None else {"limits": {"problems": concurrency}}
        pair = chosen(config, plain, port)
        plainly, speculating = (override(one, changes, "command line") for one in pair)
        found = anyio.run(partial(_measured, plainly, speculating, run_type, config or POCKET))
        sys.stdout.write(msgspec.json.encode(found).decode() if as_json else told(found))
        sys.stdout.write("\n")
        return int(any(row.failed for row in found.rows))

    return guarded(False, action)


def chosen(config: str | None, plain: str | None, port: int) -> tuple[Config, Config]:
    """The configuration without speculation in the engine, and the one with it; the pocket models' if none is named.

    Raises ``ConfigError`` if the two are not what they should be, or not about the same problems.
    """
    speculating = pocket(port) if config is None else load_config(config)
    source = config or POCKET
    if speculation_of(speculating) is None:
        raise ConfigError(f"{source}: there is no table [models.target.server.speculation], and so nothing to compare")
    if plain is None:
        tree: dict[str, Any] = msgspec.to_builtins(speculating)
        del tree["models"]["target"]["server"]["speculation"]
        return parse(tree, source), speculating
    other = load_config(plain)
    if speculation_of(other) is not None:
        raise ConfigError(f"--plain: the target of {plain} speculates in its engine as well: name one that does not")
    for key in ("data", "limits", "sampling", "seed", "separator", "thresholds"):
        if getattr(other, key) != getattr(speculating, key):
            raise ConfigError(f"--plain: {key} is another one in {plain} than in {source}: the runs would not be alike")
    return other, speculating


def speculation_of(config: Config) -> SpeculationTable | None:
    """How the engine of the target speculates, if it does."""
    target = config.models.target
    server = target.server if isinstance(target, ServedTable) else None
    return server.speculation if server else None


def pocket(port: int) -> Config:
    """The pocket models behind vLLM on the CPU, the draft proposing tokens inside the target's server as well."""
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
    """A run over servers of its own, and what those of the target tell."""
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
    """What the servers of the target tell, all replicas together."""
    launches = [server.launch for server in servers if server.launch.place.endswith("models.target")]
    engines = [launch for launch in launches if launch.program in ("sglang", "vllm")]
    async with aiohttp.ClientSession() as session:
        return together([await _told_by(session, launch, speculates) for launch in engines])


async def _told_by(session: aiohttp.ClientSession, launch: Launch, speculates: bool) -> Decoding:
    try:
        async with session.get(f"{launch.address}/metrics") as answer:
            metrics = await answer.text()
        if launch.program != "sglang":
            return decoding_of("vllm", metrics, {}, speculates)
        async with session.get(f"{launch.address}/server_info") as answer:
            return decoding_of("sglang", metrics, await answer.json(), speculates)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BackendError(f"{launch.name} does not tell what it did: {error}") from error


def decoding_of(program: Program, metrics: str, info: dict[str, Any], speculates: bool) -> Decoding:
    """What an engine's page of ``metrics`` tells, and for sglang its ``info``."""
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
    """A metric, all of its labels together."""
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith((f"{name}{{", f"{name} ")))


def together(told: Sequence[Decoding]) -> Decoding | None:
    """Of several servers the tokens of all, and the mean by passes; None of none."""
    written = sum(one.written for one in told)
    known = [(one.written, one.a_step) for one in told if one.a_step and one.written]
    passes = sum(tokens / a_step for tokens, a_step in known)
    return Decoding(written, sum(tokens for tokens, _ in known) / passes if passes else None) if told else None


def gains(rows: Sequence[Row]) -> Gains | None:
    """What came of the four runs, in their order."""
    times = [row.latency for row in rows]
    target, token, step, both = (time or 0.0 for time in times)
    if not all(times):
        return None
    return Gains(target / step, target / token, target / both, (target / step) * (target / token))


def told(found: Found) -> str:
    """The rows as a table, and the gains."""
    lines = [
        "| run | in the engine | accuracy | failed | seconds a problem | of the first | wall | requests "
        "| tokens written | target's tokens a step | other transcripts |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = found.rows[0].latency
    for row in found.rows:
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
    one = found.gains
    if one is not None:
        alone = f"step-level alone {one.step:.2f}, token-level alone {one.token:.2f}"
        lines.append(f"times as fast as the plain target: {alone}, both {one.both:.2f} (product {one.product:.2f})")
    return "\n".join(lines)


def _listed(parts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {number}" for name, number in parts) or NOTHING


if __name__ == "__main__":
    sys.exit(cyclopts.App(default_command=main, result_action="return_value")())
