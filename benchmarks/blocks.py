"""Count the requests of the ring with and without blocks of steps, in virtual time.

    python benchmarks/blocks.py [--problems 128] [--acceptance 0.5,0.7,0.9] [--block 1,2,4,8] [--seed 0] [--json]

Models and servers are those of ``benchmarks/schedules.py``. The ring solves the same problems with each number of steps
that are drafted and scored together. All must keep the same steps as one step after the other; the program checks that.
Requests are counted per kept step. Times are divided by those of one step after the other.

docs/explanation/blocks.md has the results.
"""

import sys
from collections.abc import Iterable
from functools import partial

import cyclopts
import msgspec
from markdown_tables import markdown
from schedules import ring
from simulated_fleet import Fleet, run_on

from arbiter.protocols.records import Record
from arbiter.simulation.synthetic_workload import SyntheticWorkload


class BlockCounts(Record, frozen=True):
    """What the ring needed per kept step with ``block`` steps drafted and scored together.

    ``drafts``, ``scores`` and ``escalations`` are the requests to draft, router and target, and ``requests`` their sum.
    ``drafted`` are the tokens that the draft wrote. ``makespan`` and ``latency`` are divided by those of block 1.
    """

    acceptance: float
    block: int
    drafts: float
    scores: float
    escalations: float
    requests: float
    drafted: float
    makespan: float
    latency: float


def measure(world: SyntheticWorkload, blocks: tuple[int, ...]) -> list[BlockCounts]:
    """Run the ring for each of ``blocks``. Raises ``RuntimeError`` if one of them kept other steps than block 1."""
    alone = _run(world, 1)
    found: list[BlockCounts] = []
    for block in blocks:
        fleet = alone if block == 1 else _run(world, block)
        if fleet.kept != alone.kept:
            raise RuntimeError(f"blocks of {block} steps changed the steps")
        found.append(_counts(world, block, fleet, alone))
    return found


def _run(world: SyntheticWorkload, block: int) -> Fleet:
    fleet = Fleet(world, 64, mixed=True)
    run_on(fleet, partial(ring, models=fleet.models(None, grouped=False), verify="off", block=block))
    return fleet


def _counts(world: SyntheticWorkload, block: int, fleet: Fleet, alone: Fleet) -> BlockCounts:
    steps = sum(map(len, fleet.kept.values()))
    load = {name: server.load for name, server in fleet.servers.items()}
    each = [load[name].requests / steps for name in ("draft", "router", "target")]
    this, base = fleet.found(), alone.found()
    return BlockCounts(
        acceptance=world.acceptance,
        block=block,
        drafts=round(each[0], 3),
        scores=round(each[1], 3),
        escalations=round(each[2], 3),
        requests=round(sum(each), 3),
        drafted=round(load["draft"].decoded / steps, 1),
        makespan=round(this.makespan / base.makespan, 3),
        latency=round(this.latency / base.latency, 3),
    )


COLUMNS = (
    "acceptance",
    "block",
    "requests a step: draft, router, target",
    "all requests",
    "tokens of the draft a step",
    "makespan",
    "mean latency",
)


def rows() -> list[list[str]]:
    """Return the rows of the table in the documents, in the order of ``COLUMNS``."""
    return _cells(one for acceptance in (0.5, 0.7, 0.9) for one in _default(acceptance))


def _cells(found: Iterable[BlockCounts]) -> list[list[str]]:
    return [
        [
            f"{one.acceptance:g}",
            str(one.block),
            f"{one.drafts:.2f}, {one.scores:.2f}, {one.escalations:.2f}",
            f"{one.requests:.2f}",
            f"{one.drafted:.0f}",
            f"{one.makespan:.2f}",
            f"{one.latency:.2f}",
        ]
        for one in found
    ]


def _default(acceptance: float) -> list[BlockCounts]:
    return measure(SyntheticWorkload(128, acceptance), (1, 2, 4, 8))


def main(
    *,
    problems: int = 128,
    acceptance: str = "0.5,0.7,0.9",
    block: str = "1,2,4,8",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Print a table with a row per acceptance rate and block, or a list of objects in JSON."""
    blocks = tuple(map(int, block.split(",")))
    found = [
        one
        for rate in map(float, acceptance.split(","))
        for one in measure(SyntheticWorkload(problems, rate, seed), blocks)
    ]
    text = msgspec.json.encode(found).decode() if json else markdown(" | ".join(COLUMNS), _cells(found))
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    cyclopts.run(main)
