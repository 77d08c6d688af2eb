"""The same ring on asyncio, which production runs use."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from arbiter.actors.policies import (
    DraftOnly,
    GenerateRows,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from arbiter.actors.ring import Ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ScoreRequest
from arbiter.protocols.records import Sampling, Solution

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]
Script = Callable[[GenerationRequest], Generation]

EVERY_POLICY = [
    DraftOnly(),
    TargetOnly(),
    RandomEscalation(0.5),
    RewardThreshold(0.6),
    LearnedRouter(0.4),
    Oracle(0.0),
    GenerateRows(),
]


def at_once(make_models: MakeModels, script: Script) -> Models:
    scorers = (ScriptedScorer(lambda request: request.step / 4) for _ in range(2))
    return make_models(ScriptedGenerator(script), ScriptedGenerator(script), *scorers, in_flight=3)


@pytest.mark.asyncio
@pytest.mark.parametrize("policy", EVERY_POLICY)
@pytest.mark.slow
async def test_asyncio_and_trio_give_the_same_transcripts(
    policy: Policy, solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    tasks = [a_task(str(n), policy=policy, audit=0.5, sampling=Sampling(target_samples=2)) for n in range(10)]
    ended: list[Solution] = []

    async def done(solution: Solution) -> None:
        ended.append(solution)

    async with open_ring(at_once(make_models, three_steps), mailbox=1) as ring:
        await solve_all(ring, tasks, 4, done)
    on_trio = await asyncio.to_thread(solved, at_once(make_models, three_steps), tasks)
    assert {solution.problem: solution.text for solution in ended} == {
        solution.problem: solution.text for solution in on_trio
    }


class Stuck:
    """Sets ``reached`` when a request arrives, and never answers it."""

    def __init__(self) -> None:
        self.reached = anyio.Event()

    def seconds(self, _: GenerationRequest | ScoreRequest) -> float:
        self.reached.set()
        return 3600.0


@pytest.mark.asyncio
async def test_cancelling_a_solve_on_asyncio_ends_its_request(
    a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    stuck = Stuck()
    draft = ScriptedGenerator(three_steps, stuck.seconds)
    async with open_ring(make_models(draft)) as ring:
        solving = asyncio.create_task(ring.solve(a_task()))
        await stuck.reached.wait()
        solving.cancel()
        await asyncio.wait([solving])
        await anyio.wait_all_tasks_blocked()
        assert (solving.cancelled(), draft.running, draft.cancelled) == (True, 0, 1)


@pytest.mark.asyncio
async def test_closing_the_ring_on_asyncio_answers_who_waits(
    a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    stuck = Stuck()
    async with open_ring(make_models(ScriptedGenerator(three_steps, stuck.seconds))) as ring:
        solving = asyncio.create_task(ring.solve(a_task()))
        await stuck.reached.wait()
    with pytest.raises(ClosedError):
        await solving


@pytest.mark.asyncio
async def test_an_error_of_the_caller_on_asyncio_comes_out_as_itself(
    a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with open_ring(make_models()):
            raise ValueError("mine")
