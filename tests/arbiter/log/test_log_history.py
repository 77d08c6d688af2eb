"""The solution that is rebuilt from a log equals the one that the ring returned."""

from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from arbiter.log.redaction import reduced
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Detail, Entry, Event
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import Limits, Sampling, Solution, Target

Tasks = Callable[..., Task]
Worlds = Callable[..., Models]
Recorded = Callable[..., tuple[list[Solution], list[Event]]]

EVERY_POLICY = [
    DraftOnly(),
    TargetOnly(),
    RandomEscalation(0.5),
    RewardThreshold(0.5),
    LearnedRouter(0.5),
    Oracle(0.0),
    GenerateRows(),
    GenerateRows("mean", ("small", "large")),
    LearnedRouter(0.6, (Target("small", 1.0), Target("large", 1.5)), budget=0.3),
]


def by_key(solutions: list[Solution]) -> dict[tuple[str, int], Solution]:
    return {(solution.problem, solution.sample): solution for solution in solutions}


def told(events: list[Event]) -> dict[tuple[str, int], Solution | None]:
    return {problem.key: problem.solution() for problem in histories(events)}


@pytest.mark.parametrize("policy", EVERY_POLICY)
@given(
    seed=st.integers(0, 2**32),
    fails=st.sampled_from([0.0, 0.05, 0.3]),
    in_flight=st.integers(1, 4),
    concurrency=st.integers(1, 12),
    samples=st.integers(1, 3),
    audit=st.sampled_from([0.0, 0.5, 1.0]),
    limit=st.none() | st.floats(0.1, 20) | st.integers(1, 20),
)
@pytest.mark.slow
def test_the_solution_of_a_log_is_that_of_the_ring(
    policy: Policy, seed: int, fails: float, in_flight: int, concurrency: int, samples: int, audit: float,
    limit: float | None, a_world: Worlds, a_task: Tasks, recorded: Recorded,
) -> None:  # fmt: skip
    models = a_world(seed, fails, slow=3.0, in_flight=in_flight, several=True)
    limits, sampling = Limits(max_steps=5, max_tokens=14, deadline=limit), Sampling(target_samples=samples)
    tasks = [
        a_task(str(n), policy, audit=audit, limits=limits, sampling=sampling, sample=decoding, seed=decoding)
        for n in range(4)
        for decoding in range(2)
    ]
    solutions, events = recorded(models, tasks, concurrency)
    assert len(solutions) == 8
    assert told(events) == by_key(solutions)


@pytest.mark.parametrize("policy", [LearnedRouter(0.5), Oracle(0.0)])
def test_problems_that_are_called_like_ids_have_solutions_of_their_own(
    policy: Policy, a_world: Worlds, a_task: Tasks, recorded: Recorded
) -> None:
    names = ("p", "p/0", "p/0#1", "p #1", "p/0/draft_step/draft/0", "p/0/step_failed", "draft/0", "")
    tasks = [a_task(name, policy, audit=1.0, sample=sample, seed=sample) for name in names for sample in range(2)]
    solutions, events = recorded(a_world(), tasks)
    assert len({(solution.problem, solution.sample) for solution in solutions}) == len(tasks)
    assert told(events) == by_key(solutions)


@pytest.mark.parametrize("kind", ["call_started", "call_generated"])
def test_a_call_whose_id_is_none_is_refused_by_its_line(
    kind: str, a_world: Worlds, a_task: Tasks, recorded: Recorded
) -> None:
    _, events = recorded(a_world(), [a_task()])
    damaged = next(event for event in events if event.kind == kind)
    name = "id" if kind == "call_started" else "cause"
    events[damaged.seq] = msgspec.structs.replace(damaged, **{name: "p/0/draft_step/draft/first"})
    with pytest.raises(RunError, match=f"in line {damaged.seq + 1}: 'p/0/draft_step/draft/first' is not the id of a"):
        list(histories(events))


@pytest.mark.parametrize("detail", ["full", "decisions"])
def test_which_target_wrote_a_step_is_told_by_its_log(
    detail: Detail, a_world: Worlds, a_task: Tasks, recorded: Recorded
) -> None:
    policy = LearnedRouter(0.3, (Target("small", 1.0), Target("large", 1.0)))
    solutions, events = recorded(a_world(several=True), [a_task(str(n), policy) for n in range(9)])
    kept = [event for event in events if (entry := reduced(as_entry(event), detail)) and entry.id == event.id]
    found = {problem.key: problem.solution() for problem in histories(kept)}
    wrote = {candidate.target for one in solutions for step in one.steps for candidate in step.targets}
    assert wrote == {"small", "large"}
    assert {key: one and one.targets for key, one in found.items()} == {
        key: one.targets for key, one in by_key(solutions).items()
    }
    assert {key: one and [step.kept.target for step in one.steps] for key, one in found.items()} == {
        key: [step.kept.target for step in one.steps] for key, one in by_key(solutions).items()
    }


def as_entry(event: Event) -> Entry:
    return Entry(**{name: getattr(event, name) for name in Entry.__struct_fields__ if name != "derived"})


def test_what_comes_after_the_end_does_not_count(a_world: Worlds, a_task: Tasks, recorded: Recorded) -> None:
    """At the deadline, requests are in flight; their cancellation is written when they notice it."""
    tasks = [a_task(str(n), Oracle(0.0), limits=Limits(deadline=0.5)) for n in range(3)]
    solutions, events = recorded(a_world(slow=30.0), tasks)
    ends = [event.seq for event in events if event.kind == "problem_ended"]
    assert any(event.seq > ends[0] for event in events if event.kind == "call_cancelled")
    assert {solution.finish_reason for solution in solutions} == {"deadline"}
    assert told(events) == by_key(solutions)


def test_a_problem_is_told_as_soon_as_its_end_is_read(a_world: Worlds, a_task: Tasks, recorded: Recorded) -> None:
    _, events = recorded(a_world(), [a_task(str(n)) for n in range(3)], 1)
    read: list[int] = []

    def reading() -> Iterator[Event]:
        for event in events:
            read.append(event.seq)
            yield event

    told_after = {problem.key[0]: read[-1] for problem in histories(reading())}
    assert told_after == {event.problem: event.seq for event in events if event.kind == "problem_ended"}


def test_an_unfinished_problem_has_its_kept_steps_and_no_solution(
    a_world: Worlds, a_task: Tasks, recorded: Recorded
) -> None:
    [solution], events = recorded(a_world(seed=3), [a_task(policy=RewardThreshold(0.5))])
    assert len(solution.steps) > 1
    [cut] = [event.seq for event in events if event.kind == "problem_ended"]
    [unfinished] = histories(events[:cut])
    assert unfinished.solution() is None
    assert tuple(unfinished.steps()) == solution.steps


def test_every_event_but_the_first_of_a_problem_has_a_cause_that_was_written_before(
    a_world: Worlds, a_task: Tasks, recorded: Recorded
) -> None:
    tasks = [a_task(str(n), policy, audit=1.0) for n, policy in enumerate(EVERY_POLICY)]
    _, events = recorded(a_world(slow=2.0, several=True), tasks)
    written: set[str | None] = {task.id for task in tasks}
    for event in events:
        assert event.cause in written, event
        written.add(event.id)
