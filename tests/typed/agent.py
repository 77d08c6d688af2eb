"""A program that uses Arbiter as its users do; ``tests/test_public_names.py`` has its types checked."""

from collections.abc import AsyncIterator
from typing import ClassVar, assert_type

import arbiter as package
from arbiter import Arbiter, BlockingArbiter, Event, Message, Overrides, Solution, StepRecord, Usage, solve
from arbiter.extending import (
    ActorFactories,
    ConfidenceMetric,
    Evidence,
    Generation,
    GenerationRequest,
    Generator,
    ModelHandle,
    Models,
    PolicyBase,
    Score,
    ScoreKind,
    Scorer,
    ScoreRequest,
    ScriptedGenerator,
    Verdict,
)


class Parrot:
    """A generator of one's own."""

    async def generate(self, request: GenerationRequest) -> Generation:
        return Generation(request.transcript.question, "end", Usage(completion_tokens=1))


class Judge:
    """A scorer of one's own."""

    async def score(self, request: ScoreRequest) -> Score:
        return Score(0.5, Usage())


class Half(PolicyBase, frozen=True):
    """A policy of one's own."""

    score_kind: ClassVar[ScoreKind | None] = "prm"

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if evidence.step % 2 else "escalate"


class Unsure(PolicyBase, frozen=True):
    """A policy of one's own that asks for all that a policy may ask for."""

    threshold: float
    confidence: ConfidenceMetric | None = "mean"
    budget: float | None = 0.2
    targets = ("small", "large")
    escalates_above = False

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if self.score(evidence) >= self.threshold else "escalate"

    def target(self, evidence: Evidence) -> str:
        return "small" if evidence.step else "large"


def hook(event: Event) -> None:
    """Looks on."""


async def questions() -> AsyncIterator[str]:
    yield "first"


async def use() -> Solution:
    generator: Generator = Parrot()
    scorer: Scorer = Judge()
    models = Models(draft=ModelHandle(generator), target=ModelHandle(Parrot()), scorers={"prm": ModelHandle(scorer)})
    said: list[Message] = [{"role": "user", "content": "first"}]
    overrides: Overrides = {"run_type": "rsd", "threshold": 0.4, "tags": {"user": "me"}}
    async with Arbiter(models=models, factories=ActorFactories(), hooks=[hook], leaving="cancel") as arbiter:
        assert_type(await arbiter.solve(said, **overrides), Solution)
        assert_type(await arbiter.solve("first", policy=Unsure(0.5)), Solution)
        steps = arbiter.stream("second", policy=Half(), max_steps=3, deadline=None)
        async for step in steps:
            assert_type(step, StepRecord)
        async for solution in arbiter.map(questions(), concurrency=256, run_type="draft"):
            assert_type(solution, Solution)
        return steps.solution


def use_blocking() -> list[str]:
    with BlockingArbiter(Arbiter(models=Models(draft=ModelHandle(ScriptedGenerator(lambda _: "done"))))) as arbiter:
        return [arbiter.solve("q", run_type="draft").text, *(one.text for one in arbiter.map(["q"])), solve("q").text]


def misspell() -> object:
    """Type checkers know each name, though it is imported when it is first used."""
    assert_type(package.__version__, str)
    return package.Arbitre  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
