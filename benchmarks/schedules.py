"""Compare schedules of the same problems over the same simulated servers, in virtual time.

    python benchmarks/schedules.py [--problems 256] [--acceptance 0.7] [--seed 0] [--running 64] [--mixed] \
        [--json]

Every schedule gets all problems at the same time and has three servers of its own: draft 1.5B, router 1.5B and target
7B, on one H100 each, with at most ``running`` sequences per server. With ``mixed``, a server continues to decode while
it reads a prompt. All schedules must keep the same steps; the program checks that.

- ``published``: rounds over the whole batch, each with three barriers: all drafts, all scores of drafts, and the target
  on *every* step. The published program does this when a router decides.
- ``repaired``: the same rounds, but the target writes rejected steps only.
- ``gather``: one plain loop per problem, all of them concurrently.
- ``plain``: the ring, with as many slots at draft and target as their servers have. Older problems get slots first. No
  step is drafted ahead, and the target writes each of its steps in full.
- ``ours``: the same with the defaults of a configuration. Where it pays, the target reads the rejected draft and writes
  only the rest of its own step (``SyntheticWorkload.agreeing``). Unless ``mixed``, escalations gather before they go to
  the target (``arbiter.actors.gathering``; ``benchmarks/gathering.py`` measures that alone), and slots are granted in
  groups (``arbiter.actors.slots``).
- ``one by one``: as ``ours``, but each slot is granted as soon as it is free.
- ``listed``: list scheduling with lengths known beforehand. It makes the requests of ``ours``, and the target reads
  every rejected draft. The problem with most seconds left gets slots first, one by one (``benchmarks/waiting.py``).
- ``listed, grouped``: the same with slots in groups.

The *best known* schedule is the one with the shortest makespan. docs/explanation/performance.md has the parameters and
results.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from markdown_tables import markdown
from simulated_fleet import GATHER, POLICY, Fleet, Found, run_on
from waiting import Waiting

from arbiter.actors.controllers import Verify
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.protocols.ports import Gather
from arbiter.protocols.records import Solution, Step, Transcript
from arbiter.simulation.engine import EngineLoad
from arbiter.simulation.synthetic_workload import SyntheticWorkload

Answer = TypeVar("Answer")
Schedule = Callable[[Fleet], Awaitable[None]]


async def lock_step(fleet: Fleet, everywhere: bool) -> None:
    """Solve in rounds with barriers; the target writes every step (``everywhere``) or the rejected ones."""
    running = {name: fleet.world.question(name) for name in fleet.world.names()}
    while running:
        drafts = await _all(running, partial(fleet.write, "draft"))
        kept = await _all(running, partial(fleet.accepts, drafts))
        escalated = {name: context for name, context in running.items() if everywhere or not kept[name]}
        targets = await _all(escalated, partial(fleet.write, "target"))
        for name, context in tuple(running.items()):
            made, role = (drafts[name], "draft") if kept[name] else (targets[name], "target")
            running[name] = context.extended(Step(made.text, role))
            if made.stop_reason == "end":
                fleet.end(name, running.pop(name).steps)


async def published(fleet: Fleet) -> None:
    """Solve in lock-step; the target writes every step."""
    await lock_step(fleet, everywhere=True)


async def repaired(fleet: Fleet) -> None:
    """Solve in lock-step; the target writes the rejected steps."""
    await lock_step(fleet, everywhere=False)


async def gather(fleet: Fleet) -> None:
    """Solve each problem in a loop of its own."""

    async def solve(name: str, context: Transcript) -> None:
        ending = ""
        while ending != "end":
            made, role = await fleet.write("draft", name, context), "draft"
            if not await fleet.accepts({name: made}, name, context):
                made, role = await fleet.write("target", name, context), "target"
            context, ending = context.extended(Step(made.text, role)), made.stop_reason
        fleet.end(name, context.steps)

    await _all({name: fleet.world.question(name) for name in fleet.world.names()}, solve)


async def plain(fleet: Fleet) -> None:
    """Solve with the ring alone."""
    await ring(fleet, fleet.models(None, grouped=False), "off")


async def ours(fleet: Fleet) -> None:
    """Solve with the ring as it is configured by default."""
    await ring(fleet, fleet.models(_gather(fleet), grouped=not fleet.mixed), "auto")


async def one_by_one(fleet: Fleet) -> None:
    """Solve with the ring, whose slots are not granted in groups."""
    await ring(fleet, fleet.models(_gather(fleet), grouped=False), "auto")


async def listed(fleet: Fleet, grouped: bool) -> None:
    """Solve with the ring; the problem with most seconds left gets slots first."""
    await ring(fleet, Waiting(fleet, grouped).models(_gather(fleet)), "on")


def _gather(fleet: Fleet) -> Gather | None:
    return None if fleet.mixed else GATHER


async def ring(fleet: Fleet, models: Models, verify: Verify, block: int = 1) -> None:
    """Solve with the ring. ``block`` steps are drafted and scored together."""

    async def done(solution: Solution) -> None:
        fleet.escalated += [target for step in solution.steps for target in step.targets]
        fleet.end(solution.problem, (Step(step.kept.text, step.kept.author) for step in solution.steps))

    async with open_ring(models, verify=verify, block=block) as opened:
        await solve_all(opened, fleet.world.tasks(POLICY), fleet.world.problems, done)


SCHEDULES: dict[str, Schedule] = {
    "published": published,
    "repaired": repaired,
    "gather": gather,
    "plain": plain,
    "ours": ours,
    "one by one": one_by_one,
    "listed": partial(listed, grouped=False),
    "listed, grouped": partial(listed, grouped=True),
}


async def _all(
    contexts: Mapping[str, Transcript], do: Callable[[str, Transcript], Awaitable[Answer]]
) -> dict[str, Answer]:
    """Call ``do`` for all problems concurrently, and wait for all of them."""
    answers: dict[str, Answer] = {}

    async def one(name: str, context: Transcript) -> None:
        answers[name] = await do(name, context)

    async with anyio.create_task_group() as tasks:
        for name, context in contexts.items():
            tasks.start_soon(one, name, context)
    return answers


def measure(world: SyntheticWorkload, running: int, mixed: bool) -> dict[str, Found]:
    """Run each schedule and return the results by name. Raises ``RuntimeError`` if two kept different steps."""
    fleets = {name: Fleet(world, running, mixed) for name in SCHEDULES}
    for name, schedule in SCHEDULES.items():
        run_on(fleets[name], schedule)
        if fleets[name].kept != fleets["published"].kept:
            raise RuntimeError(f"{name} and published kept different steps")
    return {name: fleet.found() for name, fleet in fleets.items()}


def best_known(results: Mapping[str, Found]) -> str:
    """Return the name of the schedule with the shortest makespan."""
    return min(results, key=lambda name: results[name].makespan)


def main(
    *,
    problems: int = 256,
    acceptance: float = 0.7,
    seed: int = 0,
    running: int = 64,
    mixed: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Compare the schedules on ``problems`` problems whose drafts are kept with probability ``acceptance``."""
    results = measure(SyntheticWorkload(problems, acceptance, seed), running, mixed)
    sys.stdout.write(msgspec.json.encode(_figures(results)).decode() if as_json else table(results))
    sys.stdout.write("\n")


def _figures(results: dict[str, Found]) -> dict[str, Any]:
    own = results["ours"]
    others = {name: each for name, each in results.items() if name != "ours"}
    return {
        **{name: round(each.makespan / own.makespan, 4) for name, each in others.items()},
        "latency": {name: round(each.latency / own.latency, 4) for name, each in others.items()},
        "best_known": best_known(results),
        "schedules": {
            name: {
                "makespan": round(each.makespan, 6),
                "latency": round(each.latency, 6),
                "servers": {role: _served(load, each.makespan) for role, load in each.servers.items()},
            }
            for name, each in results.items()
        },
    }


def _served(load: EngineLoad, seconds: float) -> dict[str, Any]:
    counts = {name: round(value, 6) for name, value in msgspec.structs.asdict(load).items()}
    return counts | {"utilisation": round(load.utilisation(seconds), 4)}


def table(results: dict[str, Found]) -> str:
    """Return the results as a table in Markdown."""
    own, best = results["ours"], best_known(results)
    rows = [
        (
            name,
            f"{each.makespan:.2f}",
            f"{each.makespan / own.makespan:.2f}",
            f"{each.latency:.2f}",
            f"{each.latency / own.latency:.2f}",
            each.servers["target"].requests,
            ", ".join(f"{load.utilisation(each.makespan):.0%}" for load in each.servers.values()),
        )
        for name, each in results.items()
    ]
    header = "schedule | makespan, s | / ours | mean latency, s | / ours | target calls | busy: draft, router, target"
    ratio = own.makespan / results[best].makespan
    return f"{markdown(header, rows)}\n\nBest known: {best}. Makespan of ours / best known: {ratio:.2f}"


if __name__ == "__main__":
    cyclopts.run(main)
