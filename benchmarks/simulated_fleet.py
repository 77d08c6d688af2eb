"""Three simulated servers for one schedule, in virtual time: draft 1.5B, router 1.5B and target 7B, one H100 each."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

import anyio
import msgspec

from arbiter.actors.policies import LearnedRouter
from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.config.model_tables import PAUSING_GATHER, SERVED_SHARE
from arbiter.protocols.ports import Gather, Generation, GenerationRequest, ModelHandle, Score, ScoreRequest
from arbiter.protocols.records import Author, Candidate, Model, Step, Transcript
from arbiter.replay.virtual_time import run_virtually
from arbiter.runs.gathering_waits import GatheringWaits, gathering_waits
from arbiter.simulation.engine import EngineLoad, Speed
from arbiter.simulation.server import SimulatedGenerator, SimulatedScorer, SimulatedServer
from arbiter.simulation.speeds import speed_of
from arbiter.simulation.synthetic_workload import SyntheticWorkload, tokens_of

GPU = "H100"
MODELS: dict[Model, str] = {"draft": "1.5B", "router": "PRM-1.5B", "target": "7B"}
WRITERS: tuple[Author, ...] = ("draft", "target")
POLICY = LearnedRouter(0.5)
GATHER = Gather(PAUSING_GATHER, SERVED_SHARE)


class Found(msgspec.Struct, frozen=True):
    """The result of one schedule: virtual seconds, and what its servers and ring did."""

    makespan: float
    latency: float
    servers: dict[str, EngineLoad]
    gathering: GatheringWaits


class Fleet:
    """Three servers and their ports, for one schedule. Records when problems end and what they kept."""

    def __init__(self, world: SyntheticWorkload, running: int, mixed: bool) -> None:
        self.world = world
        self.mixed = mixed
        speeds: dict[Model, Speed] = {
            name: speed_of(model, GPU, running=running, mixed=mixed) for name, model in MODELS.items()
        }
        self.servers = {name: SimulatedServer(speed) for name, speed in speeds.items()}
        self._writers = {name: SimulatedGenerator(self.servers[name], world.write, tokens_of) for name in WRITERS}
        self._reader = SimulatedScorer(self.servers["router"], world.rate, tokens_of)
        self.ended: dict[str, float] = {}
        self.kept: dict[str, tuple[Step, ...]] = {}
        self.escalated: list[Candidate] = []

    def models(self, gather: Gather | None, grouped: bool) -> Models:
        """Return the models for the ring. Requests wait for slots in the ring, not in the server's queue."""
        running = self.servers["target"].speed.running
        return Models(
            draft=ModelHandle[Any](self, running, pauses=grouped),
            target=ModelHandle[Any](self, running, gather=gather, pauses=grouped),
            scorers={"router": ModelHandle[Any](self, self.world.problems)},
        )

    async def generate(self, request: GenerationRequest) -> Generation:
        return await self._writers[request.author].generate(request)

    async def score(self, request: ScoreRequest) -> Score:
        return await self._reader.score(request)

    @property
    def writes_blocks(self) -> bool:
        return True

    async def generate_block(self, request: GenerationRequest, steps: int) -> tuple[Generation, ...]:
        return await self._writers[request.author].generate_block(request, steps)

    @property
    def scores_blocks(self) -> bool:
        return True

    async def score_block(self, requests: tuple[ScoreRequest, ...]) -> tuple[Score, ...]:
        return await self._reader.score_block(requests)

    async def write(self, role: Author, problem: str, context: Transcript) -> Generation:
        """Make the same request as the ring does, for schedules without a ring."""
        step = len(context.steps)
        return await self.generate(
            GenerationRequest(problem, step, 0, role, context, "\n\n", self.world.step_tokens.most, 0.0, 1.0, 0)
        )

    async def accepts(self, made: Mapping[str, Generation], problem: str, context: Transcript) -> bool:
        """Let the router score the draft that was written for the problem, and return whether it is kept."""
        request = ScoreRequest(problem, len(context.steps), "router", context, made[problem].text, "draft", "\n\n")
        return (await self.score(request)).value <= POLICY.threshold

    def end(self, problem: str, steps: Iterable[Step]) -> None:
        self.ended[problem] = anyio.current_time()
        self.kept[problem] = tuple(steps)

    def found(self) -> Found:
        """Return the result of the schedule, once all problems have ended."""
        return Found(
            makespan=max(self.ended.values()),
            latency=fmean(self.ended.values()),
            servers={name: server.load for name, server in self.servers.items()},
            gathering=gathering_waits(self.escalated),
        )


def run_on(fleet: Fleet, schedule: Callable[[Fleet], Awaitable[None]]) -> None:
    """Run a schedule on the servers of ``fleet``, in virtual time."""

    async def body() -> None:
        async with services() as tasks:
            for server in fleet.servers.values():
                await tasks.start(server.run)
            await schedule(fleet)

    run_virtually(body)
