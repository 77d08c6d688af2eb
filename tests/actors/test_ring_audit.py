"""Audits: the PRM scores both candidates of an escalated step, only for the report."""

from collections.abc import Callable
from itertools import count

import pytest

from arbiter.actors.policies import LearnedRouter, RandomEscalation, RewardThreshold
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ScoreRequest
from arbiter.protocols.records import AuditScores, Limits, RequestCounts, Solution

Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]
Script = Callable[[GenerationRequest], Generation]


def rewards(request: ScoreRequest) -> float:
    return 0.7 if request.author == "target" else 0.3


def target_is_unreadable(request: ScoreRequest) -> float:
    """With a policy that escalates, only an audit scores the target's step."""
    if request.author == "target":
        raise BackendError("unreadable")
    return 0.3


@pytest.mark.parametrize("policy", [RandomEscalation(0.5), RewardThreshold(0.5), LearnedRouter(0.4)])
@pytest.mark.slow
def test_an_audit_never_changes_a_transcript(
    policy: Policy, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    texts: list[dict[str, str]] = []
    for audit in (0.0, 0.5, 1.0):
        tasks = [a_task(str(n), policy=policy, audit=audit) for n in range(20)]
        solutions = solved(make_models(prm=ScriptedScorer(rewards, seconds=1)), tasks)
        texts.append({solution.problem: solution.text for solution in solutions})
    assert texts[0] == texts[1] == texts[2]


def test_an_audit_is_counted_apart_from_the_run(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    (plain,) = solved(make_models(prm=ScriptedScorer(rewards)), [a_task(policy=RewardThreshold(0.5))])
    (audited,) = solved(make_models(prm=ScriptedScorer(rewards)), [a_task(policy=RewardThreshold(0.5), audit=1.0)])
    assert {model: counts for model, counts in audited.requests.items() if model != "audit"} == plain.requests
    assert audited.requests["audit"].requests == 2 * 3


def test_an_audit_tells_both_rewards(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(prm=ScriptedScorer(rewards)), [a_task(policy=RandomEscalation(1.0), audit=1.0)])
    assert [step.audit for step in solution.steps] == [AuditScores(draft=0.3, target=0.7)] * 3


def test_a_step_that_is_not_escalated_is_not_audited(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    solutions = solved(make_models(), [a_task(str(n), policy=RandomEscalation(0.5), audit=1.0) for n in range(20)])
    steps = [step for solution in solutions for step in solution.steps]
    assert {(step.verdict, step.audit is not None) for step in steps} == {("escalate", True), ("keep_draft", False)}


@pytest.mark.slow
def test_a_share_of_the_escalations_is_audited(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    solutions = solved(make_models(), [a_task(str(n), policy=RandomEscalation(1.0), audit=0.25) for n in range(300)])
    audited = sum(step.audit is not None for solution in solutions for step in solution.steps)
    assert audited / 900 == pytest.approx(0.25, abs=0.05)


def test_the_next_step_does_not_wait_for_an_audit(
    solved: Solved, a_task: Tasks, make_models: MakeModels, three_steps: Script
) -> None:
    prm = ScriptedScorer(rewards, seconds=10)
    models = make_models(ScriptedGenerator(three_steps, seconds=1), ScriptedGenerator(three_steps, seconds=1), prm)
    (solution,) = solved(models, [a_task(policy=RandomEscalation(1.0), audit=1.0)])
    assert solution.seconds == 3 * (1 + 1) + 10


def test_a_failing_audit_does_not_fail_the_problem(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    prm = ScriptedScorer(target_is_unreadable)
    (solution,) = solved(make_models(prm=prm), [a_task(policy=RewardThreshold(0.5), audit=1.0)])
    assert (solution.finish_reason, solution.error) == ("answered", None)
    assert [step.audit for step in solution.steps] == [None] * 3


def test_a_failing_audit_is_counted_as_failed(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    prm = ScriptedScorer(target_is_unreadable, seconds=lambda request: getattr(request, "author", "") == "draft")
    (solution,) = solved(make_models(prm=prm), [a_task(policy=RandomEscalation(1.0), audit=1.0)])
    assert solution.requests["audit"] == RequestCounts(requests=6, failed=3, cancelled=3)


def test_an_audit_without_a_score_leaves_no_audit(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    prm = ScriptedScorer(lambda _: float("nan"))
    (solution,) = solved(make_models(prm=prm), [a_task(policy=RandomEscalation(1.0), audit=1.0)])
    assert (solution.finish_reason, [step.audit for step in solution.steps]) == ("answered", [None] * 3)


def test_a_deadline_during_the_last_audit_leaves_the_answer_answered(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    task = a_task(policy=RandomEscalation(1.0), audit=1.0, limits=Limits(deadline=50))
    (solution,) = solved(make_models(prm=ScriptedScorer(rewards, seconds=100)), [task])
    assert (solution.finish_reason, solution.seconds, len(solution.steps)) == ("answered", 50, 3)
    assert solution.requests["audit"] == RequestCounts(requests=6, cancelled=6)


def test_audits_that_come_back_in_any_order_stand_at_their_own_steps(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    calls = count()
    prm = ScriptedScorer(lambda request: request.step / 10, seconds=lambda _: 50.0 - next(calls))
    (solution,) = solved(make_models(prm=prm), [a_task(policy=RandomEscalation(1.0), audit=1.0)])
    assert [step.audit for step in solution.steps] == [AuditScores(step / 10, step / 10) for step in range(3)]
