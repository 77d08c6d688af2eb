"""Real models: the pocket ones alone, by policy, and with drafting ahead and verified escalation; beside target-only.

    python benchmarks/models.py [--limit 40] [--seed 7] [--repeats 3] [--json]
    python benchmarks/models.py --python .sglang/bin/python     # and behind four sglang servers (benchmarks/servers.py)

The same problems in each row, one at a time and as many at once as there are (128 at most), in process and, if there is
an interpreter that has sglang, over HTTP. The rounds are interleaved and of each row the fastest counts, since
everything else on a machine only adds; times are ratios to target-only of the same place and concurrency. Servers keep
their prefix caches between rounds.

*Written* are the target's tokens without those that it only had to agree with. Rows that speculate should keep the same
steps as ``router``: it is counted where they do not.
"""

import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import msgspec
from cyclopts import Parameter
from servers import console, differing, served, solved, tables, wait_until_ready

from arbiter.config import Config, load_config, override, parse
from arbiter.model_tables import ModelTables
from arbiter.reports.tables import percent
from arbiter.results import ModelCalls, ModelTokens, Summary
from arbiter.run_tables import RunType
from protocols.records import Solution


class Variant(msgspec.Struct, frozen=True):
    """A row: a run type, and what it speculates."""

    name: str
    run_type: RunType
    lookahead: int = 0
    verify: str = "off"


PLAIN = (Variant("target", "target"), Variant("draft", "draft"), Variant("rsd", "rsd"), Variant("router", "router"))
SPECULATING = (
    Variant("router, ahead", "router", 1),
    Variant("router, verified", "router", 0, "on"),
    Variant("router, both", "router", 1, "on"),
)


class Row(msgspec.Struct, frozen=True):
    """``wall`` and ``latency`` (the mean) are ratios to target-only; ``read`` are the target's tokens out of no cache.

    ``differing`` counts the problems whose steps are not those of ``router``; ``wasted`` are the tokens of pre-drafts
    that were not used, but for those of the ``cancelled`` requests, which nobody tells.
    """

    place: str
    concurrency: int
    name: str
    accuracy: float | None
    acceptance: float | None
    written: int
    read: int
    wasted: int
    cancelled: int
    wall: float
    latency: float
    differing: int | None


class Found(msgspec.Struct, frozen=True):
    """All rows; ``skipped`` says why there are none over servers."""

    problems: int
    rows: list[Row]
    skipped: str | None


Rounds = dict[str, list[tuple[Summary, dict[str, Solution]]]]


def main(
    *,
    limit: int = 40,
    seed: int = 7,
    repeats: int = 3,
    python: Path = Path(".sglang/bin/python"),
    port: int = 30200,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Run ``limit`` pocket problems of ``seed`` in each row, ``repeats`` times."""
    config = override(load_config("pocket"), {"data": {"source": f"pocket:{seed}", "limit": limit}}, "command line")
    rows, skipped = _rows("in process", config, repeats), None
    if python.exists():
        with _behind_servers(config, python, port) as served_config:
            rows += _rows("sglang", served_config, repeats)
    else:
        skipped = f"over servers: skipped, there is no {python} (docs/servers.md, --python)"
    found = Found(limit, rows, skipped)
    sys.stdout.write(msgspec.json.encode(found).decode() if as_json else _told(found))
    sys.stdout.write("\n")


@contextmanager
def _behind_servers(config: Config, python: Path, port: int) -> Generator[Config]:
    """``config`` over servers that run until the block ends; the target checks proposals."""
    ports = {name: port + index for index, name in enumerate(ModelTables.__struct_fields__)}
    models = tables(ports, "http")
    models["target"]["verifies"] = "sglang"
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        logs = {name: Path(folder) / f"{name}.log" for name in ports}
        servers = {name: stack.enter_context(served(python, name, ports[name], logs[name])) for name in ports}
        for name, server in servers.items():
            wait_until_ready(name, server, ports[name], logs[name])
        tree: dict[str, Any] = msgspec.to_builtins(config)
        yield parse({**tree, "models": models}, "servers")


def _rows(place: str, config: Config, repeats: int) -> list[Row]:
    problems = config.data.limit or config.limits.problems
    at_once = sorted({1, min(problems, config.limits.problems)})
    return [row for concurrency in at_once for row in _compared(place, config, concurrency, repeats)]


def _compared(place: str, config: Config, concurrency: int, repeats: int) -> list[Row]:
    config = override(config, {"limits": {"problems": concurrency}}, "command line")
    rounds: Rounds = {variant.name: [] for variant in (*PLAIN, *SPECULATING)}
    for number in range(repeats):
        for variant in (*PLAIN, *SPECULATING):
            console.print(f"{place}, {concurrency} at once, round {number + 1}: {variant.name}", highlight=False)
            with tempfile.TemporaryDirectory() as folder:
                rounds[variant.name].append(solved(_chosen(config, variant), Path(folder) / "run"))
    speculating = {variant.name for variant in SPECULATING}
    return [_row(place, concurrency, name, rounds, name in speculating) for name in rounds]


def _chosen(config: Config, variant: Variant) -> Config:
    changes = {"run_type": variant.run_type, "lookahead": variant.lookahead, "verify": variant.verify}
    return override(config, changes, variant.name)


def _row(place: str, concurrency: int, name: str, rounds: Rounds, speculates: bool) -> Row:
    summary, _ = rounds[name][-1]
    target, draft = summary.tokens.get("target", ModelTokens()), summary.calls.get("draft", ModelCalls(0, 0, 0))
    plain = rounds["router"][0][1]
    different = {problem for _, solutions in rounds[name] for problem in differing(plain, solutions)}
    wall, latency = _fastest(rounds, name)
    target_wall, target_latency = _fastest(rounds, "target")
    return Row(
        place=place,
        concurrency=concurrency,
        name=name,
        accuracy=summary.accuracy,
        acceptance=summary.acceptance_rate,
        written=target.kept + target.discarded - summary.verified.agreed,
        read=target.prompt - target.cached,
        wasted=summary.predrafts.wasted_tokens,
        cancelled=draft.cancelled,
        wall=round(wall / target_wall, 4),
        latency=round(latency / target_latency, 4),
        differing=len(different) if speculates else None,
    )


def _fastest(rounds: Rounds, name: str) -> tuple[float, float]:
    """Wall time and mean latency."""
    summaries = [summary for summary, _ in rounds[name]]
    return min(one.wall_seconds or 0.0 for one in summaries), min(one.latency.mean or 0.0 for one in summaries)


def _told(found: Found) -> str:
    lines = [
        "| place | at once | run | accuracy | acceptance | target tokens: written / read | draft tokens wasted "
        "| wall / target's | latency / target's | other transcripts |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found.rows:
        start = f"| {one.place} | {one.concurrency} | {one.name} | {percent(one.accuracy)} | {percent(one.acceptance)} "
        wasted = f"{one.wasted} and {one.cancelled} cancelled" if one.cancelled else f"{one.wasted}"
        times = f"{one.wall:.2f} | {one.latency:.2f} | {'' if one.differing is None else one.differing}"
        lines.append(f"{start}| {one.written} / {one.read} | {wasted} | {times} |")
    return "\n".join([*lines, *([found.skipped] if found.skipped else [])])


if __name__ == "__main__":
    cyclopts.run(main)
