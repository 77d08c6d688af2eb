"""Every finish reason, from the task to the solution."""

from collections.abc import Callable

import pytest

from arbiter.actors.policies import GenerateRows, Oracle, RandomEscalation
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Limits, RequestCounts, Sampling, Solution, Usage

Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]
Script = Callable[[GenerationRequest], Generation]


def endless(request: GenerationRequest) -> str:
    return f"step {request.step} goes on"


def breaks_at(step: int, problem: str = "p") -> Callable[[GenerationRequest], str]:
    def script(request: GenerationRequest) -> str:
        if (request.problem, request.step) == (problem, step):
            raise BackendError("no answer") from ConnectionError("refused")
        return endless(request)

    return script


def test_an_answer_that_ends_is_answered(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(), [a_task()])
    assert (solution.finish_reason, solution.text) == ("answered", "draft step 0\n\ndraft step 1\n\ndraft step 2")


def test_a_draft_that_ends_but_is_not_kept_ends_nothing(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    target = ScriptedGenerator(endless)
    (solution,) = solved(make_models(target=target), [a_task(policy=RandomEscalation(1.0), limits=Limits(max_steps=5))])
    assert (solution.finish_reason, len(solution.steps)) == ("max_steps", 5)


def test_a_step_cut_by_its_own_limit_ends_at_step_limit(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    draft = ScriptedGenerator(lambda _: Generation("cut", "limit", Usage(completion_tokens=20)))
    (solution,) = solved(make_models(draft), [a_task(limits=Limits(step_tokens=20))])
    assert (solution.finish_reason, len(solution.steps)) == ("step_limit", 1)


def test_a_problem_out_of_steps_ends_at_max_steps(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(ScriptedGenerator(endless)), [a_task(limits=Limits(max_steps=4))])
    assert (solution.finish_reason, len(solution.steps)) == ("max_steps", 4)


def test_a_problem_out_of_tokens_ends_at_max_tokens(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    requested: list[int] = []

    def script(request: GenerationRequest) -> str:
        requested.append(request.max_tokens)
        return endless(request)

    (solution,) = solved(make_models(ScriptedGenerator(script)), [a_task(limits=Limits(max_tokens=12, step_tokens=6))])
    assert (solution.finish_reason, requested) == ("max_tokens", [6, 6, 4])


def test_tokens_of_rejected_drafts_leave_the_problems_limit_alone(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(), [a_task(policy=RandomEscalation(1.0), limits=Limits(max_tokens=10))])
    assert solution.finish_reason == "answered"


def test_a_step_kept_again_and_again_ends_at_loop(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    draft = ScriptedGenerator(lambda request: "first" if request.step == 0 else "again")
    (solution,) = solved(make_models(draft), [a_task(limits=Limits(repeats=3))])
    assert (solution.finish_reason, solution.text) == ("loop", "first\n\nagain\n\nagain\n\nagain")


def test_empty_steps_kept_again_and_again_end_at_empty_steps(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(ScriptedGenerator(lambda _: "")), [a_task(limits=Limits(repeats=2))])
    assert (solution.finish_reason, len(solution.steps)) == ("empty_steps", 2)


def test_a_deadline_keeps_the_steps_that_are_there(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    draft = ScriptedGenerator(endless, seconds=2)
    (solution,) = solved(make_models(draft), [a_task(limits=Limits(deadline=5))])
    assert (solution.finish_reason, solution.seconds, len(solution.steps), solution.error) == ("deadline", 5, 2, None)


def test_a_deadline_cancels_the_running_requests_and_counts_them(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    draft, target = ScriptedGenerator(endless, seconds=3), ScriptedGenerator(endless, seconds=100)
    task = a_task(policy=GenerateRows(), limits=Limits(deadline=3.5), sampling=Sampling(target_samples=2))
    (solution,) = solved(make_models(draft, target), [task])
    assert solution.requests["target"] == RequestCounts(requests=2, cancelled=2)
    assert solution.requests["prm"] == RequestCounts(requests=1, cancelled=1)
    assert (target.cancelled, target.running) == (2, 0)


def test_a_deadline_strikes_its_own_problem_alone(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    solutions = solved(make_models(), [a_task("late", limits=Limits(deadline=1.5)), a_task("p")])
    assert [(solution.problem, solution.finish_reason) for solution in solutions] == [
        ("late", "deadline"),
        ("p", "answered"),
    ]


def test_a_deadline_strikes_a_problem_that_waits_for_room_at_a_model(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    draft = ScriptedGenerator(endless, seconds=100)
    tasks = [a_task("first", limits=Limits(max_steps=1)), a_task("late", limits=Limits(deadline=5))]
    solutions = solved(make_models(draft, in_flight=1), tasks)
    finishes = {solution.problem: solution.finish_reason for solution in solutions}
    assert finishes == {"first": "max_steps", "late": "deadline"}


@pytest.mark.parametrize("deadline", [1e-9, 1e-3])
def test_a_deadline_that_is_over_ends_at_deadline(
    deadline: float, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(), [a_task(limits=Limits(deadline=deadline))])
    assert (solution.finish_reason, solution.steps) == ("deadline", ())


@pytest.mark.slow
def test_a_failure_names_actor_step_and_cause(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(ScriptedGenerator(breaks_at(1))), [a_task()])
    expected = "drafter, step 2: BackendError: no answer, caused by ConnectionError: refused"
    assert (solution.finish_reason, solution.error) == ("failed", expected)


def test_a_failure_keeps_the_steps_before_it(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(ScriptedGenerator(breaks_at(2))), [a_task()])
    assert len(solution.steps) == 2


def test_a_failure_leaves_the_other_problems_alone(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    tasks = [a_task(problem, limits=Limits(max_steps=9)) for problem in ("p", "q", "r")]
    solutions = solved(make_models(ScriptedGenerator(breaks_at(1), seconds=1)), tasks)
    ends = {solution.problem: (solution.finish_reason, solution.seconds) for solution in solutions}
    assert ends == {"p": ("failed", 2), "q": ("max_steps", 9), "r": ("max_steps", 9)}


def test_a_failed_request_is_counted_as_failed(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(ScriptedGenerator(breaks_at(1))), [a_task()])
    assert (solution.requests["draft"].requests, solution.requests["draft"].failed) == (2, 1)


def test_a_failure_cancels_what_runs_beside_it(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    draft, target = ScriptedGenerator(breaks_at(0), seconds=1), ScriptedGenerator(endless, seconds=100)
    (solution,) = solved(make_models(draft, target), [a_task(policy=Oracle(0.0))])
    assert solution.requests["target"] == RequestCounts(requests=1, cancelled=1)
    assert (solution.seconds, target.running, target.cancelled) == (1, 0, 1)


def test_a_failed_sample_cancels_the_other_samples(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    def script(request: GenerationRequest) -> str:
        if request.sample == 1:
            raise BackendError("no answer")
        return "sample"

    target = ScriptedGenerator(script, seconds=lambda request: 1.0 if getattr(request, "sample", 0) == 1 else 50.0)
    task = a_task(policy=GenerateRows(), sampling=Sampling(target_samples=3))
    (solution,) = solved(make_models(target=target), [task])
    assert solution.error == "escalator, step 1: BackendError: no answer"
    assert solution.requests["target"] == RequestCounts(requests=3, failed=1, cancelled=2)
