"""Compare policies, drafting ahead and verified escalation on the pocket models with the target alone.

    python benchmarks/models.py [--limit 40] [--seed 7] [--repeats 3] [--json]

Each row solves the same problems: one at a time, and all of them together (at most 128). The models run in process and,
if an interpreter with sglang is found (docs/how-to/start-servers.md), behind four sglang servers. The rounds are
interleaved. The fastest round of each row counts, because other work on the machine only adds time. Times are ratios to
the target alone in the same place with the same concurrency. Servers keep their prefix caches between rounds.

*Written* are the target's tokens without those of a draft that it agreed with. Rows that speculate must keep the same
steps as ``router``; problems in which they do not are counted.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from fleets import POCKET, SERVED, Ran, behind_servers, console, differing, serving, solved

from arbiter.config.config import Config, load_config, override
from arbiter.config.run_tables import RunType
from arbiter.protocols.errors import ConfigError
from arbiter.runs.reports.numbers import percent
from arbiter.runs.results import ModelCalls, ModelTokens
from arbiter.servers.interpreters import find_interpreter


class Variant(msgspec.Struct, frozen=True):
    """A row: a run type, the number of steps drafted ahead, and verified escalation."""

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
    """One row of the comparison.

    ``wall`` and ``latency`` (the mean) are ratios to the target alone. ``read`` are the target's prompt tokens that
    came from no cache. ``differing`` counts the problems whose steps differ from those of ``router``. ``wasted`` are
    the tokens of drafts written ahead and not used, without those of ``cancelled`` requests, which no server reports.
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


Rounds = dict[str, list[Ran]]


def main(
    *,
    limit: int = 40,
    seed: int = 7,
    repeats: int = 3,
    python: str | None = None,
    port: int = 30200,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Run ``limit`` pocket problems of ``seed`` in each row, ``repeats`` times.

    ``python`` is the interpreter with sglang; by default the one that ``arbiter up`` finds.
    """
    config = override(load_config(POCKET), {"data": {"source": f"pocket:{seed}", "limit": limit}}, "command line")
    compared = anyio.run(partial(_found, config, repeats, python, port))
    sys.stdout.write(msgspec.json.encode(compared).decode() if as_json else _table(compared))
    sys.stdout.write("\n")


async def _found(config: Config, repeats: int, python: str | None, port: int) -> Found:
    rows, skipped = await _rows("in process", config, repeats), None
    try:
        path = find_interpreter("sglang", python).path
    except ConfigError as error:
        skipped = f"over servers: skipped. {error}"
    else:
        rows += await _rows_over_servers(config, repeats, path, port)
    return Found(config.data.limit or 0, rows, skipped)


async def _rows_over_servers(config: Config, repeats: int, python: str, port: int) -> list[Row]:
    """Return the rows over servers, whose target verifies drafts."""
    verifies = {"verifies": "sglang", "tokenizer": "pocket:target"}
    there = behind_servers(config, port, {"target": verifies})
    chosen = {name: {"server": {"python": python}} for name in there.models.configured()}
    there = override(there, {"models": chosen}, "--python")
    with tempfile.TemporaryDirectory() as logs:
        async with serving(there, SERVED, Path(logs)):
            return await _rows("sglang", there, repeats)


async def _rows(place: str, config: Config, repeats: int) -> list[Row]:
    problems = config.data.limit or config.limits.problems
    levels = sorted({1, min(problems, config.limits.problems)})
    return [row for concurrency in levels for row in await _compared(place, config, concurrency, repeats)]


async def _compared(place: str, config: Config, concurrency: int, repeats: int) -> list[Row]:
    config = override(config, {"limits": {"problems": concurrency}}, "command line")
    rounds: Rounds = {variant.name: [] for variant in (*PLAIN, *SPECULATING)}
    for number in range(repeats):
        for variant in (*PLAIN, *SPECULATING):
            console.print(f"{place}, concurrency {concurrency}, round {number + 1}: {variant.name}", highlight=False)
            with tempfile.TemporaryDirectory() as folder:
                rounds[variant.name].append(await solved(_chosen(config, variant), Path(folder) / "run"))
    speculating = {variant.name for variant in SPECULATING}
    return [_row(place, concurrency, name, rounds, name in speculating) for name in rounds]


def _chosen(config: Config, variant: Variant) -> Config:
    changes = {"run_type": variant.run_type, "lookahead": variant.lookahead, "verify": variant.verify}
    return override(config, changes, variant.name)


def _row(place: str, concurrency: int, name: str, rounds: Rounds, speculates: bool) -> Row:
    summary = rounds[name][-1].summary
    target, draft = summary.tokens.get("target", ModelTokens()), summary.requests.get("draft", ModelCalls(0, 0, 0))
    plain = rounds["router"][0].solutions
    different = {problem for ran in rounds[name] for problem in differing(plain, ran.solutions)}
    wall, latency = _fastest(rounds, name)
    target_wall, target_latency = _fastest(rounds, "target")
    return Row(
        place=place,
        concurrency=concurrency,
        name=name,
        accuracy=summary.accuracy,
        acceptance=summary.acceptance_rate,
        written=target.kept + target.discarded - summary.verification.agreed,
        read=target.prompt - target.cached,
        wasted=summary.lookahead.wasted_tokens,
        cancelled=draft.cancelled,
        wall=round(wall / target_wall, 4),
        latency=round(latency / target_latency, 4),
        differing=len(different) if speculates else None,
    )


def _fastest(rounds: Rounds, name: str) -> tuple[float, float]:
    """Return the least wall time and the least mean latency of the rounds."""
    summaries = [ran.summary for ran in rounds[name]]
    return min(one.wall_seconds or 0.0 for one in summaries), min(one.latency.mean or 0.0 for one in summaries)


def _table(compared: Found) -> str:
    lines = [
        "| place | concurrency | run | accuracy | acceptance | target tokens: written / read | draft tokens wasted "
        "| wall / target's | latency / target's | different transcripts |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in compared.rows:
        start = f"| {one.place} | {one.concurrency} | {one.name} | {percent(one.accuracy)} | {percent(one.acceptance)} "
        wasted = f"{one.wasted} and {one.cancelled} cancelled" if one.cancelled else f"{one.wasted}"
        times = f"{one.wall:.2f} | {one.latency:.2f} | {'' if one.differing is None else one.differing}"
        lines.append(f"{start}| {one.written} / {one.read} | {wasted} | {times} |")
    return "\n".join([*lines, *([compared.skipped] if compared.skipped else [])])


if __name__ == "__main__":
    cyclopts.run(main)
