"""Closing a ring: waiting calls get an error, errors are raised unchanged, and no task is left."""

import gc
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.errors import ClosedError, ProblemError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Script = Callable[[GenerationRequest], Generation]


class Callers:
    """Calls ``solve`` and records how each call ended."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}

    async def call(self, ring: Ring, task: Task, name: str = "") -> None:
        try:
            self.ended[name or task.id] = (await ring.solve(task)).finish_reason
        except Exception as error:
            self.ended[name or task.id] = type(error).__name__


def test_solving_after_the_ring_is_closed_raises_closed_error(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    async def body() -> None:
        async with open_ring(make_models()) as ring:
            pass
        with pytest.raises(ClosedError, match="'p' was submitted after the ring was closed"):
            await ring.solve(a_task())

    in_virtual_time(body)


def test_a_caller_who_waits_when_the_ring_is_closed_gets_closed_error(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    draft = ScriptedGenerator(three_steps, seconds=10)

    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks, open_ring(make_models(draft)) as ring:
            for problem in ("p", "q"):
                tasks.start_soon(callers.call, ring, a_task(problem))
            await anyio.sleep(5)
        assert callers.ended == {"p": "ClosedError", "q": "ClosedError"}
        assert (draft.running, draft.cancelled) == (0, 2)

    in_virtual_time(body)


@pytest.mark.parametrize("moments", range(8))
def test_a_caller_at_a_full_door_gets_closed_error_as_well(
    moments: int, in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks, open_ring(make_models(), mailbox=1) as ring:
            for n in range(100):
                tasks.start_soon(callers.call, ring, a_task(str(n)))
            for _ in range(moments):
                await anyio.lowlevel.checkpoint()
        assert callers.ended == {str(n): "ClosedError" for n in range(100)}

    in_virtual_time(body)


@pytest.mark.parametrize(
    "error", [ValueError("mine"), ProblemError("mine"), ExceptionGroup("mine", [OSError()]), KeyboardInterrupt("mine")]
)
def test_an_error_of_the_caller_comes_out_as_itself(
    error: BaseException, in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    async def body() -> None:
        async with open_ring(make_models()) as ring:
            await ring.solve(a_task())
            raise error

    with pytest.raises(type(error)) as raised:
        in_virtual_time(body)
    assert raised.value is error


def test_an_error_of_the_caller_closes_the_ring_for_the_others(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    callers = Callers()

    async def break_off(tasks: TaskGroup) -> None:
        async with open_ring(make_models()) as ring:
            tasks.start_soon(callers.call, ring, a_task())
            await anyio.sleep(0.5)
            raise ValueError("mine")

    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            with pytest.raises(ValueError, match="mine"):
                await break_off(tasks)
        assert callers.ended == {"p": "ClosedError"}

    in_virtual_time(body)


@pytest.mark.slow
def test_a_closed_ring_leaves_no_stream_open(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    async def body() -> None:
        async with open_ring(Models(draft=make_models().draft)) as ring:
            await ring.solve(a_task())

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("ignore")
        gc.collect()  # ignore what earlier tests left
        warnings.simplefilter("always", ResourceWarning)
        in_virtual_time(body)
        gc.collect()
    assert [str(warning.message) for warning in warned] == []
