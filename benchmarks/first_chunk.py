"""Measure the time to the first chunk of a streamed answer: steps or tokens, the router beside the target alone.

    python benchmarks/first_chunk.py [--problems 256] [--acceptance 0.7] [--seed 0] [--running 1,64]

Times are virtual. Draft, router and target have the same simulated servers in all runs, but only the router calls all
three (docs/explanation/performance.md). ``running`` is the number of problems in the ring at a time. The time of a
problem begins when it enters the ring. Escalations are not verified: one request replaces each rejected draft.
"""

import sys
from collections.abc import Iterator, Sequence
from statistics import median, quantiles

import anyio
import cyclopts
import msgspec
from markdown_tables import markdown

from arbiter.actors.policies import LearnedRouter, TargetOnly
from arbiter.actors.ring import Ring, open_ring
from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.config.serve_tables import StreamUnit
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import ModelHandle, Scorer
from arbiter.protocols.records import ScoreKind, StepPiece, StepRecord
from arbiter.replay.virtual_time import run_virtually
from arbiter.simulation.placement import Placement, placed
from arbiter.simulation.server import AnswerMeasure, SimulatedGenerator, SimulatedScorer, SimulatedServer
from arbiter.simulation.synthetic_workload import SyntheticWorkload, tokens_of

RUNS: dict[str, Policy] = {"router": LearnedRouter(0.5), "target alone": TargetOnly()}
UNITS: tuple[StreamUnit, ...] = ("steps", "tokens")
MODELS = {"draft": "1.5B", "router": "PRM-1.5B", "target": "7B"}


class Waits(msgspec.Struct, frozen=True):
    """The virtual seconds to the first chunk, and to the whole answer, of each problem."""

    first: list[float]
    whole: list[float]

    @property
    def p50(self) -> float:
        return median(self.first)

    @property
    def p95(self) -> float:
        return quantiles(self.first, n=20, method="inclusive")[-1]


def main(problems: int = 256, *, acceptance: float = 0.7, seed: int = 0, running: str = "1,64") -> None:
    """Print the table. Separate several numbers of concurrent problems by commas."""
    world = SyntheticWorkload(problems, acceptance, seed)
    sys.stdout.write(table(world, [int(number) for number in running.split(",")]) + "\n")


def table(world: SyntheticWorkload, running: Sequence[int]) -> str:
    """Return the waits of all runs as a table."""
    rows: list[list[str]] = []
    for number in running:
        for name, policy in RUNS.items():
            for unit in UNITS:
                waits = measure(world, policy, unit, number)
                figures = (waits.p50, waits.p95, median(waits.whole))
                rows.append([f"{number}", name, unit, *(f"{seconds:.3f}" for seconds in figures)])
    return markdown("running | run | stream | first chunk, s: p50 | p95 | whole answer, s: p50", rows)


def measure(
    world: SyntheticWorkload, policy: Policy, unit: StreamUnit, running: int, tokens: AnswerMeasure = tokens_of
) -> Waits:
    """Solve all problems, ``running`` at a time, and return their waits. ``tokens`` counts the tokens of a text."""
    waits = Waits([], [])
    places: dict[str, Placement] = {name: placed(model, "H100") for name, model in MODELS.items()}
    servers = {name: SimulatedServer(place.speed(running=64, mixed=False)) for name, place in places.items()}

    async def body() -> None:
        draft, target = (SimulatedGenerator(servers[name], world.write, tokens) for name in ("draft", "target"))
        scorers: dict[ScoreKind, ModelHandle[Scorer]] = {
            "router": ModelHandle(SimulatedScorer(servers["router"], world.rate, tokens))
        }
        models = Models(ModelHandle(draft, annotated=False), ModelHandle(target, annotated=False), scorers)
        waiting = iter(list(world.tasks(policy)))
        async with services() as tasks:
            for server in servers.values():
                await tasks.start(server.run)
            async with open_ring(models) as ring, anyio.create_task_group() as group:
                for _ in range(running):
                    group.start_soon(_solve_each, ring, waiting, unit, waits)

    run_virtually(body)
    return waits


async def _solve_each(ring: Ring, tasks: Iterator[Task], unit: StreamUnit, waits: Waits) -> None:
    """Solve one task after another, and note how long each waits for its first chunk and for its end."""
    for task in tasks:
        entered, chunks = anyio.current_time(), list[float]()

        def note(_chunk: StepPiece | StepRecord, chunks: list[float] = chunks) -> None:
            chunks.append(anyio.current_time())

        await ring.solve(task, note, note if unit == "tokens" else None)
        waits.first.append(chunks[0] - entered)
        waits.whole.append(anyio.current_time() - entered)


if __name__ == "__main__":
    cyclopts.run(main)
