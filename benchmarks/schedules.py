"""Schedules of the same problems over the same simulated servers, in virtual time: who waits for whom, and how long.

    python benchmarks/schedules.py [--problems 256] [--acceptance 0.7] [--seed 0] [--running 64] [--mixed] \
        [--json]

All schedules have all problems at once, make their requests at three servers of their own (draft 1.5B, router 1.5B,
target 7B, an H100 each, at most ``running`` sequences together; ``mixed``: decoding goes on while a prompt is read),
and keep the same steps; that is checked.

- ``published``: rounds of the whole batch. All drafts, barrier; all scores, barrier; the target on *every* step,
  barrier; the scores of its steps, barrier.
- ``repaired``: the same rounds, with the target on rejected steps alone, whose steps are not scored.
- ``gather``: a plain loop for each problem, all of them at the same time.
- ``plain``: the ring, with as many places at draft and target as their servers have, given to older problems first. No
  step is drafted ahead, and the target writes each of its steps whole.
- ``ours``: the same with the defaults of a configuration: where it pays, the target is shown the rejected draft and
  writes only what it would not have written itself (``SyntheticWorkload.agreeing``).
- ``bound``: what no schedule of the same requests can beat (``arbiter.simulation.lower_bounds``).

See docs/explanation/performance.md for the parameters and results.
"""

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from statistics import fmean
from typing import Annotated, Any, TypeVar

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import LearnedRouter
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Score, ScoreRequest
from arbiter.protocols.records import Author, Model, Solution, Step, Transcript
from arbiter.replay.virtual_time import run_virtually
from arbiter.simulation.engine import EngineLoad, EngineWork, Speed
from arbiter.simulation.lower_bounds import Bounds
from arbiter.simulation.server import ServedRequest, SimulatedGenerator, SimulatedScorer, SimulatedServer
from arbiter.simulation.speeds import speed_of
from arbiter.simulation.synthetic_workload import SyntheticWorkload, tokens_of

GPU = "H100"
MODELS: dict[Model, str] = {"draft": "1.5B", "router": "PRM-1.5B", "target": "7B"}
_WRITERS: tuple[Author, ...] = ("draft", "target")
POLICY = LearnedRouter(0.5)

Answer = TypeVar("Answer")


class Found(msgspec.Struct, frozen=True):
    """Of a schedule: virtual seconds, the bounds of its own requests, and what its servers did."""

    makespan: float
    latency: float
    bound: float
    latency_bound: float
    servers: dict[str, EngineLoad]


class Fleet:
    """Three servers and their ports, used by one schedule; notes when problems end, and what their requests take."""

    def __init__(self, world: SyntheticWorkload, running: int, mixed: bool) -> None:
        self.world = world
        speeds: dict[Model, Speed] = {
            name: speed_of(model, GPU, running=running, mixed=mixed) for name, model in MODELS.items()
        }
        self.servers = {name: SimulatedServer(speed) for name, speed in speeds.items()}
        self._bounds = Bounds(speeds, world.problems)
        self._writers = {
            name: SimulatedGenerator(self.servers[name], world.write, tokens_of, partial(self._note, name))
            for name in _WRITERS
        }
        self._reader = SimulatedScorer(self.servers["router"], world.rate, tokens_of, partial(self._note, "router"))
        self.ended: dict[str, float] = {}
        self.kept: dict[str, tuple[Step, ...]] = {}

    def models(self) -> Models:
        """For the ring: whoever has to wait for a writer waits there, and not in the order of the server's queue."""
        writer, reader = (
            ModelHandle[Any](self, self.servers["target"].speed.running),
            ModelHandle[Any](self, self.world.problems),
        )
        return Models(draft=writer, target=writer, scorers={"router": reader})

    async def generate(self, request: GenerationRequest) -> Generation:
        return await self._writers[request.author].generate(request)

    async def score(self, request: ScoreRequest) -> Score:
        return await self._reader.score(request)

    async def write(self, role: Author, problem: str, context: Transcript) -> Generation:
        """For schedules without a ring: the same request as the ring's."""
        step = len(context.steps)
        return await self.generate(
            GenerationRequest(problem, step, 0, role, context, "\n\n", self.world.step_tokens.most, 0.0, 1.0, 0)
        )

    async def accepts(self, author: Author, made: Mapping[str, Generation], problem: str, context: Transcript) -> bool:
        """Have the router read the step that was made for the problem; whether it would be kept."""
        request = ScoreRequest(problem, len(context.steps), "router", context, made[problem].text, author, "\n\n")
        return (await self.score(request)).value <= POLICY.threshold

    def end(self, problem: str, steps: Iterable[Step]) -> None:
        self.ended[problem] = anyio.current_time()
        self.kept[problem] = tuple(steps)

    def found(self) -> Found:
        """What the schedule took, once all problems have ended."""
        return Found(
            makespan=max(self.ended.values()),
            latency=fmean(self.ended.values()),
            bound=self._bounds.makespan(self.world.problems),
            latency_bound=self._bounds.latency(),
            servers={name: server.load for name, server in self.servers.items()},
        )

    def _note(
        self, name: Model, request: GenerationRequest | ScoreRequest, work: EngineWork, served: ServedRequest
    ) -> None:
        self._bounds.add(name, request.problem, work, served.cached)


async def lock_step(fleet: Fleet, everywhere: bool) -> None:
    """Rounds with barriers; the target writes ``everywhere``, or where the draft was rejected."""
    running = {name: fleet.world.question(name) for name in fleet.world.names()}
    while running:
        drafts = await _all(running, partial(fleet.write, "draft"))
        kept = await _all(running, partial(fleet.accepts, "draft", drafts))
        asked = {name: context for name, context in running.items() if everywhere or not kept[name]}
        targets = await _all(asked, partial(fleet.write, "target"))
        if everywhere:
            await _all(asked, partial(fleet.accepts, "target", targets))
        for name, context in tuple(running.items()):
            made, role = (drafts[name], "draft") if kept[name] else (targets[name], "target")
            running[name] = context.extended(Step(made.text, role))
            if made.stop_reason == "end":
                fleet.end(name, running.pop(name).steps)


async def published(fleet: Fleet) -> None:
    """Lock-step, and the target writes every step."""
    await lock_step(fleet, everywhere=True)


async def repaired(fleet: Fleet) -> None:
    """Lock-step, and the target writes what was rejected."""
    await lock_step(fleet, everywhere=False)


async def gather(fleet: Fleet) -> None:
    """A loop for each problem."""

    async def solve(name: str, context: Transcript) -> None:
        ending = ""
        while ending != "end":
            made, role = await fleet.write("draft", name, context), "draft"
            if not await fleet.accepts("draft", {name: made}, name, context):
                made, role = await fleet.write("target", name, context), "target"
            context, ending = context.extended(Step(made.text, role)), made.stop_reason
        fleet.end(name, context.steps)

    await _all({name: fleet.world.question(name) for name in fleet.world.names()}, solve)


async def plain(fleet: Fleet) -> None:
    """The ring alone."""
    await _ring(fleet, "off")


async def ours(fleet: Fleet) -> None:
    """The ring as it is configured by default."""
    await _ring(fleet, "auto")


async def _ring(fleet: Fleet, verify: Verify) -> None:
    async def done(solution: Solution) -> None:
        fleet.end(solution.problem, (Step(step.kept.text, step.kept.author) for step in solution.steps))

    async with open_ring(fleet.models(), verify=verify) as ring:
        await solve_all(ring, fleet.world.tasks(POLICY), fleet.world.problems, done)


SCHEDULES = (published, repaired, gather, plain, ours)


async def _all(
    contexts: Mapping[str, Transcript], do: Callable[[str, Transcript], Awaitable[Answer]]
) -> dict[str, Answer]:
    """Do it for all problems at the same time, and wait for all."""
    answers: dict[str, Answer] = {}

    async def one(name: str, context: Transcript) -> None:
        answers[name] = await do(name, context)

    async with anyio.create_task_group() as tasks:
        for name, context in contexts.items():
            tasks.start_soon(one, name, context)
    return answers


def measure(world: SyntheticWorkload, running: int, mixed: bool) -> dict[str, Found]:
    """Run each schedule. Raises ``RuntimeError`` if two of them kept different steps."""
    fleets = {schedule.__name__: Fleet(world, running, mixed) for schedule in SCHEDULES}
    for schedule in SCHEDULES:
        _run(schedule, fleets[schedule.__name__])
        if fleets[schedule.__name__].kept != fleets["published"].kept:
            raise RuntimeError(f"{schedule.__name__} kept other steps than published")
    return {name: fleet.found() for name, fleet in fleets.items()}


def _run(schedule: Callable[[Fleet], Awaitable[None]], fleet: Fleet) -> None:
    async def body() -> None:
        async with services() as tasks:
            for server in fleet.servers.values():
                await tasks.start(server.run)
            await schedule(fleet)

    run_virtually(body)


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
    found = measure(SyntheticWorkload(problems, acceptance, seed), running, mixed)
    sys.stdout.write(msgspec.json.encode(_figures(found)).decode() if as_json else _told(found))
    sys.stdout.write("\n")


def _figures(found: dict[str, Found]) -> dict[str, Any]:
    own = found["ours"]
    others = {name: each for name, each in found.items() if name != "ours"}
    makespans = {name: each.makespan for name, each in others.items()} | {"bound": own.bound}
    latencies = {name: each.latency for name, each in others.items()} | {"bound": own.latency_bound}
    return {
        **{name: round(seconds / own.makespan, 4) for name, seconds in makespans.items()},
        "latency": {name: round(seconds / own.latency, 4) for name, seconds in latencies.items()},
        "ours": {
            "makespan": round(own.makespan, 6),
            "latency": round(own.latency, 6),
            "servers": {name: _served(load, own.makespan) for name, load in own.servers.items()},
        },
    }


def _served(load: EngineLoad, seconds: float) -> dict[str, Any]:
    counts = {name: round(value, 6) for name, value in msgspec.structs.asdict(load).items()}
    return counts | {"utilisation": round(load.utilisation(seconds), 4)}


def _told(found: dict[str, Found]) -> str:
    own = found["ours"]
    lines = [
        "| schedule | makespan, s | / ours | mean latency, s | / ours | makespan / its bound | target calls "
        "| busy: draft, router, target |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        busy = ", ".join(f"{load.utilisation(each.makespan):.0%}" for load in each.servers.values())
        times = (
            f"{each.makespan:.2f} | {each.makespan / own.makespan:.2f} | "
            f"{each.latency:.2f} | {each.latency / own.latency:.2f} | {each.makespan / each.bound:.2f}"
        )
        lines.append(f"| {name} | {times} | {each.servers['target'].requests} | {busy} |")
    bounds = f"{own.bound:.2f} | {own.bound / own.makespan:.2f} | "
    bounds += f"{own.latency_bound:.2f} | {own.latency_bound / own.latency:.2f}"
    return "\n".join([*lines, f"| bound of ours | {bounds} | | | |"])


if __name__ == "__main__":
    cyclopts.run(main)
