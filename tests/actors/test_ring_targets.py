"""Several targets: which one is called, how often, and what is counted."""

from collections.abc import Callable

import msgspec
import pytest

from arbiter.actors.policies import GenerateRows, LearnedRouter, RewardThreshold
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.data.training_rows import training_rows
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import GenerationRequest, ModelHandle
from arbiter.protocols.records import Limits, Sampling, Solution, Target

Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]

SMALL, LARGE = Target("small", 1.0), Target("large", 3.0)
TWO_STEPS = Limits(max_steps=2)


class Fleet:
    """Two targets and a router for both. They record their requests."""

    def __init__(
        self,
        make_models: MakeModels,
        estimates: tuple[float, ...] = (0.9, 0.9),
        rewards: dict[str, float] | None = None,
    ):
        self.requests: list[GenerationRequest] = []
        worth = rewards or {}
        prm = ScriptedScorer(lambda request: worth.get(request.candidate.partition(" ")[0], 0.5))
        whole = make_models(router=ScriptedScorer(lambda _: estimates), prm=prm)
        targets = {name: ModelHandle(ScriptedGenerator(self._write)) for name in ("small", "large")}
        self.models = msgspec.structs.replace(whole, targets=targets)

    def _write(self, request: GenerationRequest) -> str:
        self.requests.append(request)
        return f"{request.target} {request.step}.{request.sample}"


@pytest.mark.parametrize(
    ("estimates", "name"), [((0.9, 0.9), "small"), ((0.2, 0.9), "large"), ((0.31, 0.95), "large"), ((0.2, 0.1), None)]
)
def test_the_chosen_target_alone_writes_an_escalated_step(
    estimates: tuple[float, ...], name: str | None, a_task: Tasks, make_models: MakeModels, solved: Solved
) -> None:
    fleet = Fleet(make_models, estimates)
    (solution,) = solved(fleet.models, [a_task(policy=LearnedRouter(0.3, (SMALL, LARGE)), limits=TWO_STEPS)])
    assert {request.target for request in fleet.requests} == ({name} if name else set())
    assert [step.kept.target for step in solution.steps] == [name or ""] * 2
    assert {target: counts.requests for target, counts in solution.targets.items()} == ({name: 2} if name else {})
    assert sum(counts.requests for counts in solution.targets.values()) == sum(
        counts.requests for model, counts in solution.requests.items() if model == "target"
    )


def test_generate_asks_every_target_for_all_samples_and_goes_on_with_the_best_first_one(
    a_task: Tasks, make_models: MakeModels, solved: Solved
) -> None:
    fleet = Fleet(make_models, rewards={"small": 0.6, "large": 0.8, "draft": 0.7})
    policy = GenerateRows(targets=("small", "large"))
    task = a_task(policy=policy, limits=TWO_STEPS, sampling=Sampling(target_samples=2))
    (solution,) = solved(fleet.models, [task])
    written = [(one.target, one.sample) for one in solution.steps[0].targets]
    assert written == [("small", 0), ("small", 1), ("large", 0), ("large", 1)]
    assert [step.kept.text for step in solution.steps] == ["large 0.0", "large 1.0"]
    assert {name: counts.requests for name, counts in solution.targets.items()} == {"small": 4, "large": 4}
    rows = list(training_rows(solution))
    assert rows[0].target_names == ("small", "small", "large", "large")
    assert rows[0].targets == ("small 0.0", "small 0.1", "large 0.0", "large 0.1")


def test_on_a_tie_of_draft_and_best_target_the_draft_goes_on(
    a_task: Tasks, make_models: MakeModels, solved: Solved
) -> None:
    fleet = Fleet(make_models, rewards={"small": 0.8, "large": 0.8, "draft": 0.8})
    (solution,) = solved(fleet.models, [a_task(policy=GenerateRows(targets=("small", "large")), limits=TWO_STEPS)])
    assert {step.kept.author for step in solution.steps} == {"draft"}


def test_a_policy_of_one_target_asks_the_one_without_a_name(
    a_task: Tasks, make_models: MakeModels, solved: Solved
) -> None:
    fleet = Fleet(make_models)
    (solution,) = solved(fleet.models, [a_task(policy=RewardThreshold(0.9), limits=TWO_STEPS)])
    assert fleet.requests == []
    assert solution.targets == {}
    assert solution.requests["target"].requests == 2


def test_a_target_that_is_not_there_is_named_with_its_table(make_models: MakeModels) -> None:
    with pytest.raises(ConfigError, match=r"add a table \[models\.targets\.small\]"):
        make_models().require(LearnedRouter(0.3, (SMALL,)))
