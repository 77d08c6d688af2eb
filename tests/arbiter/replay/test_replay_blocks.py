"""Logs of runs with blocks can be folded, replayed, used for what-ifs and resumed like others."""

from pathlib import Path

import anyio
import pytest

from arbiter.actors.pacing import PacedRouter
from arbiter.actors.policies import ConfidenceThreshold, LearnedRouter, RewardThreshold
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.events import CallGenerated, CallScored, Detail
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Limits, Solution, Transcript, Usage
from arbiter.replay.check import check

STEPS = 7
POLICIES: list[Policy] = [RewardThreshold(0.5), LearnedRouter(0.5), PacedRouter(0.4, 9), ConfidenceThreshold(0.5)]


def models(requested: list[str], writes_blocks: bool = True) -> Models:
    """The draft is rejected at every third step."""

    def write(request: GenerationRequest) -> Generation:
        requested.append(request.call)
        ending = "end" if request.step == STEPS - 1 else "separator"
        sure = None if request.confidence is None else 0.1 if request.step % 3 == 2 else 0.9
        return Generation(f"{request.author} {request.step}", ending, Usage(5, 3), confidence=sure)

    def rate(request: ScoreRequest) -> float:
        requested.append(request.call)
        value = 0.1 if request.step % 3 == 2 else 0.9
        return 1 - value if request.score_kind == "router" else value

    scorer = ModelHandle[Scorer](ScriptedScorer(rate, 0.002))
    return Models(
        draft=ModelHandle(ScriptedGenerator(write, 0.001, writes_blocks=writes_blocks)),
        target=ModelHandle(ScriptedGenerator(write, 0.003)),
        scorers={"prm": scorer, "router": scorer},
    )


def solved(
    log: Path, world: Models, policy: Policy, block: int, cut: float = 60.0, record: Detail = "full"
) -> dict[str, Solution]:
    solutions: dict[str, Solution] = {}

    async def done(solution: Solution) -> None:
        solutions[solution.problem] = solution

    async def body() -> None:
        async with (
            open_journal(log, detail=record) as journal,
            open_ring(world, journal=journal, block=block) as ring,
        ):
            with anyio.move_on_after(cut):
                tasks = (Task(f"p{n}", Transcript(f"question {n}"), policy, Limits(max_steps=9)) for n in range(4))
                await solve_all(ring, tasks, 4, done)

    anyio.run(body)
    return solutions


@pytest.mark.parametrize("writes_blocks", [True, False])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_the_log_folds_to_what_the_ring_gave_and_replays(tmp_path: Path, policy: Policy, writes_blocks: bool) -> None:
    solutions = solved(tmp_path / "events.jsonl", models([], writes_blocks), policy, block=4)
    run = Run.open(tmp_path)
    assert {problem.key[0]: problem.solution() for problem in run.problems()} == solutions
    assert all(solution.lookahead.hits > 0 for solution in solutions.values())
    assert check(run).differences == ()


@pytest.mark.parametrize("cut", [0.004, 0.008, 0.013])
def test_a_continued_run_requests_no_used_answer_again(tmp_path: Path, cut: float) -> None:
    before, after = list[str](), list[str]()
    undisturbed = solved(tmp_path / "whole" / "events.jsonl", models([]), RewardThreshold(0.5), block=1)
    log = tmp_path / "cut" / "events.jsonl"
    solved(log, models(before), RewardThreshold(0.5), block=4, cut=cut)
    answered = {
        name
        for problem in Run.open(log).problems()
        for name, call in problem.answers().items()
        if isinstance(call.outcome, CallGenerated | CallScored)
    }
    solved(log, models(after), RewardThreshold(0.5), block=3)
    for problem in Run.open(log).problems():
        solution = problem.solution()
        assert solution is not None
        texts = [(step.kept.text, step.kept.author) for step in solution.steps]
        assert texts == [(step.kept.text, step.kept.author) for step in undisturbed[problem.key[0]].steps]
    assert answered.isdisjoint(after)
    assert check(Run.open(log)).differences == ()


@pytest.mark.parametrize("record", ["redacted", "decisions"])
def test_a_log_without_texts_has_none_of_a_block(tmp_path: Path, record: Detail) -> None:
    solved(tmp_path / "events.jsonl", models([]), RewardThreshold(0.5), block=4, record=record)
    assert "draft 1" not in (tmp_path / "events.jsonl").read_text()
    [authors] = {tuple(step.kept.author for step in problem.steps()) for problem in Run.open(tmp_path).problems()}
    assert authors == ("draft", "draft", "target") * 2 + ("draft",)
