"""Escalations gather before they go to a target: the rule, what it holds, and what it must not change."""

import hashlib
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.gathering import releases
from arbiter.actors.journal import NoJournal
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
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import CallGenerated
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Gather, Generation, GenerationRequest, Generator, ModelHandle, ScoreRequest
from arbiter.protocols.records import FinishReason, Gathered, Limits, Sampling, Solution, Target, Usage
from tests.hypothesis_profiles import examples

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Tasks = Callable[..., Task]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]

ALL_REJECTED = RandomEscalation(1.0)
HALF_REJECTED = RandomEscalation(0.5)
BOUND = Gather(10.0)


@pytest.mark.parametrize(
    ("held", "running", "problems", "age", "bound", "released"),
    [
        (1, 0, 1, 0.0, Gather(9.0), True),  # the only problem
        (1, 0, 2, 0.0, Gather(9.0), False),
        (2, 3, 5, 0.0, Gather(9.0), True),  # no other problem can join
        (2, 3, 6, 0.0, Gather(9.0), False),
        (1, 0, 64, 9.0, Gather(9.0), True),  # at the bound
        (1, 0, 64, 8.9, Gather(9.0), False),
        (1, 0, 64, 0.0, Gather(0.0), True),
        (1, 0, 64, 0.0, Gather(9.0, 0.25), True),  # a target with a share never idles
        (1, 4, 64, 0.0, Gather(9.0, 0.25), True),
        (1, 5, 64, 0.0, Gather(9.0, 0.25), False),
        (9, 1, 64, 0.0, Gather(9.0), False),  # without a share, a number alone releases nothing
    ],
)
def test_escalations_go_at_the_bound_or_the_share_or_when_nothing_can_join(
    held: int, running: int, problems: int, age: float, bound: Gather, released: bool
) -> None:
    assert releases(held, running, problems, age, bound) is released


@given(
    held=st.integers(1, 99),
    running=st.integers(0, 99),
    others=st.integers(0, 99),
    age=st.floats(0, 9),
    more=st.integers(1, 9),
    share=st.none() | st.floats(0, 2),
)
def test_more_escalations_and_more_age_never_hold_what_would_go(
    held: int, running: int, others: int, age: float, more: int, share: float | None
) -> None:
    rule, problems = partial(releases, bound=Gather(5.0, share)), held + running + others
    if rule(held, running, problems, age):
        assert rule(held, running, problems, age + more)
        assert rule(held + more, running, problems + more, age)
        assert rule(held, running, max(problems - more, held + running), age)


@pytest.mark.parametrize(("seconds", "share"), [(-1.0, None), (float("inf"), None), (float("nan"), None), (1.0, -0.1)])
def test_a_bound_below_0_or_without_end_is_refused(seconds: float, share: float | None) -> None:
    with pytest.raises(ConfigError, match="must be numbers of 0 or more"):
        Gather(seconds, share)


class World:
    """A ring of scripted models that records when its target is called: ``(problem, step, second)``.

    The draft of a problem takes as many seconds as its name says, and the target 1.
    """

    def __init__(
        self,
        in_virtual_time: Virtual,
        open_ring: OpenRing,
        gather: Gather | None = BOUND,
        in_flight: int = 100,
        steps: int = 1,
    ) -> None:
        self._in_virtual_time = in_virtual_time
        self._open_ring = open_ring
        self._steps = steps
        self.called: list[tuple[str, int, float]] = []
        target = ScriptedGenerator(self._write, 1.0)
        handle = ModelHandle[Generator](_Noted(target, self.called), in_flight, gather=gather)
        draft = ModelHandle[Generator](ScriptedGenerator(self._write, self._draft_seconds))
        scorer = ModelHandle(ScriptedScorer(lambda request: float(request.author == "target")))
        self.models = Models(draft, handle, {"prm": scorer, "router": scorer}, {"small": handle, "large": handle})

    def solve(self, *tasks: Task, concurrency: int = 100, journal: NoJournal | None = None) -> dict[str, Solution]:
        solutions: dict[str, Solution] = {}

        async def done(solution: Solution) -> None:
            solutions[solution.problem] = solution

        async def body(ring: Ring) -> None:
            await solve_all(ring, tasks, concurrency, done)

        self.run(body, journal)
        return solutions

    def run(self, body: Callable[[Ring], Awaitable[None]], journal: NoJournal | None = None) -> None:
        async def opened() -> None:
            async with self._open_ring(self.models, 1, journal=journal) as ring:
                await body(ring)

        self._in_virtual_time(opened)

    def starts(self) -> list[tuple[str, float]]:
        return sorted((problem, second) for problem, _, second in self.called)

    def _write(self, request: GenerationRequest) -> Generation:
        ending = "end" if request.step == self._steps - 1 else "separator"
        return Generation(f"{request.author} {request.step}", ending, Usage(completion_tokens=3))

    def _draft_seconds(self, request: GenerationRequest | ScoreRequest) -> float:
        return float(request.problem)


class _Noted:
    """A generator that notes when its requests start, before it passes them on."""

    def __init__(self, generator: ScriptedGenerator, called: list[tuple[str, int, float]]) -> None:
        self._generator = generator
        self._called = called

    async def generate(self, request: GenerationRequest) -> Generation:
        self._called.append((request.problem, request.step, round(anyio.current_time(), 6)))  # the clock starts at 0
        return await self._generator.generate(request)


def test_escalations_reach_the_target_together_when_every_problem_waits_for_it(
    in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring)
    solutions = world.solve(*(a_task(name, policy=ALL_REJECTED) for name in ("1", "3", "4")))
    assert world.starts() == [("1", 4.0), ("3", 4.0), ("4", 4.0)]
    gathered = {name: solution.steps[0].kept.gathered for name, solution in solutions.items()}
    assert gathered == {"1": Gathered(3.0, 3), "3": Gathered(1.0, 3), "4": Gathered(0.0, 3)}


def test_no_escalation_is_held_longer_than_the_bound(
    in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring, Gather(2.0))
    world.solve(*(a_task(name, policy=ALL_REJECTED) for name in ("1", "2", "4", "50")))
    assert world.starts() == [("1", 3.0), ("2", 3.0), ("4", 6.0), ("50", 50.0)]


def test_a_share_of_those_at_the_target_is_enough(in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing) -> None:
    world = World(in_virtual_time, open_ring, Gather(10.0, 1.0))
    world.solve(*(a_task(name, policy=ALL_REJECTED) for name in ("1", "1.2", "1.4", "1.5", "50")))
    # the first finds an idle target, the second equals the one that runs, the others are two for two
    assert world.starts() == [("1", 1.0), ("1.2", 1.2), ("1.4", 1.5), ("1.5", 1.5), ("50", 50.0)]


def test_the_only_problem_of_a_ring_is_never_held(in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing) -> None:
    world = World(in_virtual_time, open_ring, steps=3)
    [solution] = world.solve(a_task("1", policy=ALL_REJECTED)).values()
    assert solution.seconds == pytest.approx(3 * (1.0 + 1.0))
    assert [step.kept.gathered for step in solution.steps] == [None, None, None]


@pytest.mark.parametrize("policy", [TargetOnly(), Oracle(0.0), GenerateRows()])
def test_requests_that_are_no_escalations_are_never_held(
    in_virtual_time: Virtual, a_task: Tasks, policy: Policy, open_ring: OpenRing
) -> None:
    sampling = Sampling(0.5, target_samples=2)
    world = World(in_virtual_time, open_ring)
    solutions = world.solve(*(a_task(name, policy=policy, sampling=sampling) for name in ("1", "50")))
    assert {second for _, second in world.starts()} == {0.0}
    assert all(one.gathered is None for solution in solutions.values() for one in solution.steps[0].targets)


@pytest.mark.parametrize("gather", [None, Gather(0.0)])
def test_without_a_bound_nothing_is_held(
    in_virtual_time: Virtual, a_task: Tasks, gather: Gather | None, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring, gather)
    world.solve(*(a_task(name, policy=ALL_REJECTED) for name in ("1", "3")))
    assert world.starts() == [("1", 1.0), ("3", 3.0)]


def test_the_others_do_not_wait_for_a_problem_that_ends_without_an_escalation(
    in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring)
    world.solve(*(a_task(name, policy=ALL_REJECTED) for name in ("1", "2")), a_task("4", policy=RandomEscalation(0.0)))
    assert world.starts() == [("1", 4.0), ("2", 4.0)]


@pytest.mark.parametrize("policy", [TargetOnly(), DraftOnly()])
def test_the_others_do_not_wait_for_a_problem_that_is_never_escalated(
    in_virtual_time: Virtual, a_task: Tasks, policy: Policy, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring, steps=9)
    solutions = world.solve(a_task("1", policy=ALL_REJECTED), a_task("2", policy=policy))
    assert all(step.kept.gathered is None for step in solutions["1"].steps)
    assert solutions["1"].seconds == pytest.approx(9 * (1.0 + 1.0))


def test_a_cancelled_problem_leaves_the_gathering_and_the_others_do_not_wait_for_it(
    in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring)

    async def cancelled(ring: Ring, name: str) -> None:
        with anyio.move_on_after(3.0):
            await ring.solve(a_task(name, policy=ALL_REJECTED))

    async def body(ring: Ring) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ring.solve, a_task("2", policy=ALL_REJECTED))
            for name in ("1", "50"):  # one is held when it is cancelled, the other is being drafted
                tasks.start_soon(cancelled, ring, name)

    world.run(body)
    assert world.starts() == [("2", 3.0)]


def test_the_others_do_not_wait_for_a_problem_whose_draft_fails(
    in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring)

    def fail(_: GenerationRequest) -> Generation:
        raise OSError("broken")

    broken = ModelHandle[Generator](ScriptedGenerator(fail, 3.0))
    healthy = world.models.draft
    assert healthy is not None

    class Either:
        async def generate(self, request: GenerationRequest) -> Generation:
            return await (broken if request.problem == "broken" else healthy).port.generate(request)

    world.models = msgspec.structs.replace(world.models, draft=ModelHandle[Generator](Either()))
    solutions = world.solve(*(a_task(name, policy=ALL_REJECTED) for name in ("1", "broken")))
    assert solutions["broken"].finish_reason == "failed"
    assert world.starts() == [("1", 3.0)]


@pytest.mark.parametrize("other", [BOUND, None])
def test_a_problem_at_another_target_cannot_join(
    in_virtual_time: Virtual, a_task: Tasks, other: Gather | None, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring)
    targets = {**world.models.targets, "large": msgspec.structs.replace(world.models.targets["large"], gather=other)}
    world.models = msgspec.structs.replace(world.models, targets=targets)

    router = ScriptedScorer(lambda request: (0.9, 0.0) if request.problem == "1" else (0.0, 0.9))
    world.models = msgspec.structs.replace(world.models, scorers={"router": ModelHandle(router)})
    policy = LearnedRouter(0.5, (Target("small"), Target("large")))
    world.solve(*(a_task(name, policy=policy) for name in ("1", "3")))
    assert world.starts() == [("1", 3.0), ("3", 3.0)]


def test_no_slot_is_held_while_escalations_gather(in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing) -> None:
    world = World(in_virtual_time, open_ring, in_flight=1)

    async def body(ring: Ring) -> None:
        async with anyio.create_task_group() as tasks:
            for name in ("1", "3"):
                tasks.start_soon(ring.solve, a_task(name, policy=ALL_REJECTED))
            await anyio.sleep(2.0)
            occupancy = ring.occupancy["target"]
            assert (occupancy.taken, occupancy.waiting) == (0, 0)

    world.run(body)
    assert {second for _, second in world.starts()} == {3.0, 4.0}


class Recorded(NoJournal):
    """A journal that has the answer to every request of an earlier session to the target."""

    kept = True

    def recall(self, call: str) -> CallGenerated | None:
        if "/target/" not in call:
            return None
        return CallGenerated("recorded", "end", Usage(), 7.0, gathered=Gathered(0.5, 2))


def test_a_recorded_answer_is_never_held_and_keeps_how_it_gathered(
    in_virtual_time: Virtual, a_task: Tasks, open_ring: OpenRing
) -> None:
    world = World(in_virtual_time, open_ring)
    solutions = world.solve(*(a_task(name, policy=ALL_REJECTED) for name in ("1", "50")), journal=Recorded())
    assert world.called == []
    assert solutions["1"].seconds == pytest.approx(1.0)
    assert solutions["1"].steps[0].kept.gathered == Gathered(0.5, 2)


@pytest.mark.asyncio
async def test_on_asyncio_a_held_escalation_goes_at_the_bound_or_with_the_others(
    a_task: Tasks, open_ring: OpenRing
) -> None:
    def world(gather: Gather) -> Models:
        draft = ScriptedGenerator(lambda _: Generation("d", "end", Usage()), lambda request: float(request.problem))
        target = ScriptedGenerator(lambda _: Generation("t", "end", Usage()))
        return Models(ModelHandle(draft), ModelHandle(target, gather=gather))

    found: dict[str, Gathered | None] = {}

    async def done(solution: Solution) -> None:
        found[solution.problem] = solution.steps[0].kept.gathered

    for gather, released in ((Gather(60.0), 2), (Gather(0.001), 1)):
        async with open_ring(world(gather), 1) as ring:
            await solve_all(ring, [a_task(name, policy=ALL_REJECTED) for name in ("0", "0.05")], 2, done)
        first = found["0"]
        assert first is not None
        assert first.together == released


def share(*parts: object) -> float:
    """A number in [0, 1) that only depends on ``parts``."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=6).digest()[0] / 256


def write(request: GenerationRequest) -> Generation:
    """Write a step that depends on the seed, the author and the whole context. Some requests fail."""
    drawn = share(request.seed, request.author, request.transcript)
    if 0.5 < drawn < 0.53:
        raise OSError("broken")
    return Generation(f"{drawn}", "end" if drawn < 0.1 else "separator", Usage(completion_tokens=1 + int(9 * drawn)))


def rate(request: ScoreRequest) -> float:
    return share(request.score_kind, request.transcript, request.candidate)


Outcome = tuple[list[tuple[str, str]], FinishReason, str | None]


def outcomes(
    in_virtual_time: Virtual,
    open_ring: OpenRing,
    tasks: list[Task],
    gather: Gather | None,
    in_flight: int,
    seed: int,
    lookahead: int | None = 0,
) -> tuple[dict[str, Outcome], list[Gathered]]:
    """Solve ``tasks`` with random durations; every third one may be cancelled at a random time."""
    draw, found, waits = random.Random(seed), dict[str, Outcome](), list[Gathered]()

    def seconds(_: object) -> float:
        return draw.choice((0.0, 0.0, 0.1, 1.0, 7.0))

    async def solve(ring: Ring, task: Task, patience: float) -> None:
        await anyio.sleep(seconds(task))
        with anyio.move_on_after(patience):
            one = await ring.solve(task)
            steps = [(step.kept.text, step.kept.author) for step in one.steps]
            found[one.problem] = steps, one.finish_reason, one.error
            waits.extend(each.gathered for step in one.steps for each in step.targets if each.gathered is not None)

    async def body() -> None:
        writer = ModelHandle[Generator](ScriptedGenerator(write, seconds), in_flight)
        target = ModelHandle[Generator](ScriptedGenerator(write, seconds), in_flight, gather=gather)
        scorer = ModelHandle(ScriptedScorer(rate, seconds), in_flight)
        models = Models(writer, target, {"prm": scorer, "router": scorer})
        async with open_ring(models, 1, lookahead=lookahead, verify="on") as ring, anyio.create_task_group() as group:
            for number, task in enumerate(tasks):
                patience = draw.choice((0.5, 5.0, 20.0)) if number % 3 == 2 else float("inf")
                group.start_soon(solve, ring, task, patience)

    in_virtual_time(body)
    return found, waits


@examples(0.5)
@given(
    policy=st.sampled_from([HALF_REJECTED, ALL_REJECTED, RewardThreshold(0.6), LearnedRouter(0.3), Oracle(0.0)]),
    gather=st.builds(Gather, st.sampled_from([0.05, 1.0, 30.0]), st.sampled_from([None, 0.25, 1.0])),
    in_flight=st.sampled_from([1, 2, 1000]),
    temperature=st.sampled_from([0.0, 0.8]),
    lookahead=st.sampled_from([0, 2, None]),
    seed=st.integers(0, 1000),
)
@pytest.mark.slow
def test_transcripts_are_the_same_with_and_without_gathering(
    a_task: Tasks,
    in_virtual_time: Virtual,
    policy: Policy,
    gather: Gather,
    in_flight: int,
    temperature: float,
    lookahead: int | None,
    seed: int,
    open_ring: OpenRing,
) -> None:
    """With random durations, failures and cancellations; a cancelled problem may end in one of the runs only."""
    limits, sampling = Limits(max_steps=6, max_tokens=40, step_tokens=12), Sampling(temperature)
    tasks = [a_task(str(n), policy=policy, limits=limits, sampling=sampling) for n in range(7)]
    with_it, waits = outcomes(in_virtual_time, open_ring, tasks, gather, in_flight, seed, lookahead)
    without, none = outcomes(in_virtual_time, open_ring, tasks, None, in_flight, seed + 1)
    common = with_it.keys() & without.keys()
    assert common >= {task.id for number, task in enumerate(tasks) if number % 3 != 2}
    assert {name: with_it[name] for name in common} == {name: without[name] for name in common}
    assert not none
    assert all(0 <= wait.seconds <= gather.seconds and 1 <= wait.together <= len(tasks) for wait in waits)
