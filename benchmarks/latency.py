"""The latency of one problem at a time, with and without drafting ahead, over simulated servers in virtual time.

    python benchmarks/latency.py [--problems 64] [--seed 0] [--json]

Draft 1.5B, router 1.5B and target 7B on an H100 each; one problem is in the ring at a time. While a step is scored the
next one can be drafted: of an accepted step the shorter of its score and the next draft can be hidden (``hideable``). A
pre-draft goes on while the target writes another step, for nothing, unless that has the same text (here it never has).
``hidden`` is the share of the hideable time that was hidden. Every run keeps the same steps; that is checked.
"""

import sys
from itertools import pairwise
from statistics import fmean
from typing import Annotated

import cyclopts
import msgspec
from cyclopts import Parameter

from actors.policies import LearnedRouter
from actors.supervision import services
from arbiter.replay.virtual import run_virtually
from arbiter.ring import Models, open_ring, solve_all
from arbiter.simulation.server import SimulatedGenerator, SimulatedScorer, SimulatedServer
from arbiter.simulation.speeds import speed_of
from arbiter.simulation.world import World, tokens_of
from protocols.ports import Scorer, Seat
from protocols.records import Predrafts, Scale, Solution

ACCEPTANCES = (0.5, 0.7, 0.9, 0.95)
LOOKAHEADS = (0, 1, 2)


class Reading(msgspec.Struct, frozen=True):
    """Mean latency in virtual seconds, and that of the sequential schedule divided by it."""

    acceptance: float
    lookahead: int
    latency: float
    faster: float
    hidden: float | None
    hits: int
    wasted_share: float


def main(problems: int = 64, seed: int = 0, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Measure each acceptance with each look-ahead."""
    readings = [one for acceptance in ACCEPTANCES for one in _measured(World(problems, acceptance, seed))]
    sys.stdout.write(msgspec.json.encode(readings).decode() if as_json else _told(readings))
    sys.stdout.write("\n")


def _measured(world: World) -> list[Reading]:
    runs = {lookahead: _solved(world, lookahead) for lookahead in LOOKAHEADS}
    sequential = runs[0]
    for solutions in runs.values():
        if _kept(solutions) != _kept(sequential):
            raise RuntimeError("looking ahead has changed a transcript")
    hideable = sum(map(_hideable, sequential))
    before = fmean(solution.seconds for solution in sequential)
    return [_reading(world, lookahead, runs[lookahead], before, hideable) for lookahead in LOOKAHEADS]


def _reading(world: World, lookahead: int, solutions: list[Solution], before: float, hideable: float) -> Reading:
    latency = fmean(solution.seconds for solution in solutions)
    ahead = sum((solution.predrafts for solution in solutions), Predrafts())
    drafted = sum(solution.calls["draft"].usage.completion_tokens for solution in solutions)
    return Reading(
        acceptance=world.acceptance,
        lookahead=lookahead,
        latency=round(latency, 6),
        faster=round(before / latency, 4),
        hidden=round((before - latency) * len(solutions) / hideable, 4) if lookahead else None,
        hits=ahead.hits,
        wasted_share=round(ahead.wasted_tokens / drafted, 4),
    )


def _solved(world: World, lookahead: int) -> list[Solution]:
    solutions: list[Solution] = []

    async def done(solution: Solution) -> None:
        solutions.append(solution)

    async def body() -> None:
        names = {"draft": "1.5B", "target": "7B", "router": "PRM-1.5B"}
        servers = {name: SimulatedServer(speed_of(model, "H100")) for name, model in names.items()}
        draft, target = (SimulatedGenerator(servers[name], world.write, tokens_of) for name in ("draft", "target"))
        scorers: dict[Scale, Seat[Scorer]] = {"router": Seat(SimulatedScorer(servers["router"], world.rate, tokens_of))}
        models = Models(draft=Seat(draft), target=Seat(target), scorers=scorers)
        async with services() as tasks:
            for server in servers.values():
                await tasks.start(server.run)
            async with open_ring(models, lookahead=lookahead) as ring:
                await solve_all(ring, world.tasks(LearnedRouter(0.5)), 1, done)

    run_virtually(body)
    return solutions


def _hideable(solution: Solution) -> float:
    """Seconds: of each accepted step that another one follows, the shorter of its score and the next draft."""
    return sum(
        min(step.draft.rating.seconds, following.draft.seconds)
        for step, following in pairwise(solution.steps)
        if step.kept.author == "draft" and step.draft and step.draft.rating and following.draft
    )


def _kept(solutions: list[Solution]) -> list[list[tuple[str, str]]]:
    return [[(step.kept.author, step.kept.text) for step in solution.steps] for solution in solutions]


def _told(readings: list[Reading]) -> str:
    lines = [
        "| acceptance | look-ahead | latency, s | sequential / this | hidden | used | wasted draft tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in readings:
        hidden = "" if one.hidden is None else f"{one.hidden:.1%}"
        start = f"| {one.acceptance:g} | {one.lookahead} | {one.latency:.3f} | {one.faster:.3f} "
        lines.append(f"{start}| {hidden} | {one.hits} | {one.wasted_share:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cyclopts.run(main)
