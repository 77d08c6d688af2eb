"""What runs concurrently and what waits, in virtual time."""

from collections.abc import Callable, Iterator

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
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ScoreRequest
from arbiter.protocols.records import Sampling, Solution

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


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        (DraftOnly(), 2),
        (TargetOnly(), 7),
        (RandomEscalation(0.0), 2),
        (RandomEscalation(1.0), 2 + 7),
        (RewardThreshold(0.5), 2 + 1),
        (RewardThreshold(0.6), 2 + 1 + 7),
        (LearnedRouter(0.5), 2 + 3),
        (LearnedRouter(0.4), 2 + 3 + 7),
        (Oracle(0.0), 7 + 1),
        (GenerateRows(), 7 + 1),
    ],
)
@pytest.mark.slow
def test_a_step_takes_the_longest_way_through_the_models_of_its_rule(
    policy: Policy, seconds: float, solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    models = make_models(
        ScriptedGenerator(three_steps, seconds=2),
        ScriptedGenerator(three_steps, seconds=7),
        ScriptedScorer(lambda _: 0.5, seconds=1),
        ScriptedScorer(lambda _: 0.5, seconds=3),
    )
    (solution,) = solved(models, [a_task(policy=policy)])
    assert solution.seconds == 3 * seconds


def test_a_draft_is_scored_while_the_target_still_writes(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    models = make_models(
        ScriptedGenerator(three_steps, seconds=2),
        ScriptedGenerator(three_steps, seconds=4),
        ScriptedScorer(lambda _: 0.5, seconds=lambda request: 5 if getattr(request, "author", "") == "draft" else 1),
    )
    (solution,) = solved(models, [a_task(policy=Oracle(0.0))])
    assert solution.seconds == 3 * (2 + 5)


def test_all_samples_of_a_step_are_written_at_the_same_time(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(), [a_task(policy=GenerateRows(), sampling=Sampling(target_samples=4))])
    assert solution.seconds == 3 * (1 + 1)


def test_a_candidates_seconds_are_those_of_its_request(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    draft = ScriptedGenerator(lambda request: f"step {request.step}", seconds=lambda request: 1.0 + request.step)
    prm = ScriptedScorer(lambda _: 1.0, seconds=4)
    (solution,) = solved(make_models(draft, prm=prm), [a_task(policy=RewardThreshold(0.5))])
    candidates = [step.kept for step in solution.steps]
    ratings = [candidate.rating.seconds for candidate in candidates if candidate.rating]
    assert [candidate.seconds for candidate in candidates] == [1.0 + step for step in range(len(candidates))]
    assert ratings == [4.0] * len(candidates)


@pytest.mark.parametrize("policy", EVERY_POLICY)
@pytest.mark.slow
def test_no_problem_waits_for_the_step_of_another_one(
    policy: Policy, solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        return 1000.0 if request.problem == "slow" else 1.0

    def models() -> Models:
        generators = (ScriptedGenerator(three_steps, seconds) for _ in range(2))
        return make_models(*generators, *(ScriptedScorer(lambda _: 0.5, seconds) for _ in range(2)))

    tasks = [a_task(problem, policy=policy) for problem in ("slow", *map(str, range(100)))]
    together = {solution.problem: solution.seconds for solution in solved(models(), tasks)}
    alone = {task.id: solved(models(), [task])[0].seconds for task in (tasks[0], tasks[1], tasks[100])}
    assert together == {task.id: together[task.id] for task in tasks}
    assert {problem: together[problem] for problem in alone} == alone
    assert max(taken for problem, taken in together.items() if problem != "slow") <= 9
    assert together["slow"] >= 3000


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize(("policy", "used"), [(GenerateRows(), [0, 1, 2]), (LearnedRouter(0.4), [0, 1, 3])])
@pytest.mark.slow
def test_no_more_requests_than_its_seat_allows_are_at_a_model(
    policy: Policy,
    used: list[int],
    in_flight: int,
    solved: Solved,
    a_task: Tasks,
    make_models: MakeModels,
    three_steps: Script,
) -> None:
    generators = ScriptedGenerator(three_steps, seconds=1), ScriptedGenerator(three_steps, seconds=5)
    scorers = [ScriptedScorer(lambda _: 0.5, seconds=5) for _ in range(2)]
    tasks = [a_task(str(n), policy=policy, sampling=Sampling(target_samples=2)) for n in range(20)]
    solved(make_models(*generators, *scorers, in_flight=in_flight), tasks)
    assert [(*generators, *scorers)[model].most_running for model in used] == [in_flight] * 3


def test_a_request_that_waits_for_room_at_its_model_takes_no_time_of_its_own(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    solutions = solved(make_models(in_flight=1), [a_task(str(n)) for n in range(10)])
    assert max(solution.seconds for solution in solutions) == 30
    assert {step.kept.seconds for solution in solutions for step in solution.steps} == {1.0}


@pytest.mark.parametrize("concurrency", [1, 5])
def test_no_more_problems_than_the_concurrency_are_in_the_ring(
    concurrency: int, solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    draft = ScriptedGenerator(three_steps, seconds=1)
    solved(make_models(draft), [a_task(str(n)) for n in range(20)], concurrency=concurrency)
    assert draft.most_running == concurrency


def test_a_task_is_taken_from_its_source_only_when_there_is_room_for_it(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    taken: list[str] = []
    ahead: list[int] = []

    def source() -> Iterator[Task]:
        for n in range(20):
            taken.append(str(n))
            yield a_task(str(n))

    def reading(request: GenerationRequest) -> Generation:
        ahead.append(len(taken) - int(request.problem))
        return three_steps(request)

    solved(make_models(ScriptedGenerator(reading, seconds=1)), source(), concurrency=4)
    assert taken == [str(n) for n in range(20)]
    assert max(ahead) == 4


def test_a_problem_that_ends_makes_room_at_once(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    draft = ScriptedGenerator(three_steps, seconds=lambda request: 100.0 if request.problem == "0" else 1.0)
    solutions = solved(make_models(draft), [a_task(str(n)) for n in range(100)], concurrency=2)
    assert [solution.problem for solution in solutions] == [*map(str, range(1, 100)), "0"]
