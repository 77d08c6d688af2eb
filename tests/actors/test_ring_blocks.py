"""Blocks: several steps are drafted and scored together, and the transcript is that of one step after the other."""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.pacing import PacedRouter
from arbiter.actors.policies import ConfidenceThreshold, LearnedRouter, RewardThreshold
from arbiter.actors.ring import Ring, open_ring
from arbiter.actors.ring_setup import Models
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Score, Scorer, ScoreRequest
from arbiter.protocols.records import Limits, Sampling, Solution, StepRecord, Usage
from tests.hypothesis_profiles import examples

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Tasks = Callable[..., Task]

POLICIES: list[Policy] = [
    RewardThreshold(0.5),
    LearnedRouter(0.5),
    PacedRouter(0.5, 20, steps=5),
    ConfidenceThreshold(0.5),
    TriggeredEscalation(0.9, first=2, unsure=0.3),
]


def share(*parts: object) -> float:
    """Return a number in [0, 1) that depends only on ``parts``."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "big") / 2**48


class OneByOne:
    """A scorer that cannot score blocks."""

    def __init__(self, inner: ScriptedScorer) -> None:
        self._inner = inner

    async def score(self, request: ScoreRequest) -> Score:
        return await self._inner.score(request)


class World:
    """Models whose answers depend on the seed and on the text before them. ``acceptance`` is that of drafts."""

    def __init__(self, seed: int, acceptance: float, writes_blocks: bool = True, scores_blocks: bool = True) -> None:
        self._seed = seed
        self._acceptance = acceptance
        self.draft = ScriptedGenerator(self._write, 1.0, writes_blocks=writes_blocks)
        self.target = ScriptedGenerator(self._write, 1.0)
        self.scorer = ScriptedScorer(self._rate, 1.0)
        scorer: Scorer = self.scorer if scores_blocks else OneByOne(self.scorer)
        self.models = Models(
            ModelHandle(self.draft, annotated=seed % 2 == 0),
            ModelHandle(self.target),
            {"prm": ModelHandle(scorer), "router": ModelHandle(scorer)},
        )

    def _write(self, request: GenerationRequest) -> Generation:
        drawn = share(self._seed, request.author, [step.text for step in request.transcript.steps])
        tokens = min(1 + int(9 * share(drawn, "tokens")), request.max_tokens)
        ending = "end" if drawn < 0.05 else "limit" if tokens == request.max_tokens else "separator"
        text = "again" if share(drawn, "text") < 0.2 else f"{request.author} {drawn:.6f}"
        sure = max(share(drawn, "sure"), 0.01) if request.confidence else None
        return Generation(text, ending, Usage(5, tokens), confidence=sure)

    def _rate(self, request: ScoreRequest) -> float:
        texts = [step.text for step in request.transcript.steps]
        is_good = share(self._seed, "score", texts, request.candidate) < self._acceptance
        return float(is_good) if request.score_kind == "prm" else float(not is_good)


def solved(
    in_virtual_time: Virtual, world: World, tasks: list[Task], open_one: OpenRing = open_ring, **options: Any
) -> list[Solution]:
    found: list[Solution] = []

    async def body() -> None:
        async with open_one(world.models, **options) as ring:
            found.extend([await ring.solve(task) for task in tasks])

    in_virtual_time(body)
    return found


def kept(steps: tuple[StepRecord, ...]) -> list[tuple[Any, ...]]:
    """Return what happened at each step, without times and the tokens of prompts."""
    return [
        (
            step.verdict,
            step.chosen,
            [(one.author, one.text, one.stop_reason, one.score, one.confidence) for one in step.candidates],
            [one.usage.completion_tokens for one in step.candidates],
        )
        for step in steps
    ]


@settings(examples(0.3), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    acceptance=st.sampled_from((0.3, 0.9, 1.0)),
    policy=st.sampled_from(POLICIES),
    block=st.integers(2, 9),
    can=st.tuples(st.booleans(), st.booleans()),
    limits=st.sampled_from((Limits(12), Limits(30, 40), Limits(30, 1000, 7), Limits(30, 35, 9))),
    temperature=st.sampled_from((0.0, 0.7)),
)
def test_the_transcript_is_that_of_one_step_after_the_other(
    in_virtual_time: Virtual,
    a_task: Tasks,
    seed: int,
    acceptance: float,
    policy: Policy,
    block: int,
    can: tuple[bool, bool],
    limits: Limits,
    temperature: float,
) -> None:
    tasks = [a_task(f"p{n}", policy=policy, limits=limits, sampling=Sampling(temperature)) for n in range(2)]
    steps = solved(in_virtual_time, World(seed, acceptance), tasks)
    blocks = solved(in_virtual_time, World(seed, acceptance, *can), tasks, block=block)
    for one, other in zip(steps, blocks, strict=True):
        assert kept(one.steps) == kept(other.steps)
        assert (one.text, one.finish_reason, one.error) == (other.text, other.finish_reason, other.error)


@pytest.mark.parametrize("policy", [RewardThreshold(0.5), LearnedRouter(0.5)])
def test_at_high_acceptance_blocks_need_at_most_half_of_the_requests(
    in_virtual_time: Virtual, a_task: Tasks, policy: Policy
) -> None:
    tasks = [a_task(f"p{number}", policy=policy, limits=Limits(20)) for number in range(40)]
    apart, together = World(1, 0.9), World(1, 0.9)
    one = solved(in_virtual_time, apart, tasks)
    other = solved(in_virtual_time, together, tasks, block=4)
    assert [kept(solution.steps) for solution in one] == [kept(solution.steps) for solution in other]
    assert together.scorer.calls <= apart.scorer.calls / 2
    calls = [world.draft.calls + world.scorer.calls + world.target.calls for world in (apart, together)]
    assert calls[1] <= calls[0] / 2


def test_a_block_ends_where_a_draft_is_rejected(in_virtual_time: Virtual, a_task: Tasks) -> None:
    written: list[list[int]] = []

    class Drafts(ScriptedGenerator):
        async def generate_block(self, request: GenerationRequest, steps: int) -> tuple[Generation, ...]:
            answers = await super().generate_block(request, steps)
            written.append([request.step + index for index in range(len(answers))])
            return answers

    world = World(0, 1.0)
    draft = Drafts(lambda request: f"draft {request.step}", writes_blocks=True)
    scorer = ScriptedScorer(lambda request: 0.0 if request.step == 1 else 1.0)
    world.models = Models(ModelHandle(draft), ModelHandle(world.target), {"prm": ModelHandle(scorer)})
    [solution] = solved(in_virtual_time, world, [a_task(policy=RewardThreshold(0.5), limits=Limits(6))], block=3)
    assert written == [[0, 1, 2], [2, 3, 4], [5, 6, 7]]
    assert [step.kept.author for step in solution.steps] == ["draft", "target", "draft", "draft", "draft", "draft"]
    assert scorer.calls == 3
    assert solution.lookahead.started == 6
    assert solution.lookahead.hits == 3


def test_a_block_whose_scores_fail_is_scored_step_by_step(in_virtual_time: Virtual, a_task: Tasks) -> None:
    class Scores(ScriptedScorer):
        async def score_block(self, requests: tuple[ScoreRequest, ...]) -> tuple[Score, ...]:
            raise BackendError("too long")

    world, scorer = World(3, 1.0), Scores(lambda request: 1.0)
    world.models = Models(ModelHandle(world.draft), ModelHandle(world.target), {"prm": ModelHandle(scorer)})
    [solution] = solved(in_virtual_time, world, [a_task(policy=RewardThreshold(0.5), limits=Limits(4))], block=4)
    assert (solution.error, [step.verdict for step in solution.steps]) == (None, ["keep_draft"] * 4)
    assert (solution.requests["prm"].requests, solution.requests["prm"].failed) == (5, 1)


@pytest.mark.parametrize(("writes_blocks", "seconds"), [(True, 2.5), (False, 3.5), (True, 4.5)])
def test_the_end_of_a_problem_cancels_its_block(
    in_virtual_time: Virtual, a_task: Tasks, writes_blocks: bool, seconds: float
) -> None:
    world = World(1, 1.0, writes_blocks)
    limits = Limits(deadline=seconds)
    [solution] = solved(in_virtual_time, world, [a_task(policy=RewardThreshold(0.5), limits=limits)], block=4)
    assert (solution.finish_reason, solution.seconds, solution.steps) == ("deadline", seconds, ())
    assert world.draft.cancelled + world.scorer.cancelled == 1
    assert world.draft.running == world.scorer.running == 0


def test_a_block_of_two_scores_of_the_wrong_number_is_not_used(in_virtual_time: Virtual, a_task: Tasks) -> None:
    class Scores(ScriptedScorer):
        async def score_block(self, requests: tuple[ScoreRequest, ...]) -> tuple[Score, ...]:
            return (await super().score_block(requests))[:1]

    world, scorer = World(3, 1.0), Scores(lambda request: 1.0)
    world.models = Models(ModelHandle(world.draft), ModelHandle(world.target), {"prm": ModelHandle(scorer)})
    [solution] = solved(in_virtual_time, world, [a_task(policy=RewardThreshold(0.5), limits=Limits(2))], block=2)
    assert (solution.error, len(solution.steps), scorer.calls) == (None, 2, 3)


def test_glimpses_are_written_step_by_step(in_virtual_time: Virtual, a_task: Tasks) -> None:
    world = World(3, 1.0)
    [solution] = solved(in_virtual_time, world, [a_task(policy=GlimpsedEscalation(0.0), limits=Limits(3))], block=4)
    assert (len(solution.steps), solution.lookahead.started) == (3, 0)


@pytest.mark.parametrize(
    "options",
    [{"block": 0}, {"block": 2, "lookahead": 1}, {"block": 2, "lookahead": None}, {"block": 2, "salvage": True}],
)
def test_a_block_that_does_not_fit_is_refused(in_virtual_time: Virtual, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="block must be 1 or more"):
        solved(in_virtual_time, World(0, 1.0), [], **options)


def test_blocks_go_through_mailboxes(in_virtual_time: Virtual, open_ring: OpenRing, a_task: Tasks) -> None:
    task = a_task(policy=RewardThreshold(0.5), limits=Limits(9))
    one, other = World(5, 0.7), World(5, 0.7)
    [expected] = solved(in_virtual_time, one, [task])
    [found] = solved(in_virtual_time, other, [task], open_ring, block=3, mailbox=1)
    assert kept(found.steps) == kept(expected.steps)
