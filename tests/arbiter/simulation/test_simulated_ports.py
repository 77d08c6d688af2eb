"""Simulated servers and synthetic workloads in the real ring."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from arbiter.actors.policies import DraftOnly, GenerateRows, LearnedRouter, Oracle, RewardThreshold, TargetOnly
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import ModelHandle
from arbiter.protocols.records import Solution
from arbiter.replay.virtual_time import run_virtually
from arbiter.simulation.engine import Speed
from arbiter.simulation.server import SimulatedGenerator, SimulatedScorer, SimulatedServer
from arbiter.simulation.speeds import GPUS, MODELS, speed_of
from arbiter.simulation.synthetic_workload import LogNormal, Quantiles, SyntheticWorkload, tokens_of

FAST = Speed(step=0.01, sequence=0.001, prefill=5000.0, fixed=0.005)
SLOW = Speed(step=0.4, sequence=0.2, prefill=90.0, context=0.3, fixed=0.1, running=2, cache_tokens=300)
SMALL = SyntheticWorkload(problems=9, steps=LogNormal(4, 0.8, 12), seed=3)


class Fleet:
    """Servers of the same speed for a draft, a target and a scorer."""

    def __init__(self, world: SyntheticWorkload, speed: Speed) -> None:
        self.draft, self.target, self.scorer = (SimulatedServer(speed) for _ in range(3))
        scorer = ModelHandle(SimulatedScorer(self.scorer, world.rate, tokens_of))
        self.models = Models(
            draft=ModelHandle(SimulatedGenerator(self.draft, world.write, tokens_of)),
            target=ModelHandle(SimulatedGenerator(self.target, world.write, tokens_of)),
            scorers={"prm": scorer, "router": scorer},
        )

    @property
    def servers(self) -> tuple[SimulatedServer, ...]:
        return self.draft, self.target, self.scorer

    def solve(
        self, world: SyntheticWorkload, policy: Policy, concurrency: int = 100, deadline: float | None = None
    ) -> dict[str, Solution]:
        solutions: dict[str, Solution] = {}
        tasks = (replace(task, limits=replace(task.limits, deadline=deadline)) for task in world.tasks(policy))

        async def done(solution: Solution) -> None:
            solutions[solution.problem] = solution

        async def body() -> None:
            async with services() as serving, open_ring(self.models) as ring:
                for server in self.servers:
                    await serving.start(server.run)
                await solve_all(ring, tasks, concurrency, done)

        run_virtually(body)
        return solutions


def kept(solutions: dict[str, Solution]) -> dict[str, list[tuple[str, str]]]:
    return {name: [(step.kept.author, step.kept.text) for step in each.steps] for name, each in solutions.items()}


POLICIES = (RewardThreshold(0.5), LearnedRouter(0.5), Oracle(0.0), GenerateRows())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.slow
def test_exactly_the_drawn_steps_are_kept_from_the_draft(policy: Policy) -> None:
    world = replace(SMALL, agreeing=Quantiles((0.0, 0.0)))  # if both texts are equal, the draft is kept
    solutions = Fleet(world, FAST).solve(world, policy)
    authors = {name: [step.kept.author for step in each.steps] for name, each in solutions.items()}
    assert authors == {
        name: ["draft" if SMALL.accepted(name, step) else "target" for step in range(SMALL.length(name))]
        for name in SMALL.names()
    }
    assert {each.finish_reason for each in solutions.values()} == {"answered"}


@pytest.mark.parametrize("policy", [*POLICIES, DraftOnly(), TargetOnly()])
@pytest.mark.slow
def test_answers_depend_neither_on_the_servers_nor_on_the_concurrency(policy: Policy) -> None:
    found = [kept(Fleet(SMALL, speed).solve(SMALL, policy, n)) for speed in (FAST, SLOW) for n in (1, 3, 100)]
    assert all(each == found[0] for each in found)


def test_the_usage_of_an_answer_is_the_servers() -> None:
    fleet = Fleet(SMALL, FAST)
    solutions = fleet.solve(SMALL, LearnedRouter(0.5))
    for model, server in (("draft", fleet.draft), ("target", fleet.target), ("router", fleet.scorer)):
        usages = [
            counts.usage for each in solutions.values() for name, counts in each.requests.items() if name == model
        ]
        assert sum(usage.cached_tokens for usage in usages) == server.load.cached > 0
        assert sum(usage.prompt_tokens for usage in usages) == server.load.read + server.load.cached
        assert sum(usage.completion_tokens for usage in usages) == server.load.decoded


def test_a_problem_whose_time_is_up_leaves_the_servers_at_once() -> None:
    fleet = Fleet(SMALL, SLOW)
    solutions = fleet.solve(SMALL, LearnedRouter(0.5), deadline=20.0)
    late = [each for each in solutions.values() if each.finish_reason == "deadline"]
    assert late
    assert {each.seconds for each in late} == {20.0}
    assert sum(server.load.cancelled for server in fleet.servers) == sum(
        counts.cancelled for each in late for counts in each.requests.values()
    )
    assert sum(server.load.wasted for server in fleet.servers) > 0


@given(
    median=st.floats(0.1, 500),
    sigma=st.floats(0, 3),
    most=st.integers(1, 1000),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_numbers_grow_with_their_share_and_stay_in_their_bounds(
    median: float, sigma: float, most: int, shares: tuple[float, float]
) -> None:
    numbers = LogNormal(median, sigma, most)
    low, high = (numbers.at(share) for share in sorted(shares))
    assert 1 <= low <= high <= most


def test_half_of_the_numbers_are_below_the_median() -> None:
    assert LogNormal(40, 0.8, 1024).at(0.5) == 40


def drawn(world: SyntheticWorkload) -> list[object]:
    return [(world.question(name), world.length(name), world.accepted(name, 1)) for name in world.names()]


def test_a_world_is_a_function_of_its_seed_and_a_problem_of_its_name() -> None:
    assert drawn(SyntheticWorkload(problems=9)) == drawn(SyntheticWorkload())[:9]
    assert all(
        one != other for one, other in zip(drawn(SyntheticWorkload()), drawn(SyntheticWorkload(seed=1)), strict=True)
    )


def test_drafts_are_accepted_at_the_stated_rate() -> None:
    world = SyntheticWorkload(problems=500, acceptance=0.9)
    accepted = [world.accepted(name, step) for name in world.names() for step in range(20)]
    assert sum(accepted) / len(accepted) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("gpu", GPUS)
def test_a_larger_model_is_slower_in_everything(gpu: str) -> None:
    smaller, larger = (speed_of(model, gpu) for model in ("1.5B", "7B"))
    assert (smaller.step, smaller.sequence, smaller.context) < (larger.step, larger.sequence, larger.context)
    assert (smaller.prefill, smaller.cache_tokens) > (larger.prefill, larger.cache_tokens)


@pytest.mark.parametrize("model", MODELS)
def test_the_newer_card_is_faster_in_everything(model: str) -> None:
    older, newer = (speed_of(model, gpu, gpus=4) for gpu in ("A100", "H100"))
    assert older.step > newer.step
    assert older.sequence > newer.sequence
    assert older.context > newer.context
    assert older.prefill < newer.prefill


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="141 GB of weights do not fit into 72 GB"):
        speed_of("70B", "H100")
    assert speed_of("70B", "H100", gpus=4).cache_tokens > 0
