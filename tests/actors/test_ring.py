"""``Ring.solve``: which tasks it accepts, and how a call ends."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio
import anyio.lowlevel
import msgspec
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
from arbiter.actors.ring import open_ring as open_built_in_ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Solution

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


def test_cancelling_one_solve_ends_its_request_at_the_model(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    draft = ScriptedGenerator(three_steps, seconds=10)

    async def body() -> None:
        async with open_ring(make_models(draft)) as ring:
            with anyio.move_on_after(5):
                await ring.solve(a_task())
            await anyio.wait_all_tasks_blocked()
            assert (draft.cancelled, draft.running, draft.calls) == (1, 0, 1)

    in_virtual_time(body)


def test_cancelling_one_solve_touches_no_other_problem(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, three_steps: Script, open_ring: OpenRing
) -> None:
    draft = ScriptedGenerator(three_steps, seconds=10)

    async def leave(ring: Ring) -> None:
        with anyio.move_on_after(5):
            await ring.solve(a_task("leaves"))

    async def body() -> None:
        async with open_ring(make_models(draft)) as ring, anyio.create_task_group() as tasks:
            tasks.start_soon(leave, ring)
            solution = await ring.solve(a_task("stays"))
            assert (solution.finish_reason, solution.seconds) == ("answered", 30)
            assert draft.cancelled == 1

    in_virtual_time(body)


@pytest.mark.parametrize("policy", [DraftOnly(), RewardThreshold(0.6), LearnedRouter(0.4), GenerateRows()])
@pytest.mark.parametrize("seconds", [0.5, 1.5, 2.5])
def test_cancelling_the_whole_leaves_nothing_running(
    policy: Policy,
    seconds: float,
    in_virtual_time: Virtual,
    a_task: Tasks,
    make_models: MakeModels,
    three_steps: Script,
    open_ring: OpenRing,
) -> None:
    generators = [ScriptedGenerator(three_steps, seconds=1) for _ in range(2)]
    scorers = [ScriptedScorer(lambda _: 0.5, seconds=1) for _ in range(2)]

    async def ignore(solution: Solution) -> None:
        raise AssertionError(solution)

    async def body() -> None:
        with anyio.move_on_after(seconds) as scope:
            async with open_ring(make_models(*generators, *scorers), mailbox=1) as ring:
                await solve_all(ring, [a_task(str(n), policy=policy) for n in range(20)], 20, ignore)
        assert scope.cancelled_caught
        assert sum(model.calls for model in (*generators, *scorers)) >= 20
        assert sum(model.running for model in (*generators, *scorers)) == 0

    in_virtual_time(body)


@pytest.mark.parametrize("moments", range(12))
def test_a_problem_that_was_cancelled_can_be_solved_again_at_once(
    moments: int,
    in_virtual_time: Virtual,
    a_task: Tasks,
    make_models: MakeModels,
    three_steps: Script,
    open_ring: OpenRing,
) -> None:
    """``moments`` after the draft is written, its step is on the way between two actors."""
    written = anyio.Event()

    def script(request: GenerationRequest) -> Generation:
        written.set()
        return three_steps(request)

    async def leave(scope: anyio.CancelScope) -> None:
        await written.wait()
        for _ in range(moments):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async def body() -> None:
        async with (
            open_ring(make_models(ScriptedGenerator(script, seconds=1))) as ring,
            anyio.create_task_group() as tasks,
        ):
            with anyio.CancelScope() as scope:
                tasks.start_soon(leave, scope)
                await ring.solve(a_task(policy=RewardThreshold(0.5)))
            again = await ring.solve(a_task(policy=RewardThreshold(0.5)))
            assert (again.error, again.finish_reason, len(again.steps), again.seconds) == (None, "answered", 3, 6)

    in_virtual_time(body)


@pytest.mark.parametrize("moments", range(12))
def test_a_second_call_at_the_end_of_the_first_is_refused_or_solved(
    moments: int,
    in_virtual_time: Virtual,
    a_task: Tasks,
    make_models: MakeModels,
    three_steps: Script,
    open_ring: OpenRing,
) -> None:
    ending = anyio.Event()

    def script(request: GenerationRequest) -> Generation:
        if request.step == 2:
            ending.set()
        return three_steps(request)

    async def body() -> None:
        callers = Callers()
        async with open_ring(make_models(ScriptedGenerator(script))) as ring, anyio.create_task_group() as tasks:
            tasks.start_soon(callers.call, ring, a_task(), "first")
            await ending.wait()
            for _ in range(moments):
                await anyio.lowlevel.checkpoint()
            with anyio.move_on_after(1000):
                await callers.call(ring, a_task(), "second")
        assert callers.ended["first"] == "answered"
        assert callers.ended.get("second") in {"answered", "ProblemError"}

    in_virtual_time(body)


def test_the_same_id_twice_at_once_is_a_problem_error(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    async def body() -> None:
        callers = Callers()
        async with open_ring(make_models()) as ring:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(callers.call, ring, a_task(), "first")
                await anyio.sleep(0.5)
                tasks.start_soon(callers.call, ring, a_task(), "second")
            assert callers.ended == {"first": "answered", "second": "ProblemError"}

    in_virtual_time(body)


def test_the_same_id_can_be_solved_again_after_its_end(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    async def body() -> None:
        async with open_ring(make_models()) as ring:
            first = await ring.solve(a_task())
            second = await ring.solve(a_task())
            assert first == second

    in_virtual_time(body)


@pytest.mark.parametrize(
    ("policy", "missing", "audit"),
    [
        (DraftOnly(), "draft", 0.0),
        (TargetOnly(), "target", 0.0),
        (RandomEscalation(0.5), "draft", 0.0),
        (RandomEscalation(0.5), "target", 0.0),
        (RandomEscalation(0.5), "prm", 0.1),
        (RewardThreshold(0.5), "draft", 0.0),
        (RewardThreshold(0.5), "target", 0.0),
        (RewardThreshold(0.5), "prm", 0.0),
        (LearnedRouter(0.5), "router", 0.0),
        (LearnedRouter(0.5), "prm", 0.1),
        (Oracle(0.0), "target", 0.0),
        (Oracle(0.0), "prm", 0.0),
        (GenerateRows(), "draft", 0.0),
    ],
)
def test_a_missing_model_is_a_config_error_before_any_call(
    policy: Policy, missing: str, audit: float,
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, three_steps: Script,
) -> None:  # fmt: skip
    generators = [ScriptedGenerator(three_steps) for _ in range(2)]
    scorers = [ScriptedScorer(lambda _: 0.5) for _ in range(2)]
    there = make_models(*generators, *scorers)
    if missing in {"draft", "target"}:
        models = msgspec.structs.replace(there, **{missing: None})
    else:
        models = msgspec.structs.replace(
            there, scorers={k: handle for k, handle in there.scorers.items() if k != missing}
        )

    async def body() -> None:
        async with open_built_in_ring(models) as ring:
            with pytest.raises(ConfigError, match=rf"\[models\.{missing}\]"):
                await ring.solve(a_task(policy=policy, audit=audit))

    in_virtual_time(body)
    assert [model.calls for model in (*generators, *scorers)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [(DraftOnly(), {"draft"}), (TargetOnly(), {"target"}), (LearnedRouter(0.4), {"draft", "target"})],
)
def test_a_model_that_the_rule_does_not_call_may_be_missing(
    policy: Policy,
    kept: set[str],
    in_virtual_time: Virtual,
    a_task: Tasks,
    make_models: MakeModels,
    open_ring: OpenRing,
) -> None:
    there = make_models()
    models = Models(
        draft=there.draft if "draft" in kept else None,
        target=there.target if "target" in kept else None,
        scorers={score_kind: handle for score_kind, handle in there.scorers.items() if score_kind == policy.score_kind},
    )

    async def body() -> None:
        async with open_ring(models) as ring:
            assert (await ring.solve(a_task(policy=policy))).finish_reason == "answered"

    in_virtual_time(body)
