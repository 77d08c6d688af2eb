"""Errors only fail their own problem: bugs, models that break, and values that are not scores."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest

from arbiter.actors.policies import (
    DraftOnly,
    GenerateRows,
    LearnedRouter,
    Oracle,
    PolicyBase,
    RandomEscalation,
    RewardThreshold,
)
from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.ports import Generation, GenerationRequest, Score, ScoreRequest
from arbiter.protocols.records import Limits, Sampling, Solution, Verdict

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]
Script = Callable[[GenerationRequest], Generation]


class Broken(DraftOnly, frozen=True):
    """A policy with a bug."""

    decides = True

    def decide(self, evidence: Evidence) -> Verdict:
        raise ZeroDivisionError("a bug")


class Greedy(Oracle, frozen=True):
    """A policy that escalates a step that the target has already written."""

    def decide(self, evidence: Evidence) -> Verdict:
        return "escalate"


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (Broken(), "router, step 1: ZeroDivisionError: a bug"),
        (Greedy(0.0), "router, step 1: ProblemError: the policy escalated a step that the target has already written"),
    ],
)
def test_a_policy_with_a_bug_fails_its_own_problem_alone(
    policy: Policy, error: str, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    solutions = solved(make_models(), [a_task("bug", policy=policy), a_task("p")])
    ends = {solution.problem: (solution.finish_reason, solution.error) for solution in solutions}
    assert ends == {"bug": ("failed", error), "p": ("answered", None)}


@pytest.mark.parametrize("value", [-0.001, 1.001, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("score_kind", "policy"), [("prm", RewardThreshold(0.5)), ("router", LearnedRouter(0.5)), ("prm", Oracle(0.0))]
)
@pytest.mark.slow
def test_a_value_that_is_no_score_is_a_failure(
    value: float, score_kind: str, policy: Policy, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    models = make_models(**{score_kind: ScriptedScorer(lambda _: value)})
    (solution,) = solved(models, [a_task(policy=policy)])
    assert (solution.finish_reason, solution.steps) == ("failed", ())
    assert (
        solution.error
        == f"verifier, step 1: BackendError: the {score_kind} model scored {value}, but a score must be in [0, 1]"
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.slow
def test_the_ends_of_the_interval_are_scores(
    value: float, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(prm=ScriptedScorer(lambda _: value)), [a_task(policy=RewardThreshold(0.0))])
    assert (solution.finish_reason, solution.steps[0].kept.score) == ("answered", value)


def test_a_scorer_that_fails_fails_the_problem(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    def script(request: ScoreRequest) -> float:
        raise TimeoutError

    (solution,) = solved(make_models(router=ScriptedScorer(script)), [a_task(policy=LearnedRouter(0.5))])
    assert solution.error == "verifier, step 1: TimeoutError"


class _BreaksOnSecondLook(tuple[str, ...]):
    """Proposers that can be iterated once, as ``Ring.solve`` does, and then raise."""

    def __iter__(self) -> Iterator[str]:
        if hasattr(self, "listed"):
            raise LookupError("no proposer")
        self.listed = True
        return super().__iter__()


def test_a_policy_that_cannot_be_asked_fails_its_problem_alone(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    class BreaksWhenAsked(PolicyBase, frozen=True):
        """A policy whose proposers break."""

        proposers: ClassVar[Any] = _BreaksOnSecondLook(("draft",))
        decides: ClassVar[bool] = False

        def decide(self, evidence: Evidence) -> Verdict:
            raise AssertionError("never called")

    solutions = solved(make_models(), [a_task("bad", policy=BreaksWhenAsked()), a_task("p")])
    assert {solution.problem: solution.finish_reason for solution in solutions} == {"bad": "failed", "p": "answered"}


class LosesConnection:
    """A model whose client raises when it is cancelled, for one request of a problem."""

    async def generate(self, request: GenerationRequest) -> Generation:
        await self._wait(breaks=request.sample == 0)
        raise AssertionError("never reached")

    async def score(self, request: ScoreRequest) -> Score:
        await self._wait(breaks=request.author == "draft")
        raise AssertionError("never reached")

    async def _wait(self, breaks: bool) -> None:
        try:
            await anyio.sleep(1000)
        except anyio.get_cancelled_exc_class():
            if breaks:
                raise OSError("connection lost") from None
            raise


@pytest.mark.parametrize(
    ("model", "policy", "audit"), [("target", GenerateRows(), 0.0), ("prm", RandomEscalation(1.0), 1.0)]
)
def test_a_model_that_breaks_as_it_is_cancelled_breaks_no_other_problem(
    model: str, policy: Policy, audit: float, solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    sampling, limits = Sampling(target_samples=3), Limits(deadline=50)
    tasks = [a_task("late", policy=policy, audit=audit, sampling=sampling, limits=limits), a_task("next")]
    solutions = solved(make_models(**{model: LosesConnection()}), tasks, concurrency=1)
    assert [(solution.problem, solution.error) for solution in solutions] == [("late", None), ("next", None)]


@pytest.mark.parametrize("moments", range(20))
def test_a_problem_may_be_cancelled_at_any_moment(
    moments: int,
    in_virtual_time: Virtual,
    a_task: Tasks,
    make_models: MakeModels,
    three_steps: Script,
    open_ring: OpenRing,
) -> None:
    written = anyio.Event()

    def script(request: GenerationRequest) -> Generation:
        written.set()
        return three_steps(request)

    generators, scorers = [ScriptedGenerator(script) for _ in range(2)], [ScriptedScorer(lambda _: 0.5)] * 2
    task = a_task("leaves", policy=GenerateRows(), sampling=Sampling(target_samples=3), limits=Limits(max_steps=2))

    async def leave(ring: Ring, scope: anyio.CancelScope) -> None:
        with scope:
            await ring.solve(task)

    async def body() -> None:
        async with open_ring(make_models(*generators, *scorers)) as ring, anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            tasks.start_soon(leave, ring, scope)
            await written.wait()
            for _ in range(moments):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert (await ring.solve(a_task("stays"))).finish_reason == "answered"
            assert sum(model.running for model in (*generators, *scorers)) == 0

    in_virtual_time(body)
