"""Compare schedules of the same problems over the same simulated servers, in virtual time.

    python benchmarks/schedules.py [--problems 256] [--acceptance 0.7] [--seed 0] [--running 64] [--mixed] \
        [--json]

Every schedule gets all problems at the same time and has three servers of its own: draft 1.5B, router 1.5B and target
7B, on one H100 each, with at most ``running`` sequences per server. With ``mixed``, a server continues to decode while
it reads a prompt. All schedules must keep the same steps; the program checks that.

- ``published``: rounds over the whole batch, each with four barriers: all drafts, all scores, the target on *every*
  step, and the scores of the target's steps.
- ``repaired``: the same rounds, but the target writes rejected steps only, and its steps are not scored.
- ``gather``: one plain loop per problem, all of them concurrently.
- ``plain``: the ring, with as many slots at draft and target as their servers have. Older problems get slots first. No
  step is drafted ahead, and the target writes each of its steps in full.
- ``ours``: the same with the defaults of a configuration. Where it pays, the target reads the rejected draft and writes
  only the rest of its own step (``SyntheticWorkload.agreeing``). Unless ``mixed``, escalations gather before they go to
  the target (``arbiter.actors.gathering``; ``benchmarks/gathering.py`` measures that alone).
- ``bound``: a lower bound for any schedule of the same requests (``arbiter.simulation.lower_bounds``).

docs/explanation/performance.md has the parameters and results.
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
from arbiter.config.model_tables import PAUSING_GATHER, SERVED_SHARE
from arbiter.protocols.ports import Gather, Generation, GenerationRequest, ModelHandle, Score, ScoreRequest
from arbiter.protocols.records import Author, Candidate, Model, Solution, Step, Transcript
from arbiter.replay.virtual_time import run_virtually
from arbiter.runs.gathering_waits import GatheringWaits, gathering_waits
from arbiter.simulation.engine import EngineLoad, EngineWork, Speed
from arbiter.simulation.lower_bounds import Bounds
from arbiter.simulation.server import ServedRequest, SimulatedGenerator, SimulatedScorer, SimulatedServer
from arbiter.simulation.speeds import speed_of
from arbiter.simulation.synthetic_workload import SyntheticWorkload, tokens_of

GPU = "H100"
MODELS: dict[Model, str] = {"draft": "1.5B", "router": "PRM-1.5B", "target": "7B"}
_WRITERS: tuple[Author, ...] = ("draft", "target")
POLICY = LearnedRouter(0.5)
GATHER = Gather(PAUSING_GATHER, SERVED_SHARE)

Answer = TypeVar("Answer")


class Found(msgspec.Struct, frozen=True):
    """The result of one schedule: virtual seconds, the bounds for its requests, and what its servers and ring did."""

    makespan: float
    latency: float
    bound: float
    latency_bound: float
    servers: dict[str, EngineLoad]
    gathering: GatheringWaits


class Fleet:
    """Three servers and their ports, for one schedule. Records when problems end and what their requests take."""

    def __init__(self, world: SyntheticWorkload, running: int, mixed: bool) -> None:
        self.world = world
        self.mixed = mixed
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
        self.escalated: list[Candidate] = []

    def models(self, gather: Gather | None) -> Models:
        """Return the models for the ring. Requests wait for slots in the ring, not in the server's queue."""
        running = self.servers["target"].speed.running
        return Models(
            draft=ModelHandle[Any](self, running),
            target=ModelHandle[Any](self, running, gather=gather),
            scorers={"router": ModelHandle[Any](self, self.world.problems)},
        )

    async def generate(self, request: GenerationRequest) -> Generation:
        return await self._writers[request.author].generate(request)

    async def score(self, request: ScoreRequest) -> Score:
        return await self._reader.score(request)

    async def write(self, role: Author, problem: str, context: Transcript) -> Generation:
        """Make the same request as the ring does, for schedules without a ring."""
        step = len(context.steps)
        return await self.generate(
            GenerationRequest(problem, step, 0, role, context, "\n\n", self.world.step_tokens.most, 0.0, 1.0, 0)
        )

    async def accepts(self, author: Author, made: Mapping[str, Generation], problem: str, context: Transcript) -> bool:
        """Let the router score the step that was written for the problem, and return whether it is kept."""
        request = ScoreRequest(problem, len(context.steps), "router", context, made[problem].text, author, "\n\n")
        return (await self.score(request)).value <= POLICY.threshold

    def end(self, problem: str, steps: Iterable[Step]) -> None:
        self.ended[problem] = anyio.current_time()
        self.kept[problem] = tuple(steps)

    def found(self) -> Found:
        """Return the result of the schedule, once all problems have ended."""
        return Found(
            makespan=max(self.ended.values()),
            latency=fmean(self.ended.values()),
            bound=self._bounds.makespan(self.world.problems),
            latency_bound=self._bounds.latency(),
            servers={name: server.load for name, server in self.servers.items()},
            gathering=gathering_waits(self.escalated),
        )

    def _note(
        self, name: Model, request: GenerationRequest | ScoreRequest, work: EngineWork, served: ServedRequest
    ) -> None:
        self._bounds.add(name, request.problem, work, served.cached)


async def lock_step(fleet: Fleet, everywhere: bool) -> None:
    """Solve in rounds with barriers; the target writes every step (``everywhere``) or the rejected ones."""
    running = {name: fleet.world.question(name) for name in fleet.world.names()}
    while running:
        drafts = await _all(running, partial(fleet.write, "draft"))
        kept = await _all(running, partial(fleet.accepts, "draft", drafts))
        escalated = {name: context for name, context in running.items() if everywhere or not kept[name]}
        targets = await _all(escalated, partial(fleet.write, "target"))
        if everywhere:
            await _all(escalated, partial(fleet.accepts, "target", targets))
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
            if not await fleet.accepts("draft", {name: made}, name, context):
                made, role = await fleet.write("target", name, context), "target"
            context, ending = context.extended(Step(made.text, role)), made.stop_reason
        fleet.end(name, context.steps)

    await _all({name: fleet.world.question(name) for name in fleet.world.names()}, solve)


async def plain(fleet: Fleet) -> None:
    """Solve with the ring alone."""
    await ring(fleet, "off", None)


async def ours(fleet: Fleet) -> None:
    """Solve with the ring as it is configured by default."""
    await ring(fleet, "auto", None if fleet.mixed else GATHER)


async def ring(fleet: Fleet, verify: Verify, gather: Gather | None) -> None:
    """Solve with the ring."""

    async def done(solution: Solution) -> None:
        fleet.escalated += [target for step in solution.steps for target in step.targets]
        fleet.end(solution.problem, (Step(step.kept.text, step.kept.author) for step in solution.steps))

    async with open_ring(fleet.models(gather), verify=verify) as opened:
        await solve_all(opened, fleet.world.tasks(POLICY), fleet.world.problems, done)


SCHEDULES = (published, repaired, gather, plain, ours)


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
    fleets = {schedule.__name__: Fleet(world, running, mixed) for schedule in SCHEDULES}
    for schedule in SCHEDULES:
        run_on(fleets[schedule.__name__], schedule)
        if fleets[schedule.__name__].kept != fleets["published"].kept:
            raise RuntimeError(f"{schedule.__name__} and published kept different steps")
    return {name: fleet.found() for name, fleet in fleets.items()}


def run_on(fleet: Fleet, schedule: Callable[[Fleet], Awaitable[None]]) -> None:
    """Run a schedule on the servers of ``fleet``, in virtual time."""

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
    results = measure(SyntheticWorkload(problems, acceptance, seed), running, mixed)
    sys.stdout.write(msgspec.json.encode(_figures(results)).decode() if as_json else table(results))
    sys.stdout.write("\n")


def _figures(results: dict[str, Found]) -> dict[str, Any]:
    own = results["ours"]
    others = {name: each for name, each in results.items() if name != "ours"}
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


def table(results: dict[str, Found]) -> str:
    """Return the results as a table in Markdown."""
    own = results["ours"]
    lines = [
        "| schedule | makespan, s | / ours | mean latency, s | / ours | makespan / its bound | target calls "
        "| busy: draft, router, target |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, each in results.items():
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
