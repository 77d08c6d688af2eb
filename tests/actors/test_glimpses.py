"""A glimpse: the first token of a step decides who writes the step, before anything else of it is paid for."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from arbiter.actors.glimpses import GlimpsedEscalation
from arbiter.actors.policies import LearnedRouter, PolicyBase, called_models, check_policy
from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Author, Glimpse, Limits, Sampling, Solution, Target, Transcript, Usage, Verdict
from arbiter.protocols.tools import AnswerRules

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]

SURE = {0: 0.9, 1: 0.2, 2: 0.9}
AUTHORS: tuple[Author, ...] = ("draft", "target")


class Writes(ScriptedGenerator):
    """Writes steps up to ``last``, and keeps its requests. A first token has the confidence ``sure[step]``."""

    def __init__(
        self, sure: dict[int, float] | None = None, text: str = "", seconds: float = 1.0, last: int = 2
    ) -> None:
        self.requests: list[GenerationRequest] = []
        self._sure = SURE if sure is None else sure

        def write(request: GenerationRequest) -> Generation:
            self.requests.append(request)
            if request.max_tokens == 1:
                return Generation("the", "limit", Usage(10, 1), confidence=self._sure.get(request.step))
            words = text or f"{request.author} step {request.step}"
            return Generation(words, "end" if request.step == last else "separator", Usage(10, 3))

        super().__init__(write, seconds)

    @property
    def steps(self) -> list[tuple[int, int]]:
        return [(request.step, request.max_tokens) for request in self.requests]


class Choosing(PolicyBase, frozen=True):
    """Returns the given verdict of every glimpse."""

    verdict: Any

    glimpse = "draft"

    def decide(self, evidence: Evidence) -> Verdict:
        if self.verdict is None:
            raise RuntimeError("no idea")
        return self.verdict


class ToTheLarge(GlimpsedEscalation, frozen=True):
    targets: tuple[Target, ...] = (Target("small"), Target("large"))

    def target(self, evidence: Evidence) -> str:
        return "large"


def seen(confidence: float) -> Evidence:
    return Evidence("p", 0, 0, None, glimpse=Glimpse("draft", confidence, Usage(), 0.0))


@pytest.mark.parametrize(
    ("confidence", "verdict"), [(0.49, "escalate"), (0.5, "keep_draft"), (0.51, "keep_draft"), (1.0, "keep_draft")]
)
def test_the_draft_writes_the_step_iff_the_first_token_is_at_least_as_sure_as_the_threshold(
    confidence: float, verdict: Verdict
) -> None:
    assert GlimpsedEscalation(0.5).decide(seen(confidence)) == verdict
    assert GlimpsedEscalation(0.5).with_threshold(0.0).decide(seen(confidence)) == "keep_draft"


def test_evidence_without_a_glimpse_is_named() -> None:
    with pytest.raises(ValueError, match="the first token of a step, but there is none"):
        GlimpsedEscalation(0.5).decide(Evidence("p", 0, 0, None))


def test_a_glimpse_calls_the_two_models_that_write() -> None:
    assert set(called_models(GlimpsedEscalation(0.5), 0.0)) == {"draft", "target"}


@pytest.mark.parametrize("fields", [{"score_kind": "prm"}, {"proposers": ("draft", "target")}, {"decides": False}])
def test_a_policy_that_glimpses_decides_about_nothing_else(fields: dict[str, Any]) -> None:
    policy = type("Both", (GlimpsedEscalation,), fields, frozen=True)(0.5)
    with pytest.raises(ConfigError, match="decides by a glimpse, before anything is written"):
        check_policy(policy)


def test_only_the_model_that_is_to_write_a_step_is_paid_for_it(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    draft, target = Writes(), Writes()
    [solution] = solved(make_models(draft, target), [a_task(policy=GlimpsedEscalation(0.5))])
    whole = Limits().step_tokens
    assert draft.steps == [(0, 1), (0, whole), (1, 1), (2, 1), (2, whole)]
    assert target.steps == [(1, whole)]
    assert [step.verdict for step in solution.steps] == ["keep_draft", "escalate", "keep_draft"]
    assert [[one.author for one in step.candidates] for step in solution.steps] == [["draft"], ["target"], ["draft"]]
    assert [step.glimpse for step in solution.steps] == [
        Glimpse("draft", sure, Usage(10, 1), 1.0) for sure in SURE.values()
    ]
    assert solution.text == "draft step 0\n\ntarget step 1\n\ndraft step 2"
    assert solution.requests["draft"].usage.completion_tokens == 9
    assert solution.seconds == 6


def test_the_request_for_a_glimpse_is_one_token_with_its_entropy(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    draft = Writes({0: 0.9})
    task = a_task(policy=GlimpsedEscalation(0.5), sampling=Sampling(0.7), limits=Limits(max_steps=1))
    solved(make_models(draft), [task])
    glimpse, step = draft.requests
    assert (glimpse.max_tokens, glimpse.confidence, glimpse.top_logprobs) == (1, "first", None)
    assert (step.confidence, step.transcript, step.temperature) == (None, glimpse.transcript, glimpse.temperature)


def test_the_target_can_glimpse(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    draft, target = Writes(), Writes()
    [solution] = solved(make_models(draft, target), [a_task(policy=GlimpsedEscalation(0.5, "target"))])
    assert [(step, most == 1) for step, most in target.steps] == [(0, True), (1, True), (1, False), (2, True)]
    assert [step for step, _ in draft.steps] == [0, 2]
    assert [step.glimpse.author for step in solution.steps if step.glimpse] == ["target"] * 3


@pytest.mark.parametrize("author", AUTHORS)
def test_the_end_of_a_problem_cancels_its_glimpse(
    solved: Solved, a_task: Tasks, make_models: MakeModels, author: Author
) -> None:
    models = make_models(Writes(seconds=10), Writes(seconds=10))
    task = a_task(policy=GlimpsedEscalation(0.5, author), limits=Limits(deadline=5))
    [solution] = solved(models, [task])
    assert (solution.finish_reason, solution.seconds, solution.steps) == ("deadline", 5, ())
    assert (solution.requests[author].requests, solution.requests[author].cancelled) == (1, 1)


@pytest.mark.parametrize(
    ("policy", "sure", "error"),
    [
        (Choosing(None), SURE, "router, step 1: RuntimeError: no idea"),
        (Choosing("keep_target"), SURE, "decided 'keep_target' by a glimpse: return 'keep_draft' or 'escalate'"),
        (GlimpsedEscalation(0.5), {}, "the draft model returned no confidence in the first token"),
    ],
)
def test_a_glimpse_that_decides_nothing_fails_its_own_problem_alone(
    solved: Solved, a_task: Tasks, make_models: MakeModels, policy: PolicyBase, sure: dict[int, float], error: str
) -> None:
    models = make_models(Writes(sure))
    bad, good = solved(models, [a_task("bad", policy=policy), a_task("good")])
    assert (bad.problem, bad.finish_reason) == ("bad", "failed")
    assert error in (bad.error or "")
    assert (good.finish_reason, len(good.steps)) == ("answered", 3)


def test_a_draft_after_a_glimpse_that_breaks_the_rules_is_replaced(solved: Solved, make_models: MakeModels) -> None:
    schema = '{"type": "integer"}'
    models = make_models(Writes(text="no number", last=0), Writes(text="12", last=0))
    transcript = Transcript("q", rules=AnswerRules(schema=schema))
    [solution] = solved(models, [Task("p", transcript, GlimpsedEscalation(0.5))])
    [last] = solution.steps
    assert [(one.author, one.valid) for one in last.candidates] == [("draft", False), ("target", True)]
    assert last.verdict == "escalate"
    assert last.glimpse is not None


def test_a_budget_moves_the_threshold_of_glimpses(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    draft = Writes(dict.fromkeys(range(3), 0.5))
    tasks = [a_task(f"p{number}", policy=GlimpsedEscalation(0.9, budget=0.3)) for number in range(60)]
    solutions = solved(make_models(draft), tasks, 1)
    verdicts = [step.verdict for solution in solutions for step in solution.steps]
    assert 0.2 < verdicts.count("escalate") / len(verdicts) < 0.4


def test_a_policy_chooses_among_targets_after_a_glimpse(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    models = make_models(Writes(), Writes())
    handle = models.target
    assert handle is not None
    several = Models(models.draft, handle, targets={"small": handle, "large": handle})
    [solution] = solved(several, [a_task(policy=ToTheLarge(0.5, "target"))])
    assert [step.kept.target for step in solution.steps] == ["", "large", ""]
    assert solution.targets["small"].requests == 3  # the first target glimpses


def test_nothing_is_drafted_ahead_of_a_glimpse(
    in_virtual_time: Virtual, open_ring: OpenRing, a_task: Tasks, make_models: MakeModels
) -> None:
    async def body() -> None:
        async with open_ring(make_models(Writes()), 16, lookahead=4) as ring:
            solution = await ring.solve(a_task(policy=GlimpsedEscalation(0.5)))
        assert solution.lookahead.started == 0

    in_virtual_time(body)


def test_a_step_that_the_target_alone_proposes_has_no_glimpse(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    class FirstOfTarget(GlimpsedEscalation, frozen=True):
        def proposes(self, step: int) -> tuple[Author, ...]:
            return ("target",) if step == 0 else self.proposers

    [solution] = solved(make_models(Writes()), [a_task(policy=FirstOfTarget(0.0))])
    assert [(step.kept.author, step.glimpse is None) for step in solution.steps] == [
        ("target", True),
        ("draft", False),
        ("draft", False),
    ]


def test_an_audit_leaves_out_steps_that_have_no_draft(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    [solution] = solved(make_models(Writes()), [a_task(policy=GlimpsedEscalation(0.5), audit=1.0)])
    assert [step.audit for step in solution.steps] == [None, None, None]
    assert "audit" not in solution.requests


def test_other_policies_have_no_glimpse(solved: Solved, a_task: Tasks, make_models: MakeModels) -> None:
    [solution] = solved(make_models(), [a_task(policy=LearnedRouter(0.5))])
    assert [step.glimpse for step in solution.steps] == [None, None, None]
