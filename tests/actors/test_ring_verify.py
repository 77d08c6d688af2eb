"""Verified escalation: when it is used, what it saves, and that a pre-draft after the same text is a hit."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import Oracle, RandomEscalation, RewardThreshold, TargetOnly
from arbiter.actors.ring import Ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Proposal, Scorer, ScoreRequest
from arbiter.protocols.records import Limits, LookaheadStats, PrefixMatch, Sampling, Solution, Usage

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solve = Callable[..., Solution]

STEPS = 4


def write(request: GenerationRequest) -> Generation:
    """Write ten tokens. The target writes the proposed step, except at the second step."""
    text = f"draft {request.step}" if request.step != 1 else f"{request.author} {request.step}"
    agreement = None
    if request.author == "target" and request.proposal is not None:
        agreement = PrefixMatch(10, 10 if request.proposal.text == text else 4)
    ending = "end" if request.step == STEPS - 1 else "separator"
    return Generation(text, ending, Usage(completion_tokens=10), prefix_match=agreement)


def seconds(request: GenerationRequest | ScoreRequest) -> float:
    """A tenth of a second per token that must be written."""
    assert isinstance(request, GenerationRequest)
    made = write(request)
    return (10 - (made.prefix_match.matched if made.prefix_match else 0)) / 10 + 0.1


@pytest.fixture(scope="session")
def solve(in_virtual_time: Virtual, open_ring: OpenRing) -> Solve:
    def run(models: Models, task: Task, verify: Verify, lookahead: int | None = 0) -> Solution:
        solutions: list[Solution] = []

        async def done(solution: Solution) -> None:
            solutions.append(solution)

        async def body() -> None:
            async with open_ring(models, 1, lookahead=lookahead, verify=verify) as ring:
                await solve_all(ring, [task], 1, done)

        in_virtual_time(body)
        return solutions[0]

    return run


def rejecting(requests: list[GenerationRequest], annotated: bool = True) -> Models:
    """Models that reject every draft. ``requests`` gets the requests to the target."""

    def note(request: GenerationRequest) -> Generation:
        requests.append(request)
        return write(request)

    draft, target = ScriptedGenerator(write, 1.0), ScriptedGenerator(note, seconds)
    scorer = ModelHandle[Scorer](ScriptedScorer(lambda _: 0.0, 0.5))
    return Models(
        draft=ModelHandle(draft, annotated=annotated),
        target=ModelHandle(target),
        scorers={"prm": scorer, "router": scorer},
    )


def test_the_rejected_draft_goes_along_and_spares_what_was_agreed_on(a_task: Tasks, solve: Solve) -> None:
    requests: list[GenerationRequest] = []
    plain = solve(rejecting([]), a_task(policy=RewardThreshold(0.5)), "off")
    shown = solve(rejecting(requests), a_task(policy=RewardThreshold(0.5)), "on")
    assert [request.proposal for request in requests] == [Proposal(f"draft {n}", e) for n, e in enumerate(ENDINGS)]
    assert texts(plain) == texts(shown)
    assert [step.kept.prefix_match for step in shown.steps] == [PrefixMatch(10, n) for n in (10, 4, 10, 10)]
    assert plain.seconds - shown.seconds == pytest.approx(3.4)


ENDINGS = ("separator", "separator", "separator", "end")


@pytest.mark.parametrize("policy", [TargetOnly(), Oracle(0.0)], ids=lambda policy: type(policy).__name__)
def test_where_no_draft_was_rejected_nothing_is_proposed(a_task: Tasks, solve: Solve, policy: Policy) -> None:
    requests: list[GenerationRequest] = []
    solve(rejecting(requests), a_task(policy=policy), "on")
    assert len(requests) == STEPS
    assert {request.proposal for request in requests} == {None}


@pytest.mark.parametrize(("temperature", "verify"), [(0.0, "off"), (0.7, "on"), (0.7, "auto")])
def test_nothing_is_proposed_above_temperature_0_or_when_it_is_off(
    a_task: Tasks, solve: Solve, temperature: float, verify: Verify
) -> None:
    requests: list[GenerationRequest] = []
    task = a_task(policy=RandomEscalation(1.0), sampling=Sampling(temperature))
    solve(rejecting(requests), task, verify)
    assert {request.proposal for request in requests} == {None}


def test_a_pre_draft_hits_when_the_target_writes_the_same_step(a_task: Tasks, solve: Solve) -> None:
    task = a_task(policy=RewardThreshold(0.5))
    solution = solve(rejecting([], annotated=False), task, "on", lookahead=1)
    assert solution.lookahead == LookaheadStats(started=3, hits=2, wasted_tokens=10)
    assert texts(solution) == texts(solve(rejecting([], annotated=False), task, "off"))


def test_it_does_not_hit_if_the_draft_is_told_who_wrote_the_step(a_task: Tasks, solve: Solve) -> None:
    solution = solve(rejecting([], annotated=True), a_task(policy=RewardThreshold(0.5)), "on", lookahead=1)
    assert (solution.lookahead.started, solution.lookahead.hits) == (3, 0)


def test_a_pre_draft_with_other_room_for_tokens_does_not_hit(a_task: Tasks, solve: Solve) -> None:
    """The target's step has the same text but more tokens, which leaves fewer for the following steps."""

    def longer(request: GenerationRequest) -> Generation:
        return Generation(f"draft {request.step}", "separator", Usage(completion_tokens=12))

    models = rejecting([], annotated=False)
    models = Models(draft=models.draft, target=ModelHandle(ScriptedGenerator(longer)), scorers=models.scorers)
    limits = Limits(max_tokens=30, max_steps=2)
    solution = solve(models, a_task(policy=RewardThreshold(0.5), limits=limits), "off", lookahead=1)
    assert solution.lookahead.hits == 0


def test_the_controller_drafts_ahead_where_steps_are_accepted(
    a_task: Tasks, make_models: MakeModels, solve: Solve
) -> None:
    accepting = make_models(ScriptedGenerator(write, 1.0), None, ScriptedScorer(lambda _: 1.0, 1.0))
    solution = solve(accepting, a_task(policy=RewardThreshold(0.5)), "auto", lookahead=None)
    assert solution.lookahead.hits == STEPS - 1


def texts(solution: Solution) -> list[tuple[str, str]]:
    return [(step.kept.author, step.kept.text) for step in solution.steps]
