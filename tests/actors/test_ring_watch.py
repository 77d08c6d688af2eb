"""Watching a problem while it is solved."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Solution, StepRecord

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Script = Callable[[GenerationRequest], Generation]


@pytest.fixture
def watched(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> Callable[..., Solution]:
    """Solve a problem of three steps with ``watch``."""

    def solve(watch: Callable[[StepRecord], None]) -> Solution:
        solutions: list[Solution] = []

        async def body() -> None:
            async with open_ring(make_models(ScriptedGenerator(three_steps, seconds=1))) as ring:
                solutions.append(await ring.solve(a_task(), watch))

        in_virtual_time(body)
        return solutions[0]

    return solve


def test_who_watches_sees_each_step_once_in_its_order(watched: Callable[..., Solution]) -> None:
    seen: list[StepRecord] = []
    solution = watched(seen.append)
    assert len(seen) == 3
    assert tuple(seen) == solution.steps


def test_a_step_is_seen_before_the_next_one_is_asked_for(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    draft = ScriptedGenerator(three_steps, seconds=1)
    calls_so_far: list[int] = []

    async def body() -> None:
        async with open_ring(make_models(draft)) as ring:
            await ring.solve(a_task(), lambda _: calls_so_far.append(draft.calls))

    in_virtual_time(body)
    assert calls_so_far == [1, 2, 3]


def test_who_watches_and_fails_has_failed_the_problem(watched: Callable[..., Solution]) -> None:
    def fail(_: StepRecord) -> None:
        raise ValueError("I cannot look")

    solution = watched(fail)
    assert solution.finish_reason == "failed"
    assert "I cannot look" in str(solution.error)
