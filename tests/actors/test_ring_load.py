"""A thousand problems: no task is left, and memory does not grow."""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import trio.lowlevel

from arbiter.actors.policies import RewardThreshold
from arbiter.actors.ring import Ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Solution, Usage

pytestmark = pytest.mark.slow

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Script = Callable[[GenerationRequest], Generation]

PROBLEMS = 1000
ALLOWED_GROWTH = (
    256 * 1024
)  # bytes; a thousand leaked solutions are megabytes, and a thousand leaked empty entries half a megabyte


class Batch:
    """Solve a thousand problems in a ring, and count them as they end."""

    def __init__(self, a_task: Tasks) -> None:
        self._a_task = a_task
        self.ended: Counter[str] = Counter()

    async def run(self, ring: Ring, first: int = 0) -> None:
        self.ended.clear()
        tasks = (self._a_task(str(n), policy=RewardThreshold(0.5)) for n in range(first, first + PROBLEMS))
        await solve_all(ring, tasks, 256, self._done)

    async def _done(self, solution: Solution) -> None:
        self.ended[f"{solution.problem} {solution.finish_reason}"] += 1


def every_other_is_weak(make_models: MakeModels, three_steps: Script) -> Models:
    return make_models(
        ScriptedGenerator(three_steps, seconds=1),
        ScriptedGenerator(three_steps, seconds=3),
        ScriptedScorer(lambda request: (int(request.problem) + request.step) % 2, seconds=0.5),
        in_flight=64,
    )


def test_every_one_of_a_thousand_problems_is_answered_once(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    batch = Batch(a_task)

    async def body() -> None:
        async with open_ring(every_other_is_weak(make_models, three_steps)) as ring:
            await batch.run(ring)

    in_virtual_time(body)
    assert batch.ended == Counter(f"{n} answered" for n in range(PROBLEMS))


def test_a_batch_leaves_no_task_behind_but_a_few_that_receive(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    living: list[int] = []

    def count() -> None:
        living.append(trio.lowlevel.current_statistics().tasks_living)

    async def body() -> None:
        count()
        async with open_ring(every_other_is_weak(make_models, three_steps)) as ring:
            count()
            await Batch(a_task).run(ring)
            await trio.testing.wait_all_tasks_blocked()
            count()
        count()

    in_virtual_time(body)
    before, opened, after, closed = living
    assert after <= opened + 3 * 16  # per actor that receives
    assert closed == before


def one_step(request: GenerationRequest) -> Generation:
    return Generation(f"{request.author} writes", "end", Usage(completion_tokens=2))


def test_the_same_thousand_ids_find_the_docket_empty_again(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    batch = Batch(a_task)

    async def body() -> None:
        async with open_ring(every_other_is_weak(make_models, one_step)) as ring:
            await batch.run(ring)
            await batch.run(ring)

    in_virtual_time(body)
    assert batch.ended == Counter(f"{n} answered" for n in range(PROBLEMS))


@pytest.mark.nightly
def test_a_second_thousand_takes_no_more_memory_than_the_first(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    batch, traced = Batch(a_task), list[int]()

    async def body() -> None:
        async with open_ring(every_other_is_weak(make_models, one_step)) as ring:
            tracemalloc.start()
            try:
                for first in (0, PROBLEMS):
                    await batch.run(ring, first)
                    gc.collect()
                    traced.append(tracemalloc.get_traced_memory()[0])
            finally:
                tracemalloc.stop()

    in_virtual_time(body)
    assert traced[1] - traced[0] < ALLOWED_GROWTH
