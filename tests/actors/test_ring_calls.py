"""Which models a run type calls, how often, and what is counted."""

from collections.abc import Callable

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


def second_is_weak(request: ScoreRequest) -> float:
    """h is below the threshold only for the draft of the second step."""
    return 0.2 if request.step == 1 and request.author == "draft" else 0.8


def second_is_doubtful(request: ScoreRequest) -> float:
    """ŷ is above a half only for the second step."""
    return 0.8 if request.step == 1 else 0.2


@pytest.mark.parametrize(
    ("policy", "samples", "draft", "target", "prm", "router"),
    [
        (DraftOnly(), 1, 3, 0, 0, 0),
        (TargetOnly(), 1, 0, 3, 0, 0),
        (RandomEscalation(0.0), 1, 3, 0, 0, 0),
        (RandomEscalation(1.0), 1, 3, 3, 0, 0),
        (RewardThreshold(0.5), 1, 3, 1, 3, 0),
        (LearnedRouter(0.5), 1, 3, 1, 0, 3),
        (Oracle(0.0), 1, 3, 3, 6, 0),
        (GenerateRows(), 1, 3, 3, 6, 0),
        (GenerateRows(), 4, 3, 12, 15, 0),
        (TargetOnly(), 4, 0, 3, 0, 0),
        (RewardThreshold(0.5), 4, 3, 1, 3, 0),
    ],
)
@pytest.mark.slow
def test_a_run_type_calls_only_the_models_of_its_rule(
    policy: Policy, samples: int, draft: int, target: int, prm: int, router: int,
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script,
) -> None:  # fmt: skip
    generators = ScriptedGenerator(three_steps), ScriptedGenerator(three_steps)
    scorers = ScriptedScorer(second_is_weak), ScriptedScorer(second_is_doubtful)
    solved(make_models(*generators, *scorers), [a_task(policy=policy, sampling=Sampling(target_samples=samples))])
    assert [model.calls for model in (*generators, *scorers)] == [draft, target, prm, router]


def test_random_calls_the_target_exactly_on_its_escalations(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    target = ScriptedGenerator(three_steps)
    solutions = solved(make_models(target=target), [a_task(str(n), policy=RandomEscalation(0.3)) for n in range(50)])
    escalated = sum(step.verdict == "escalate" for solution in solutions for step in solution.steps)
    assert target.calls == escalated > 0


def test_a_solution_counts_the_calls_that_the_models_saw(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    draft, target, prm = ScriptedGenerator(three_steps), ScriptedGenerator(three_steps), ScriptedScorer(second_is_weak)
    (solution,) = solved(make_models(draft, target, prm), [a_task(policy=RewardThreshold(0.5))])
    counted = {model: counts.requests for model, counts in solution.requests.items()}
    assert counted == {"draft": draft.calls, "target": target.calls, "prm": prm.calls}


def test_a_solution_counts_the_tokens_of_steps_that_were_not_kept(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(), [a_task(policy=RandomEscalation(1.0))])
    assert [solution.requests[model].usage.completion_tokens for model in ("draft", "target")] == [9, 9]


def test_a_rejected_draft_never_reaches_the_transcript(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    contexts: list[str] = []

    def reading(request: GenerationRequest) -> Generation:
        contexts.extend(step.text for step in request.transcript.steps)
        return three_steps(request)

    prm = ScriptedScorer(second_is_weak)
    (solution,) = solved(make_models(ScriptedGenerator(reading), prm=prm), [a_task(policy=RewardThreshold(0.5))])
    assert solution.text == "draft step 0\n\ntarget step 1\n\ndraft step 2"
    assert "draft step 1" not in contexts


def test_a_rejected_draft_is_recorded_with_its_score(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    prm = ScriptedScorer(second_is_weak)
    (solution,) = solved(make_models(prm=prm), [a_task(policy=RewardThreshold(0.5))])
    rejected = solution.steps[1].draft
    assert rejected is not None
    assert (rejected.text, rejected.score) == ("draft step 1", 0.2)


def test_generate_records_every_sample_in_its_order_with_a_score_of_its_own(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    def numbered(request: GenerationRequest) -> str:
        return f"sample {request.sample}"

    target = ScriptedGenerator(numbered, seconds=lambda request: 5.0 - getattr(request, "sample", 0))
    prm = ScriptedScorer(lambda request: int(request.candidate[-1]) / 10 if request.author == "target" else 0.0)
    sampling = Sampling(target_samples=4)
    (solution,) = solved(make_models(target=target, prm=prm), [a_task(policy=GenerateRows(), sampling=sampling)])
    written = [(sample.sample, sample.text, sample.score) for sample in solution.steps[0].targets]
    assert written == [(n, f"sample {n}", n / 10) for n in range(4)]


@pytest.mark.parametrize(("draft", "target"), [(1.0, 9.0), (9.0, 1.0), (1.0, 1.0)])
def test_whichever_score_comes_first_a_candidate_stays_its_authors(
    draft: float, target: float, solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    generators = ScriptedGenerator(three_steps, draft), ScriptedGenerator(three_steps, target)
    prm = ScriptedScorer(lambda request: 0.75 if request.author == "target" else 0.25)
    (solution,) = solved(make_models(*generators, prm), [a_task(policy=Oracle(0.25))])
    candidates = [(candidate.author, candidate.text, candidate.score) for candidate in solution.steps[0].candidates]
    assert candidates == [("draft", "draft step 0", 0.25), ("target", "target step 0", 0.75)]
    assert (solution.steps[0].verdict, solution.steps[0].kept.author) == ("keep_target", "target")


def test_a_request_tells_its_place_its_limits_and_its_sampling(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    seen: list[GenerationRequest] = []

    def reading(request: GenerationRequest) -> Generation:
        seen.append(request)
        return three_steps(request)

    task = a_task(sampling=Sampling(temperature=0.7, top_p=0.9), separator="\n")
    solved(make_models(ScriptedGenerator(reading)), [task])
    assert [(request.problem, request.step, request.author, request.separator) for request in seen] == [
        ("p", step, "draft", "\n") for step in range(3)
    ]
    assert {(request.temperature, request.top_p, request.max_tokens) for request in seen} == {(0.7, 0.9, 1024)}


def test_samples_of_one_step_have_seeds_of_their_own(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    seeds: list[int] = []

    def reading(request: GenerationRequest) -> Generation:
        seeds.append(request.seed)
        return three_steps(request)

    task = a_task(policy=GenerateRows(), sampling=Sampling(target_samples=4))
    solved(make_models(ScriptedGenerator(reading), ScriptedGenerator(reading)), [task])
    assert len(set(seeds)) == len(seeds) >= 10


def test_a_score_is_asked_for_on_the_policys_scale_and_after_the_candidates_context(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    seen: list[ScoreRequest] = []

    def reading(request: ScoreRequest) -> float:
        seen.append(request)
        return 0.0

    solved(make_models(router=ScriptedScorer(reading)), [a_task(policy=LearnedRouter(0.5))])
    assert [(request.score_kind, request.candidate, len(request.transcript.steps)) for request in seen] == [
        ("router", f"draft step {step}", step) for step in range(3)
    ]
