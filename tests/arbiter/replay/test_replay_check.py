"""A replay equals its log, and the first difference is reported."""

import random
from collections.abc import Callable
from typing import Any, ClassVar

import anyio
import msgspec
import pytest

from arbiter.actors.beliefs import BeliefConfidence, BeliefReward, StepModel
from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.pacing import PacedConfidence, PacedJudge, PacedReward, PacedRouter
from arbiter.actors.policies import (
    ConfidenceThreshold,
    DraftOnly,
    GenerateRows,
    JudgeThreshold,
    LearnedRouter,
    Oracle,
    PolicyBase,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.actors.triggers import TriggeredEscalation
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Detail, Event
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Limits, ScoreKind, Target, Transcript, Usage, Verdict
from arbiter.replay.check import check

BELIEFS = StepModel(0.8, 0.95, (0.5,), (0.1, 0.9), (0.6, 0.4))
SCALES: tuple[ScoreKind, ...] = ("prm", "router", "judge")
POLICIES: tuple[Policy, ...] = (
    DraftOnly(),
    TargetOnly(),
    RandomEscalation(0.5),
    RewardThreshold(0.5),
    LearnedRouter(0.5),
    ConfidenceThreshold(0.5, "first"),
    JudgeThreshold(0.5),
    Oracle(0.0),
    GenerateRows("mean"),
    LearnedRouter(0.5, (Target("small", 1.0),)),
    LearnedRouter(0.6, (Target("small", 1.0), Target("large", 1.5))),
    GenerateRows(targets=("small", "large")),
    TriggeredEscalation(0.75, first=2, words=("step 4",), consecutive=2),
    PacedConfidence(0.5, 7),
    PacedRouter(0.5, 2, "escalations", 4),
    PacedReward(0.5, 9),
    PacedJudge(0.5, 9),
    BeliefConfidence(0.05, BELIEFS, 5),
    BeliefReward(0.05, BELIEFS, 5),
    GlimpsedEscalation(0.5),
    GlimpsedEscalation(0.5, "target", budget=0.3),
    LearnedRouter(0.5, budget=0.3),
    RewardThreshold(0.5, budget=0.3),
)
Recording = Callable[..., Run]
Altered = Callable[..., Run]


def lines_of(run: Run, kind: str) -> list[Event]:
    """The events of a kind, numbered as if each event of the log had its own line."""
    events = [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(run.events())]
    return [event for event in events if event.kind == kind]


def weak_drafts() -> Models:
    """Drafts score 0.2 at every other step. The third step ends the answer."""

    def write(request: GenerationRequest) -> Generation:
        sure = None if request.confidence is None else 0.2 if request.step % 2 else 0.8
        text = f"{request.target or request.author} step {request.step}"
        return Generation(text, "separator", Usage(completion_tokens=3), confidence=sure)

    generator = ScriptedGenerator(write, seconds=0.001)

    def rate(request: ScoreRequest) -> float | tuple[float, ...]:
        value = 0.2 if request.step % 2 else 0.8
        return (value, value) if request.score_kind == "router" else value

    scorer = ScriptedScorer(rate)
    scorers = dict.fromkeys(SCALES, ModelHandle[Scorer](scorer))
    return Models(
        ModelHandle(generator),
        ModelHandle(generator),
        scorers,
        targets=dict.fromkeys(("small", "large"), ModelHandle(generator)),
    )


def a_task(policy: Policy, problem: str = "p") -> Task:
    """Models that write six steps without ending the answer."""
    return Task(problem, Transcript(f"question {problem}"), policy, Limits(max_steps=6, repeats=99))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow
def test_every_recording_replays_as_it_was_recorded(a_recording: Recording, policy: Policy, seed: int) -> None:
    """The recordings include failures, deadlines, audits, samples, busy models and interruptions."""
    verdict = check(a_recording(seed, policy))
    assert verdict.differences == ()
    assert verdict.messages > 0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.slow
def test_a_log_that_ends_anywhere_replays_as_far_as_it_goes(
    a_recording: Recording, altered: Altered, policy: Policy
) -> None:
    run, rng = a_recording(1, policy), random.Random(1)
    count = sum(1 for _ in run.events())
    for line in rng.sample(range(2, count), 12):
        assert check(altered(run, line, None)).differences == (), f"cut before line {line + 1}"


@pytest.mark.parametrize(
    "policy", [one for one in POLICIES[2:] if one.glimpse is None], ids=lambda policy: type(policy).__name__
)
@pytest.mark.slow
def test_an_altered_decision_is_named_and_nothing_else(record: Recording, altered: Altered, policy: Policy) -> None:
    run = record(weak_drafts(), [a_task(policy, str(n)) for n in range(3)])
    decided = lines_of(run, "step_accepted")[3]

    def turn(event: dict[str, Any]) -> None:
        other = {"keep_draft": "keep_target", "keep_target": "keep_draft"}
        event["payload"]["verdict"] = other[event["payload"]["verdict"]]

    [difference] = check(altered(run, decided.seq, turn)).differences
    assert difference.recorded is not None
    assert difference.replayed is not None
    assert (difference.problem, difference.step) == (decided.problem, decided.step)
    assert difference.recorded.id == difference.replayed.id == decided.id
    assert difference.replayed.payload == decided.payload
    assert difference.causes[-1] == decided.cause
    assert difference.causes[0] == decided.problem


def test_an_altered_score_is_found_at_the_decision_that_it_turns(record: Recording, altered: Altered) -> None:
    run = record(weak_drafts(), [a_task(RewardThreshold(0.5))])
    scored = lines_of(run, "call_scored")[2]  # 0.8, so the draft was kept

    def lower(event: dict[str, Any]) -> None:
        event["payload"]["value"] = 0.1

    [difference] = check(altered(run, scored.seq, lower)).differences
    assert difference.recorded is not None
    assert difference.replayed is not None
    assert (difference.recorded.id, difference.replayed.id) == ("p/2/step_accepted", "p/2/escalate_step")
    assert difference.causes[-1] == "p/2/step_scored/draft"


def test_an_altered_text_is_found_at_the_next_context(record: Recording, altered: Altered) -> None:
    run = record(weak_drafts(), [a_task(DraftOnly())])
    written = lines_of(run, "call_generated")[1]

    def rewrite(event: dict[str, Any]) -> None:
        event["payload"]["text"] = "another step"

    [difference] = check(altered(run, written.seq, rewrite)).differences
    assert difference.recorded is not None
    assert difference.recorded.id == "p/2/draft_step"


def test_a_message_that_is_not_in_the_log_is_shown_beside_nothing(record: Recording, altered: Altered) -> None:
    run = record(weak_drafts(), [a_task(RewardThreshold(0.5))])
    chosen = lines_of(run, "step_accepted")[0]

    def rename(event: dict[str, Any]) -> None:
        event["id"] = "p/0/step_taken"

    [difference] = check(altered(run, chosen.seq, rename)).differences
    assert difference.recorded is not None
    assert (difference.recorded.id, difference.replayed and difference.replayed.id) == ("p/0/step_taken", chosen.id)


@pytest.mark.slow
def test_a_problem_that_failed_fails_again_with_its_causes(a_recording: Recording) -> None:
    failed = [
        problem.end.error
        for seed in range(12)
        for problem in a_recording(seed, Oracle(0.0)).problems()
        if problem.end is not None and problem.end.finish_reason == "failed"
    ]
    assert any("the model fell over, caused by OSError: no route" in (error or "") for error in failed)


def test_the_same_log_gives_the_same_verdict_twice(a_recording: Recording) -> None:
    run = a_recording(3, GenerateRows())
    assert check(run) == check(run)


@pytest.mark.parametrize("detail", ["full", "redacted"])
def test_a_log_without_texts_can_be_replayed(tmp_path: Any, detail: Detail) -> None:
    async def body() -> None:
        async with (
            open_journal(tmp_path / "events.jsonl", detail=detail) as journal,
            open_ring(weak_drafts(), journal=journal) as ring,
        ):
            await ring.solve(a_task(LearnedRouter(0.5)))

    anyio.run(body)
    verdict = check(Run.open(tmp_path))
    assert (verdict.differences, verdict.problems) == ((), 1)


def test_a_log_of_decisions_alone_is_refused_with_the_way_out(tmp_path: Any) -> None:
    async def body() -> None:
        async with open_journal(tmp_path / "events.jsonl", detail="decisions"):
            pass

    anyio.run(body)
    with pytest.raises(RunError, match=r"decisions.*Record runs with 'full' or 'redacted'"):
        check(Run.open(tmp_path))


class HomeMade(PolicyBase, frozen=True):
    """A policy that is not built in."""

    decides: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


def test_a_policy_that_is_not_known_is_refused_by_name(record: Recording) -> None:
    run = record(weak_drafts(), [a_task(HomeMade())])
    with pytest.raises(RunError, match="'HomeMade'"):
        check(run)


def test_a_problem_that_was_given_twice_is_replayed_twice(tmp_path: Any) -> None:
    async def body() -> None:
        async with (
            open_journal(tmp_path / "events.jsonl") as journal,
            open_ring(weak_drafts(), journal=journal) as ring,
        ):
            for _ in range(2):
                await ring.solve(a_task(RewardThreshold(0.5)))

    anyio.run(body)
    verdict = check(Run.open(tmp_path))
    assert (verdict.problems, verdict.unfinished, verdict.differences) == (2, 0, ())
