"""A policy sees what happened at the steps before, and says which models propose a step."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from arbiter.actors.policies import PolicyBase
from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence
from arbiter.protocols.records import Author, Limits, Solution, Step, Transcript, Verdict

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]

SEEN: dict[str, list[Evidence]] = {}


class Watching(PolicyBase, frozen=True):
    """Escalates odd steps, and stores its evidence under its name. ``scored`` has the PRM score the drafts."""

    name: str

    def decide(self, evidence: Evidence) -> Verdict:
        SEEN.setdefault(self.name, []).append(evidence)
        return "escalate" if evidence.step % 2 else "keep_draft"


class WatchingScores(Watching, frozen=True):
    score_kind = "prm"


class OneEscalation(PolicyBase, frozen=True):
    """Escalates until one step was escalated."""

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if evidence.escalations else "escalate"


class Proposing(PolicyBase, frozen=True):
    """Has the given models propose each step; both by default."""

    by_step: tuple[tuple[Author, ...], ...]

    proposers = ("draft", "target")
    score_kind = "prm"

    def proposes(self, step: int) -> tuple[Author, ...]:
        return self.by_step[step]

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target" if evidence.targets else "escalate" if evidence.step else "keep_draft"


class NoMemory(PolicyBase, frozen=True):
    """Asks for a step that it has not seen."""

    def decide(self, evidence: Evidence) -> Verdict:
        return evidence.history[5].verdict or "keep_draft"


def verdicts(solution: Solution) -> list[tuple[Author, Verdict | None]]:
    return [(step.kept.author, step.verdict) for step in solution.steps]


def test_the_evidence_has_the_records_of_the_steps_before_it(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    SEEN.clear()
    [solution] = solved(make_models(), [a_task(policy=WatchingScores("a"), limits=Limits(max_tokens=100))])
    assert [evidence.history for evidence in SEEN["a"]] == [solution.steps[:step] for step in range(3)]
    last = SEEN["a"][2]
    assert (last.escalations, last.target_tokens, last.tokens_left) == (1, 3, 94)
    assert [draft.score for draft in last.drafts] == [0.5, 0.5]


def test_audits_are_not_in_the_history_since_they_may_end_later(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    SEEN.clear()
    [solution] = solved(make_models(), [a_task(policy=Watching("a"), audit=1.0)])
    assert solution.steps[1].audit is not None
    assert [record.audit for record in SEEN["a"][2].history] == [None, None]


def test_each_problem_has_a_history_of_its_own(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    solutions = solved(make_models(), [a_task(str(n), policy=OneEscalation()) for n in range(5)])
    expected = [("target", "escalate"), ("draft", "keep_draft"), ("draft", "keep_draft")]
    assert [verdicts(solution) for solution in solutions] == [expected] * 5


def test_steps_with_which_a_task_starts_have_no_record(solved: Solved, make_models: MakeModels) -> None:
    SEEN.clear()
    begun = Transcript("q", (Step("given", "target"),))
    solved(make_models(), [Task("p", begun, Watching("a"))])
    assert SEEN["a"][0].history == ()


@pytest.mark.parametrize("lookahead", [0, 3])
def test_drafting_ahead_changes_neither_the_history_nor_the_decisions(
    in_virtual_time: Virtual, open_ring: OpenRing, a_task: Tasks, make_models: MakeModels, lookahead: int
) -> None:
    slow = ScriptedScorer(lambda _: 0.5, seconds=30.0)
    SEEN.clear()

    async def body() -> None:
        async with open_ring(make_models(prm=slow), lookahead=lookahead) as ring:
            solution = await ring.solve(a_task(policy=WatchingScores("a")))
            assert [evidence.history for evidence in SEEN["a"]] == [solution.steps[:step] for step in range(3)]
            assert solution.lookahead.hits == min(lookahead, 1)

    in_virtual_time(body)


def test_a_policy_that_asks_for_history_that_is_not_there_fails_its_problem_alone(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    tasks = [a_task("a", policy=NoMemory()), a_task("b", policy=OneEscalation())]
    failed, other = sorted(solved(make_models(), tasks), key=lambda solution: solution.problem)
    assert failed.error == "router, step 1: IndexError: tuple index out of range"
    assert other.finish_reason == "answered"


def test_a_step_that_the_target_alone_proposes_is_kept_without_a_draft_and_without_a_decision(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    policy = Proposing((("target",), ("draft",), ("draft", "target")))
    [solution] = solved(make_models(), [a_task(policy=policy)])
    assert verdicts(solution) == [("target", None), ("target", "escalate"), ("target", "keep_target")]
    assert [step.draft is None for step in solution.steps] == [True, False, False]
    assert {model: counts.requests for model, counts in solution.requests.items()} == {
        "draft": 2,
        "target": 3,
        "prm": 3,
    }


@pytest.mark.parametrize("proposers", [(), ("nobody",)])
def test_a_policy_that_proposes_a_step_with_no_known_model_fails_its_problem(
    solved: Solved, a_task: Tasks, make_models: MakeModels, proposers: Any
) -> None:
    [solution] = solved(make_models(), [a_task(policy=Proposing((proposers,)))])
    assert solution.error is not None
    assert f"ProblemError: the policy proposes the step with {proposers!r}: return its proposers" in solution.error


def test_no_step_is_drafted_ahead_that_the_target_alone_proposes(
    in_virtual_time: Virtual, open_ring: OpenRing, a_task: Tasks, make_models: MakeModels
) -> None:
    class TargetSecond(PolicyBase, frozen=True):
        score_kind = "prm"

        def proposes(self, step: int) -> tuple[Author, ...]:
            return ("target",) if step == 1 else ("draft",)

        def decide(self, evidence: Evidence) -> Verdict:
            return "keep_draft"

    async def body() -> None:
        slow = ScriptedScorer(lambda _: 0.5, seconds=30.0)
        async with open_ring(make_models(prm=slow), lookahead=3) as ring:
            solution = await ring.solve(a_task(policy=TargetSecond()))
            assert solution.lookahead.started == 0
            assert solution.requests["draft"].requests == 2

    in_virtual_time(body)


def test_the_evidence_names_what_the_target_wrote_whether_it_was_kept_or_not() -> None:
    evidence = Evidence("p", 0, 0, None)
    assert (evidence.escalations, evidence.target_tokens, evidence.drafts) == (0, 0, ())
