"""Logs of runs that draft ahead can be folded, replayed, used for what-ifs and resumed like others."""

from pathlib import Path

import anyio
import pytest

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import LearnedRouter, Oracle, RewardThreshold
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.log.history import CallHistory
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.events import CallGenerated
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Scorer
from arbiter.protocols.records import Limits, LookaheadStats, PrefixMatch, Solution, Transcript, Usage
from arbiter.replay.check import check

STEPS = 5


def models(requested: list[str], draft_seconds: float = 0.001) -> Models:
    """The draft is rejected at every third step. The target takes three times as long."""

    def write(request: GenerationRequest) -> Generation:
        requested.append(request.call)
        ending = "end" if request.step == STEPS - 1 else "separator"
        return Generation(f"{request.author} {request.step}", ending, Usage(5, 3))

    scorer = ScriptedScorer(lambda request: 0.1 if request.step % 3 == 2 else 0.9, 0.002)
    return Models(
        draft=ModelHandle(ScriptedGenerator(write, draft_seconds)),
        target=ModelHandle(ScriptedGenerator(write, 3 * draft_seconds)),
        scorers={"prm": ModelHandle(scorer), "router": ModelHandle(scorer)},
    )


def is_paid(call: CallHistory) -> bool:
    return isinstance(call.outcome, CallGenerated)


def solved(
    log: Path, world: Models, policy: Policy, lookahead: int, cut: float = 60.0, verify: Verify = "off"
) -> dict[str, Solution]:
    solutions: dict[str, Solution] = {}

    async def done(solution: Solution) -> None:
        solutions[solution.problem] = solution

    async def body() -> None:
        async with (
            open_journal(log) as journal,
            open_ring(world, journal=journal, lookahead=lookahead, verify=verify) as ring,
        ):
            with anyio.move_on_after(cut):
                tasks = (Task(f"p{n}", Transcript(f"question {n}"), policy, Limits(max_steps=9)) for n in range(4))
                await solve_all(ring, tasks, 4, done)

    anyio.run(body)
    return solutions


@pytest.mark.parametrize(
    "policy", [RewardThreshold(0.5), LearnedRouter(0.5), Oracle(0.0)], ids=lambda p: type(p).__name__
)
def test_the_log_folds_to_what_the_ring_gave_and_replays(tmp_path: Path, policy: Policy) -> None:
    solutions = solved(tmp_path / "events.jsonl", models([]), policy, lookahead=2)
    run = Run.open(tmp_path)
    assert {problem.key[0]: problem.solution() for problem in run.problems()} == solutions
    assert sum((one.lookahead for one in solutions.values()), LookaheadStats()).hits > 0
    assert check(run).differences == ()


def test_a_continued_run_uses_what_was_written_ahead(tmp_path: Path) -> None:
    before, after = list[str](), list[str]()
    undisturbed = solved(tmp_path / "whole" / "events.jsonl", models([]), RewardThreshold(0.5), lookahead=0)
    log = tmp_path / "cut" / "events.jsonl"
    solved(log, models(before), RewardThreshold(0.5), lookahead=2, cut=0.012)
    answered = {
        name for problem in Run.open(log).problems() for name, call in problem.answers().items() if is_paid(call)
    }
    solutions = solved(log, models(after), RewardThreshold(0.5), lookahead=1)
    solutions = {problem.key[0]: problem.solution() for problem in Run.open(log).problems()}
    assert set(solutions) == set(undisturbed)
    for name, solution in solutions.items():
        assert solution is not None
        texts = [(step.kept.text, step.kept.author) for step in solution.steps]
        assert texts == [(step.kept.text, step.kept.author) for step in undisturbed[name].steps]
    assert answered.isdisjoint(after)
    assert set(solutions) <= set(undisturbed)
    assert check(Run.open(log)).differences == ()


def test_of_a_step_written_ahead_the_time_is_told_that_was_waited_for_it(tmp_path: Path) -> None:
    """Drafts take much longer than scores, so each delays its problem, but by less than its own time."""
    solved(tmp_path / "events.jsonl", models([], draft_seconds=0.05), RewardThreshold(0.0), lookahead=1)
    rows = [row for row in Run.open(tmp_path).table("steps") if row["step"]]
    assert all(0 < row["draft_seconds"] <= row["seconds"] for row in rows)
    calls = [row for row in Run.open(tmp_path).table("calls") if row["id"].endswith("/draft/1")]
    assert len(calls) == len(rows)
    assert {row["waited"] for row in calls} == {0.0}


def test_what_the_target_agreed_with_is_in_the_log_and_replays(tmp_path: Path) -> None:
    """The target writes the same steps with and without a proposal, and each has a prefix match."""

    def write(request: GenerationRequest) -> Generation:
        agreement = PrefixMatch(3, request.step % 4) if request.proposal else None
        ending = "end" if request.step == STEPS - 1 else "separator"
        return Generation(f"{request.author} {request.step}", ending, Usage(5, 3), prefix_match=agreement)

    writer, scorer = (
        ModelHandle[Generator](ScriptedGenerator(write, 0.001)),
        ModelHandle[Scorer](ScriptedScorer(lambda _: 0.1)),
    )
    world = Models(draft=writer, target=writer, scorers={"prm": scorer})
    solutions = solved(tmp_path / "events.jsonl", world, RewardThreshold(0.5), lookahead=0, verify="on")
    run = Run.open(tmp_path)
    assert {problem.key[0]: problem.solution() for problem in run.problems()} == solutions
    agreements = [step.kept.prefix_match for step in solutions["p0"].steps]
    assert agreements == [PrefixMatch(3, step % 4) for step in range(STEPS)]
    assert check(run).differences == ()
