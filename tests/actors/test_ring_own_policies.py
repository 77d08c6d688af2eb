"""Policies that users write: the ring requests what they need, and errors name what is missing."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import msgspec
import pytest

from arbiter.actors.journal import NoJournal
from arbiter.actors.policies import LearnedRouter, PolicyBase, check_policy
from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.events import Entry, EscalateStepEvent, StepAcceptedEvent
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Author, ConfidenceMetric, Limits, ScoreKind, Solution, Target, Usage, Verdict

OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]

STEPS = Limits(max_steps=8, repeats=100)


class Unsure(PolicyBase, frozen=True):
    """Escalates if the draft's confidence is below τ, or above it with ``escalates_above``."""

    threshold: float
    confidence: ConfidenceMetric | None = "mean"
    budget: float | None = None
    escalates_above: bool = False

    def decide(self, evidence: Evidence) -> Verdict:
        score = self.score(evidence)
        escalates = score > self.threshold if self.escalates_above else score < self.threshold
        return "escalate" if escalates else "keep_draft"


class Constant(PolicyBase, frozen=True):
    """Sets its options as plain class attributes."""

    threshold: float

    confidence = "first"
    budget = 0.25

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if self.score(evidence) >= self.threshold else "escalate"


@dataclass(frozen=True)
class NoStruct:
    """Defines every member itself, without the base."""

    threshold: float
    proposers: ClassVar[tuple[Author, ...]] = ("draft",)
    score_kind: ClassVar[ScoreKind | None] = None
    decides: ClassVar[bool] = True
    targets: tuple[str, ...] = ()
    confidence: ConfidenceMetric | None = "mean"
    glimpse: Author | None = None
    budget: float | None = 0.25
    escalates_above: bool = False

    def proposes(self, step: int) -> tuple[Author, ...]:
        return self.proposers

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if self.score(evidence) >= self.threshold else "escalate"

    def score(self, evidence: Evidence) -> float:
        assert evidence.draft is not None
        assert evidence.draft.confidence is not None
        return evidence.draft.confidence

    def target(self, evidence: Evidence) -> str:
        return ""

    def with_threshold(self, threshold: float) -> "NoStruct":
        return replace(self, threshold=threshold)


class ByTurns(PolicyBase, frozen=True):
    """Escalates every step, to the targets in turn."""

    targets: tuple[Target | str, ...] = (Target("small"), "large")

    def decide(self, evidence: Evidence) -> Verdict:
        return "escalate"

    def target(self, evidence: Evidence) -> str:
        return "large" if evidence.step % 2 else "small"


class FirstOnly(PolicyBase, frozen=True):
    """Escalates every step, without choosing a target."""

    targets = ("large", "small")

    def decide(self, evidence: Evidence) -> Verdict:
        return "escalate"


class Elsewhere(PolicyBase, frozen=True):
    """Chooses a target that it does not list."""

    targets = ("small",)

    def decide(self, evidence: Evidence) -> Verdict:
        return "escalate"

    def target(self, evidence: Evidence) -> str:
        return "large"


class Thresholds(NoJournal):
    """Records the verdict and the threshold of each decision."""

    kept = True

    def __init__(self) -> None:
        self.found: list[tuple[bool, float | None]] = []

    async def write(self, entry: Entry) -> None:
        if isinstance(entry.payload, EscalateStepEvent | StepAcceptedEvent):
            self.found.append((isinstance(entry.payload, EscalateStepEvent), entry.payload.threshold))


class Workload:
    """A draft with the confidence ``sure``, and two named targets; all record their requests."""

    def __init__(self, make_models: MakeModels, sure: float = 0.6) -> None:
        self.requests: list[GenerationRequest] = []
        self._sure = sure
        handle = ModelHandle(ScriptedGenerator(self._write))
        self.models = msgspec.structs.replace(
            make_models(), draft=handle, target=handle, targets={"small": handle, "large": handle}
        )

    def _write(self, request: GenerationRequest) -> Generation:
        self.requests.append(request)
        text, sure = f"{request.target or request.author} {request.step}", self._sure if request.confidence else None
        return Generation(text, "separator", Usage(completion_tokens=1), confidence=sure)

    @property
    def measures(self) -> set[ConfidenceMetric | None]:
        """The kinds of confidence that were requested from the draft."""
        return {request.confidence for request in self.requests if request.author == "draft"}


def decided(
    open_ring: OpenRing, models: Models, task: Task, in_virtual_time: Virtual
) -> list[tuple[bool, float | None]]:
    """Whether each step was escalated, and with which threshold."""
    journal = Thresholds()

    async def body() -> None:
        async with open_ring(models, journal=journal) as ring:
            assert (await ring.solve(task)).finish_reason == "max_steps"

    in_virtual_time(body)
    return journal.found


@pytest.mark.parametrize(
    ("policy", "measure"),
    [
        (Unsure(0.5, budget=0.25), "mean"),
        (Constant(0.5), "first"),
        (NoStruct(0.5), "mean"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_policy_with_a_confidence_and_a_budget_gets_both(
    policy: Policy,
    measure: ConfidenceMetric,
    in_virtual_time: Virtual,
    a_task: Tasks,
    make_models: MakeModels,
    open_ring: OpenRing,
) -> None:
    """The draft's confidence is above τ, so τ rises by 0.05 · 0.25 per step, until a draft is below it."""
    world = Workload(make_models, sure=0.52)
    found = decided(open_ring, world.models, a_task(policy=policy, limits=STEPS), in_virtual_time)
    assert world.measures == {measure}
    assert [threshold for _, threshold in found] == pytest.approx(
        [0.5, 0.5125, 0.525, 0.4875, 0.5, 0.5125, 0.525, 0.4875]
    )
    assert [escalated for escalated, _ in found] == [False, False, True, False] * 2


def test_the_threshold_moves_the_other_way_where_a_score_above_it_escalates(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    policy = Unsure(0.5, budget=0.25, escalates_above=True)
    found = decided(
        open_ring, Workload(make_models, sure=0.48).models, a_task(policy=policy, limits=STEPS), in_virtual_time
    )
    assert [threshold for _, threshold in found[:4]] == pytest.approx([0.5, 0.4875, 0.475, 0.5125])
    assert [escalated for escalated, _ in found] == [False, False, True, False] * 2


def test_a_policy_that_asks_for_nothing_gets_nothing(
    in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    world = Workload(make_models)
    found = decided(open_ring, world.models, a_task(policy=ByTurns(("small", "large")), limits=STEPS), in_virtual_time)
    assert world.measures == {None}
    assert found == [(True, None)] * 8


@pytest.mark.parametrize(
    ("policy", "names"), [(ByTurns(), ["small", "large"] * 4), (FirstOnly(), ["large"] * 8)], ids=str
)
def test_an_escalated_step_goes_to_the_target_that_the_policy_chooses_or_to_its_first(
    policy: Policy, names: list[str], solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    [solution] = solved(Workload(make_models).models, [a_task(policy=policy, limits=STEPS)])
    assert [step.kept.target for step in solution.steps] == names


def test_a_target_that_the_policy_has_not_named_fails_the_problem(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    [solution] = solved(Workload(make_models).models, [a_task(policy=Elsewhere())])
    assert solution.error == (
        "router, step 1: ProblemError: the policy chose the target 'large', which is not one of its targets: small"
    )


def test_a_target_of_ones_own_policy_that_is_not_there_is_named_with_its_table(make_models: MakeModels) -> None:
    with pytest.raises(ConfigError, match=r"add a table \[models\.targets\.large\]"):
        make_models().require(FirstOnly())


class Bare(msgspec.Struct, frozen=True):
    """The members that every policy needs, without the base."""

    proposers: ClassVar[tuple[Author, ...]] = ("draft",)
    score_kind: ClassVar[ScoreKind | None] = None
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


class Undecided(PolicyBase, frozen=True):
    """Lacks ``decide``."""


class Unmovable(PolicyBase, frozen=True):
    """Its threshold is not a field."""

    threshold = 0.5
    budget = 0.25

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


class WithoutThreshold(PolicyBase, frozen=True):
    """Has no threshold that a budget could move."""

    budget = 0.25

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


class Baseline(WithoutThreshold, frozen=True):
    """Never decides."""

    decides: ClassVar[bool] = False


class Unhashable(PolicyBase, frozen=True):
    """Is not hashable."""

    threshold: float
    weights: list[float]
    budget = 0.25

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        (Bare(), "the policy Bare has no 'targets': derive it from PolicyBase"),
        (Undecided(), "the policy Undecided has no 'decide'"),
        (WithoutThreshold(), "the policy WithoutThreshold has no budget, or no threshold"),
        (Unmovable(), "the policy Unmovable has a budget, but its threshold cannot be moved"),
        (Unhashable(0.5, [1.0]), r"its threshold cannot be moved \(unhashable type: 'list'\)"),
        (Baseline(), "the policy Baseline has a budget but never decides"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_policy_that_cannot_be_asked_for_all_is_refused_before_it_begins(
    policy: Any, refusal: str, in_virtual_time: Virtual, a_task: Tasks, make_models: MakeModels, open_ring: OpenRing
) -> None:
    world = Workload(make_models)

    async def body() -> None:
        async with open_ring(world.models) as ring:
            with pytest.raises(ConfigError, match=refusal):
                await ring.solve(a_task(policy=policy))

    in_virtual_time(body)
    assert world.requests == []


class Abstract(Policy):
    """Derived from the protocol, which has no defaults, instead of the base."""

    proposers: ClassVar[tuple[Author, ...]] = ("draft",)
    score_kind: ClassVar[ScoreKind | None] = None
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


def test_the_protocol_itself_has_no_defaults_and_names_what_is_missing() -> None:
    with pytest.raises(TypeError, match=r"abstract class Abstract .*budget.*confidence.*with_threshold"):
        Abstract()  # pyright: ignore[reportAbstractUsage]


def test_the_policies_of_arbiter_have_all_that_a_policy_may_be_asked_for() -> None:
    policy = LearnedRouter(0.5, (Target("small"),), budget=0.1)
    check_policy(policy)
    assert policy.with_threshold(0.75) == LearnedRouter(0.75, (Target("small"),), budget=0.1)
