"""Properties for every policy, size and timing."""

import hashlib
import random
from collections.abc import Callable

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
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ScoreRequest
from arbiter.protocols.records import Author, Limits, Sampling, Solution, Usage
from tests.hypothesis_profiles import examples

Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]

EVERY_POLICY = [
    DraftOnly(),
    TargetOnly(),
    RandomEscalation(0.5),
    RewardThreshold(0.5),
    LearnedRouter(0.5),
    Oracle(0.0),
    GenerateRows(),
]


def share(*parts: object) -> float:
    """A number in [0, 1) that only depends on ``parts``."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=6).digest()[0] / 256


def write(request: GenerationRequest) -> Generation:
    """A text, and sometimes the end of the answer, that depend on the seed, the role and the whole context."""
    drawn = share(request.seed, request.author, request.transcript)
    ending = "end" if drawn < 0.15 else "separator"
    return Generation(f"{request.author} {drawn}", ending, Usage(completion_tokens=3))


def rate(request: ScoreRequest) -> float:
    return share(request.score_kind, request.transcript, request.candidate)


def timing(seed: int) -> Callable[[GenerationRequest | ScoreRequest], float]:
    draw = random.Random(seed)
    return lambda _: draw.choice((0.0, 0.0, 0.1, 1.0, 7.0))


def models(make_models: MakeModels, seed: int, in_flight: int, pauses: bool = False) -> Models:
    seconds = timing(seed)
    generators = (ScriptedGenerator(write, seconds) for _ in range(2))
    scorers = (ScriptedScorer(rate, seconds) for _ in range(2))
    return make_models(*generators, *scorers, in_flight=in_flight, pauses=pauses)


def transcripts(solutions: list[Solution]) -> dict[str, list[tuple[str, Author]]]:
    return {solution.problem: [(step.kept.text, step.kept.author) for step in solution.steps] for solution in solutions}


@given(
    policy=st.sampled_from(EVERY_POLICY),
    mailbox=st.integers(1, 3),
    in_flight=st.integers(1, 3),
    concurrency=st.integers(1, 5),
    samples=st.integers(1, 3),
    audit=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@pytest.mark.slow
def test_no_ring_deadlocks_and_every_problem_gets_one_solution(
    policy: Policy, mailbox: int, in_flight: int, concurrency: int, samples: int, audit: float, seed: int,
    solved: Solved, a_task: Tasks, make_models: MakeModels,
) -> None:  # fmt: skip
    sampling, limits = Sampling(target_samples=samples), Limits(max_steps=4)
    tasks = [a_task(str(n), policy=policy, audit=audit, sampling=sampling, limits=limits, seed=seed) for n in range(8)]
    solutions = solved(models(make_models, seed, in_flight), tasks, concurrency, mailbox)
    assert sorted(solution.problem for solution in solutions) == sorted(task.id for task in tasks)
    assert {solution.error for solution in solutions} == {None}


@examples(0.5)
@given(
    mailbox=st.integers(1, 3),
    in_flight=st.integers(1, 3),
    concurrency=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    deadline=st.floats(0, 20, exclude_min=True),
)
@pytest.mark.slow
def test_no_ring_deadlocks_when_models_fail_and_deadlines_strike(
    mailbox: int, in_flight: int, concurrency: int, seed: int, deadline: float,
    solved: Solved, a_task: Tasks, make_models: MakeModels,
) -> None:  # fmt: skip
    draw, seconds = random.Random(seed), timing(seed)

    def break_sometimes(request: GenerationRequest) -> Generation:
        if draw.random() < 0.1:
            raise OSError("broken")
        return write(request)

    generators = (ScriptedGenerator(break_sometimes, seconds) for _ in range(2))
    scorers = (ScriptedScorer(lambda request: rate(request) * 1.1, seconds) for _ in range(2))
    limits = Limits(max_steps=4, deadline=deadline)
    tasks = [
        a_task(f"{n}/{policy}", policy=policy, audit=0.5, limits=limits, sampling=Sampling(target_samples=2))
        for policy in EVERY_POLICY
        for n in range(2)
    ]
    solutions = solved(make_models(*generators, *scorers, in_flight=in_flight), tasks, concurrency, mailbox)
    assert sorted(solution.problem for solution in solutions) == sorted(task.id for task in tasks)
    assert all((solution.error is not None) == (solution.finish_reason == "failed") for solution in solutions)


@pytest.mark.parametrize("policy", EVERY_POLICY)
@examples(0.1)
@given(seed=st.integers(0, 2**32), times=st.integers(0, 2**32), audit=st.sampled_from([0.0, 0.5]))
@pytest.mark.slow
def test_transcripts_depend_neither_on_concurrency_nor_on_timing(
    policy: Policy, seed: int, times: int, audit: float, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    sampling, limits = Sampling(temperature=1.0, target_samples=2), Limits(max_steps=6)
    tasks = [a_task(str(n), policy=policy, audit=audit, sampling=sampling, limits=limits, seed=seed) for n in range(10)]
    one_by_one = transcripts(solved(models(make_models, 0, in_flight=64), tasks, concurrency=1))
    all_at_once = transcripts(solved(models(make_models, times, in_flight=3), tasks, concurrency=256))
    assert one_by_one == all_at_once


@examples(0.2)
@given(
    policy=st.sampled_from(EVERY_POLICY),
    in_flight=st.integers(16, 24),
    samples=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
@pytest.mark.slow
def test_no_ring_deadlocks_and_no_transcript_changes_when_slots_are_granted_in_groups(
    policy: Policy, in_flight: int, samples: int, seed: int, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    sampling, limits = Sampling(temperature=1.0, target_samples=samples), Limits(max_steps=4)
    tasks = [a_task(str(n), policy=policy, audit=0.5, sampling=sampling, limits=limits, seed=seed) for n in range(30)]
    grouped = models(make_models, seed, in_flight, pauses=True)
    one_by_one = models(make_models, seed, in_flight)
    assert transcripts(solved(grouped, tasks, 256)) == transcripts(solved(one_by_one, tasks, 256))


@examples(0.1)
@given(seed=st.integers(0, 2**32), order=st.permutations(range(10)))
def test_transcripts_do_not_depend_on_the_order_of_the_problems(
    seed: int, order: list[int], solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    tasks = [a_task(str(n), policy=RewardThreshold(0.5), seed=seed, limits=Limits(max_steps=6)) for n in range(10)]
    first = transcripts(solved(models(make_models, seed, in_flight=2), tasks, concurrency=3))
    second = transcripts(solved(models(make_models, seed, in_flight=2), [tasks[n] for n in order], concurrency=3))
    assert first == second


def test_another_seed_gives_another_transcript(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    texts = [transcripts(solved(models(make_models, 0, in_flight=2), [a_task(seed=seed)])) for seed in (1, 2)]
    assert texts[0] != texts[1]
