"""Drafting ahead: what time it saves, when a draft is used, and that transcripts do not change."""

import hashlib
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import DraftOnly, GenerateRows, LearnedRouter, Oracle, RandomEscalation, RewardThreshold
from arbiter.actors.ring import Ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Limits, LookaheadStats, Sampling, Solution, Transcript, Usage
from arbiter.protocols.tools import AnswerRules

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solve = Callable[..., list[Solution]]

STEPS = 4
DECIDING = [RewardThreshold(0.5), LearnedRouter(0.5), RandomEscalation(0.5), Oracle(0.0), GenerateRows()]


def four_steps(request: GenerationRequest) -> Generation:
    """Write ``draft 0`` and so on, with ten tokens each."""
    ending = "end" if request.step == STEPS - 1 else "separator"
    return Generation(f"{request.author} {request.step}", ending, Usage(completion_tokens=10))


@pytest.fixture(scope="session")
def solve(in_virtual_time: Virtual, open_ring: OpenRing) -> Solve:
    """Solve tasks in a ring that drafts ``lookahead`` steps ahead."""

    def run(models: Models, *tasks: Task, lookahead: int) -> list[Solution]:
        solutions: list[Solution] = []

        async def done(solution: Solution) -> None:
            solutions.append(solution)

        async def body() -> None:
            async with open_ring(models, 1, lookahead=lookahead) as ring:
                await solve_all(ring, tasks, 1000, done)

        in_virtual_time(body)
        return solutions

    return run


def drafting(
    make_models: MakeModels, keep: float = 1.0, draft: float = 2.0, score: float = 1.0, target: float = 5.0
) -> Models:
    """Models that take the given seconds; every score is ``keep``."""
    return make_models(
        ScriptedGenerator(four_steps, draft),
        ScriptedGenerator(four_steps, target),
        ScriptedScorer(lambda _: keep, score),
        ScriptedScorer(lambda _: keep, score),
    )


@pytest.mark.parametrize(("draft", "score"), [(2.0, 1.0), (1.0, 3.0), (2.0, 2.0)])
def test_of_an_accepted_step_the_shorter_of_draft_and_score_is_hidden(
    make_models: MakeModels, a_task: Tasks, solve: Solve, draft: float, score: float
) -> None:
    models = drafting(make_models, draft=draft, score=score)
    [alone] = solve(models, a_task(policy=RewardThreshold(0.5)), lookahead=0)
    [ahead] = solve(models, a_task(policy=RewardThreshold(0.5)), lookahead=1)
    assert alone.seconds == STEPS * (draft + score)
    assert alone.seconds - ahead.seconds == (STEPS - 1) * min(draft, score)
    assert ahead.lookahead == LookaheadStats(started=STEPS - 1, hits=STEPS - 1)


def test_a_deeper_look_ahead_hides_long_scores_as_well(make_models: MakeModels, a_task: Tasks, solve: Solve) -> None:
    models = drafting(make_models, draft=1.0, score=4.0)
    [once] = solve(models, a_task(policy=RewardThreshold(0.5)), lookahead=1)
    [twice] = solve(models, a_task(policy=RewardThreshold(0.5)), lookahead=2)
    assert once.seconds == twice.seconds == 1.0 + STEPS * 4.0
    assert twice.lookahead.hits == STEPS - 1


def test_a_pre_draft_on_a_rejected_step_is_wasted_and_told(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    models = drafting(make_models, keep=0.0, draft=2.0, score=1.0, target=5.0)
    [ahead] = solve(models, a_task(policy=RewardThreshold(0.5)), lookahead=1)
    assert {step.kept.author for step in ahead.steps} == {"target"}
    assert ahead.lookahead == LookaheadStats(started=STEPS - 1, hits=0, wasted_tokens=(STEPS - 1) * 10)
    assert ahead.requests["draft"].requests == STEPS + STEPS - 1


def test_a_pre_draft_that_cannot_be_used_any_more_is_cancelled_at_once(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    draft = ScriptedGenerator(four_steps, lambda request: 2.0 if request.step == 0 else 100.0)
    models = make_models(draft, ScriptedGenerator(four_steps, 1.0), ScriptedScorer(lambda _: 0.0, 1.0))
    [solution] = solve(models, a_task(policy=RewardThreshold(0.5), limits=Limits(max_steps=2)), lookahead=1)
    assert (draft.cancelled, draft.running) == (1, 0)
    assert solution.seconds == 2 + 1 + 1 + 100 + 1 + 1  # the second draft starts when the target's step arrives


def test_nothing_is_drafted_ahead_behind_the_end_of_a_problem(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    models = drafting(make_models)
    for limits in (Limits(max_steps=1), Limits(max_tokens=10)):
        [solution] = solve(models, a_task(policy=RewardThreshold(0.5), limits=limits), lookahead=3)
        assert solution.lookahead == LookaheadStats()


def test_a_baseline_of_one_model_has_nothing_to_look_ahead_to(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    [solution] = solve(drafting(make_models), a_task(policy=DraftOnly()), lookahead=2)
    assert solution.lookahead == LookaheadStats()


def test_a_pre_draft_is_begun_only_if_there_is_room_and_gives_way(
    make_models: MakeModels, a_task: Tasks, solve: Solve
) -> None:
    """With one slot at the draft, requested drafts never take longer than without drafting ahead."""

    def models() -> Models:
        return make_models(
            ScriptedGenerator(four_steps, 2.0), None, ScriptedScorer(lambda _: 1.0, 1.0), None, in_flight=1
        )

    tasks = [a_task(str(n), policy=RewardThreshold(0.5)) for n in range(3)]
    alone = max(solution.seconds for solution in solve(models(), *tasks, lookahead=0))
    ahead = max(solution.seconds for solution in solve(models(), *tasks, lookahead=2))
    assert ahead <= alone


def test_a_pre_draft_that_fails_is_asked_for_in_its_turn(make_models: MakeModels, a_task: Tasks, solve: Solve) -> None:
    calls: list[str] = []

    def first_ahead_fails(request: GenerationRequest) -> Generation:
        calls.append(request.call)
        if request.call.endswith("/draft/1"):
            raise BackendError("fell over")
        return four_steps(request)

    models = make_models(ScriptedGenerator(first_ahead_fails, 1.0), None, ScriptedScorer(lambda _: 1.0, 1.0))
    [solution] = solve(models, a_task(policy=RewardThreshold(0.5)), lookahead=1)
    assert (solution.finish_reason, len(solution.steps), solution.lookahead.hits) == ("answered", STEPS, 0)
    assert calls.count("p/1/draft_step/draft/0") == 1


def test_a_closed_problem_leaves_no_pre_draft_behind(
    make_models: MakeModels, a_task: Tasks, in_virtual_time: Virtual, open_ring: OpenRing
) -> None:
    draft = ScriptedGenerator(four_steps, 1.0)
    models = make_models(draft, None, ScriptedScorer(lambda _: 1.0, 100.0))

    async def body() -> None:
        async with open_ring(models, 1, lookahead=3) as ring:
            with anyio.move_on_after(2.5):
                await ring.solve(a_task(policy=RewardThreshold(0.5)))
            await anyio.sleep(0.1)
            assert draft.running == 0

    in_virtual_time(body)
    assert draft.cancelled == 1


def share(*parts: object) -> float:
    """A number in [0, 1) that only depends on ``parts``."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=6).digest()[0] / 256


def write(request: GenerationRequest, annotated: bool) -> Generation:
    """Write steps of all lengths, some of them repeated, that depend on the whole context.

    If ``annotated``, they depend on the authors. Otherwise both models sometimes write the same step.
    """
    context = request.transcript if annotated else [step.text for step in request.transcript.steps]
    by = (request.author, request.seed) if annotated or share(context, request.author) > 0.5 else ()
    drawn = share(by, context)
    text = "again" if drawn > 0.7 else f"{drawn}"
    return Generation(text, "end" if drawn < 0.1 else "separator", Usage(completion_tokens=1 + int(9 * drawn)))


def rate(request: ScoreRequest) -> float:
    return share(request.score_kind, request.transcript, request.candidate)


@given(
    policy=st.sampled_from(DECIDING),
    lookahead=st.sampled_from([1, 2, 3, 4, None]),
    verify=st.sampled_from(["on", "auto"]),
    annotated=st.booleans(),
    in_flight=st.sampled_from([1, 2, 1000]),
    temperature=st.sampled_from([0.0, 0.8]),
    timing=st.integers(0, 1000),
)
@pytest.mark.slow
def test_transcripts_are_the_same_with_and_without(
    a_task: Tasks,
    in_virtual_time: Virtual,
    policy: Policy,
    lookahead: int | None,
    verify: Verify,
    annotated: bool,
    in_flight: int,
    temperature: float,
    timing: int,
    open_ring: OpenRing,
) -> None:
    """With random models and random durations, also when the same call is repeated."""

    def outcome(speculates: bool) -> dict[str, object]:
        draw, found = random.Random(timing + speculates), dict[str, object]()

        def seconds(_: GenerationRequest | ScoreRequest) -> float:
            return draw.choice((0.0, 0.0, 0.1, 1.0, 7.0))

        async def done(one: Solution) -> None:
            found[one.problem] = [(step.kept.text, step.kept.author) for step in one.steps], one.finish_reason

        async def body() -> None:
            writer = ModelHandle[Generator](
                ScriptedGenerator(lambda request: write(request, annotated), seconds), in_flight, annotated
            )
            scorer = ModelHandle[Scorer](ScriptedScorer(rate, seconds), in_flight)
            models = Models(draft=writer, target=writer, scorers={"prm": scorer, "router": scorer})
            sampling, limits = Sampling(temperature), Limits(max_steps=8, max_tokens=40, step_tokens=12)
            tasks = [a_task(str(n), policy=policy, limits=limits, sampling=sampling) for n in range(6)]
            ahead, shown = (lookahead, verify) if speculates else (0, "off")
            async with open_ring(models, 1, lookahead=ahead, verify=shown) as ring:
                await solve_all(ring, tasks, 1000, done)

        in_virtual_time(body)
        return found

    assert outcome(False) == outcome(True)


def salvaging(in_virtual_time: Virtual, open_ring: OpenRing, models: Models, task: Task, salvage: bool) -> Solution:
    solutions: list[Solution] = []

    async def body() -> None:
        async with open_ring(models, 1, lookahead=1, salvage=salvage) as ring:
            solutions.append(await ring.solve(task))

    in_virtual_time(body)
    return solutions[0]


def test_a_stale_pre_draft_is_offered_in_its_new_context_only_if_it_is_to_be_salvaged(
    make_models: MakeModels, a_task: Tasks, in_virtual_time: Virtual, open_ring: OpenRing
) -> None:
    """The first step is rejected. The draft that follows it becomes the draft of the second step and is scored."""

    def write_on(request: GenerationRequest) -> Generation:
        before = request.transcript.steps[-1].text if request.transcript.steps else "nothing"
        ending = "end" if request.step == STEPS - 1 else "separator"
        return Generation(f"{request.author} after {before[:6]}", ending, Usage(completion_tokens=10))

    def models() -> Models:
        scorer = ScriptedScorer(lambda request: float(request.step > 0), 1.0)
        return make_models(ScriptedGenerator(write_on, 2.0), ScriptedGenerator(write_on, 5.0), scorer)

    task = a_task(policy=RewardThreshold(0.5))
    exact, salvaged = (salvaging(in_virtual_time, open_ring, models(), task, salvage) for salvage in (False, True))
    assert [step.kept.text for step in exact.steps][:2] == ["target after nothin", "draft after target"]
    assert [step.kept.text for step in salvaged.steps][:2] == ["target after nothin", "draft after draft "]
    assert exact.lookahead == LookaheadStats(started=3, hits=2, wasted_tokens=10)
    assert salvaged.lookahead == LookaheadStats(started=3, hits=2, salvaged=1)
    assert exact.seconds - salvaged.seconds == pytest.approx(2.0)


def test_a_stale_pre_draft_keeps_the_limits_of_its_new_context(
    make_models: MakeModels, a_task: Tasks, in_virtual_time: Virtual, open_ring: OpenRing
) -> None:
    """The target's step leaves 8 tokens, but the pre-draft has 10."""

    def write_so_much(request: GenerationRequest) -> Generation:
        tokens = 12 if request.author == "target" else min(10, request.max_tokens)
        return Generation(f"{request.author} {request.step}", "separator", Usage(completion_tokens=tokens))

    scorer = ScriptedScorer(lambda request: float(request.step > 0), 1.0)
    models = make_models(ScriptedGenerator(write_so_much, 2.0), ScriptedGenerator(write_so_much, 5.0), scorer)
    task = a_task(policy=RewardThreshold(0.5), limits=Limits(max_tokens=20))
    solution = salvaging(in_virtual_time, open_ring, models, task, salvage=True)
    assert [step.kept.usage.completion_tokens for step in solution.steps] == [12, 8]
    assert solution.lookahead.salvaged == 0


def test_a_stale_pre_draft_that_was_checked_with_other_steps_before_it_is_written_again(
    make_models: MakeModels, a_task: Tasks, in_virtual_time: Virtual, open_ring: OpenRing
) -> None:
    """The draft begins JSON with ``{``, and would end it. The target ends it itself, and begins another value."""

    def write_json(request: GenerationRequest) -> Generation:
        before = request.transcript.steps
        if not before:
            return Generation("{" if request.author == "draft" else "[", "separator", Usage(completion_tokens=1))
        return Generation("}" if before[0].text == "{" else "]", "end", Usage(completion_tokens=1))

    scorer = ScriptedScorer(lambda request: float(request.step > 0), 1.0)
    models = make_models(ScriptedGenerator(write_json, 2.0), ScriptedGenerator(write_json, 5.0), scorer)
    transcript = Transcript("q", rules=AnswerRules(schema="true"))
    task = msgspec.structs.replace(a_task(policy=RewardThreshold(0.5)), transcript=transcript)
    solution = salvaging(in_virtual_time, open_ring, models, task, salvage=True)
    assert (solution.text, solution.steps[-1].kept.valid) == ("[\n\n]", True)
    assert (solution.lookahead.started, solution.lookahead.salvaged) == (1, 0)
