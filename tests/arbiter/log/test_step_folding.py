"""The steps of a problem are the same live and in the log; a running problem holds only its open step in memory."""

import gc
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, ModuleType
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from arbiter.actors.policies import (
    DraftOnly,
    GenerateRows,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from arbiter.actors.ring_setup import Models
from arbiter.log.history import histories
from arbiter.log.live import EventFolder, LiveProblem
from arbiter.protocols import events
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Event
from arbiter.protocols.ids import CallId
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import Limits, Sampling, Solution, StepRecord, Target
from tests.hypothesis_profiles import examples

Tasks = Callable[..., Task]
Worlds = Callable[..., Models]
Recorded = Callable[..., tuple[list[Solution], list[Event]]]
Steps = dict[str, list[StepRecord]]

POLICIES: list[Policy] = [
    DraftOnly(),
    TargetOnly(),
    RandomEscalation(0.5),
    RewardThreshold(0.5),
    LearnedRouter(0.5),
    Oracle(0.0),
    GenerateRows("mean", ("small", "large")),
    LearnedRouter(0.6, (Target("small", 1.0), Target("large", 1.5)), budget=0.3),
]


class StepCounter(EventFolder):
    """Count the reported steps without holding them."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def kept(self, live: LiveProblem, step: StepRecord, seconds: float) -> None:
        self.steps += 1


class AllSteps(StepCounter):
    """Keep the steps of each problem."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Steps = {}

    def started(self, live: LiveProblem) -> None:
        self.found[live.id] = []

    def kept(self, live: LiveProblem, step: StepRecord, seconds: float) -> None:
        self.found[live.id].append(step)


def steps_live(log: Iterable[Event]) -> Steps:
    folder = AllSteps()
    for event in log:
        folder(event)
    return folder.found


def steps_read(log: Iterable[Event]) -> Steps:
    """The step without its audit: a live step is reported before its audit is scored."""
    solutions = [problem.solution() for problem in histories(log)]
    return {one.problem: [replace(step, audit=None) for step in one.steps] for one in solutions if one}


@pytest.mark.parametrize("policy", POLICIES)
@given(
    seed=st.integers(0, 2**32),
    fails=st.sampled_from([0.0, 0.05, 0.3]),
    in_flight=st.integers(1, 4),
    concurrency=st.integers(1, 12),
    samples=st.integers(1, 3),
    audit=st.sampled_from([0.0, 1.0]),
    limit=st.none() | st.floats(0.1, 20) | st.integers(1, 20),
    lookahead=st.integers(0, 2),
    salvage=st.booleans(),
    block=st.integers(1, 3),
)
@pytest.mark.slow
def test_the_steps_reported_while_a_problem_runs_are_those_of_its_solution(
    policy: Policy, seed: int, fails: float, in_flight: int, concurrency: int, samples: int, audit: float,
    limit: float | None, lookahead: int, salvage: bool, block: int, a_world: Worlds, a_task: Tasks, recorded: Recorded,
) -> None:  # fmt: skip
    limits, sampling = Limits(max_steps=5, max_tokens=14, deadline=limit), Sampling(target_samples=samples)
    tasks = [a_task(str(n), policy, audit=audit, limits=limits, sampling=sampling, seed=n) for n in range(6)]
    models = a_world(seed, fails, slow=3.0, in_flight=in_flight, several=True)
    ahead = {"block": block} if block > 1 else {"lookahead": lookahead, "salvage": salvage and lookahead > 0}
    solutions, log = recorded(models, tasks, concurrency, **ahead)
    assert steps_live(log) == steps_read(log)
    assert {problem: len(steps) for problem, steps in steps_live(log).items()} == {
        solution.problem: len(solution.steps) for solution in solutions
    }


@pytest.mark.parametrize("policy", [RewardThreshold(0.5), Oracle(0.0), TargetOnly()])
@examples(0.5)
@given(seed=st.integers(0, 2**32), lookahead=st.integers(0, 2))
@pytest.mark.slow
def test_a_running_problem_holds_no_candidate_of_an_earlier_step_and_no_answered_call(
    policy: Policy, seed: int, lookahead: int, a_world: Worlds, a_task: Tasks, recorded: Recorded
) -> None:
    task = a_task(policy=policy, audit=1.0, limits=Limits(max_steps=8), sampling=Sampling(target_samples=2))
    _, log = recorded(a_world(seed, slow=2.0), [task], lookahead=lookahead)
    folder, written, answered, step = StepCounter(), dict[str, int](), set[str](), 0
    for event in log:
        if isinstance(event.payload, events.CallGenerated):
            written[event.payload.text] = max(written.get(event.payload.text, 0), step_of(event))
        if isinstance(event.payload, events.Outcome) and event.cause:
            answered.add(event.cause)
        if isinstance(event.payload, events.DraftStepEvent | events.EscalateStepEvent):
            step = event.step or 0
        folder(event)
        held = set(texts_held_by(folder))
        assert {text for text in held if written.get(text, step) < step} == set()
        assert {call for call in held & answered if not is_draft_ahead(call, step)} == set()
    assert folder.steps > 0
    assert set(texts_held_by(folder)) & (written.keys() | answered | {task.id}) == set()


def step_of(event: Event) -> int:
    """The step that the answer ``event`` was written for."""
    call = CallId.parse(event.cause or "")
    return call.message.step.step + (call.index if call.is_ahead else 0)


def is_draft_ahead(name: str, step: int) -> bool:
    call = CallId.parse(name)
    return call.is_ahead and call.message.step.step + call.index >= step


def texts_held_by(root: object) -> Iterator[str]:
    """All strings reachable from ``root`` that are not part of the program."""
    seen, waiting = set[int](), [root]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType):
            seen.add(id(one))
            waiting += gc.get_referents(one)
            if isinstance(one, dict):  # gc leaves out keys that are texts
                waiting += cast("dict[object, object]", one)


@pytest.mark.parametrize("policy", [DraftOnly(), TargetOnly(), RewardThreshold(0.5)])
def test_a_kept_step_that_no_request_wrote_is_empty_while_it_runs_and_an_error_in_a_log(
    policy: Policy, a_world: Worlds, a_task: Tasks, recorded: Recorded
) -> None:
    _, log = recorded(a_world(), [a_task(policy=policy)])
    unwritten = [event for event in log if not isinstance(event.payload, events.CallGenerated)]
    (steps,) = steps_live(unwritten).values()
    assert [step.kept.author for step in steps] == [step.kept.author for step in steps_live(log)["p"]]
    assert {step.kept.text for step in steps} == {""}
    kept = next(event for event in log if event.to == "assembler" and event.kind.startswith("step_"))
    with pytest.raises(RunError, match=f"in line {kept.seq + 1}: it keeps a step that no request wrote"):
        steps_read(unwritten)
