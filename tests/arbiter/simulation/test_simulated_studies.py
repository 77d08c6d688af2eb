"""Simulations of whole runs."""

from collections.abc import Callable
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from arbiter.actors.controllers import Verify
from arbiter.config.config import Config
from arbiter.config.run_tables import RunType
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Gather
from arbiter.protocols.records import Model
from arbiter.runs.gathering_waits import GatheringWaits
from arbiter.simulation.cases import CasePlan
from arbiter.simulation.placement import Placement, placed
from arbiter.simulation.simulation_results import STEPS, Case, Depth, SimulationResult
from arbiter.simulation.study import Hardware
from arbiter.simulation.synthetic_workload import LogNormal, SyntheticWorkload
from tests.hypothesis_profiles import examples

SMALL = SyntheticWorkload(problems=12, steps=LogNormal(5, 0.7, 20), seed=3)
MODELS: dict[Model, str] = {"draft": "1.5B", "target": "7B", "prm": "PRM-1.5B", "router": "PRM-1.5B", "judge": "7B"}
Configure = Callable[..., Config]


def hardware(gpus: int = 1, running: int = 64, in_flight: int = 128) -> Hardware:
    places: dict[Model, Placement] = {model: Placement(name, "H100", gpus) for model, name in MODELS.items()}
    handles: dict[Model, int] = dict.fromkeys(MODELS, in_flight)
    return Hardware(places, handles, running)


def simulated(
    config: Config, case: Case, servers: Hardware | None = None, world: SyntheticWorkload = SMALL
) -> SimulationResult:
    return CasePlan(config, servers or hardware(), world, None).simulate(case, lambda: None)


BY_HISTORY: tuple[RunType, ...] = ("trigger", "paced", "pomdp")


@pytest.mark.parametrize("run_type", BY_HISTORY)
def test_a_run_type_that_decides_by_history_is_refused_with_the_reason(a_config: Configure, run_type: RunType) -> None:
    with pytest.raises(ConfigError, match=rf"'{run_type}' decides by .*: simulate a recorded run \(--run\)"):
        simulated(a_config(run_type=run_type), Case(4, acceptance=0.7))


@pytest.mark.parametrize("run_type", [name for name in get_args(RunType) if name not in BY_HISTORY])
@pytest.mark.slow
def test_every_run_type_asks_its_models_alone(a_config: Configure, run_type: RunType) -> None:
    rate = None if run_type in ("draft", "target") else 0.7
    found = simulated(a_config(run_type=run_type), Case(4, acceptance=rate))
    called: dict[RunType, set[Model]] = {
        "draft": {"draft"},
        "target": {"target"},
        "random": {"draft", "target"},
        "router": {"draft", "target", "router"},
        "confidence": {"draft", "target"},
        "glimpse": {"draft", "target"},
        "judge": {"draft", "target", "judge"},
    }
    assert set(found.servers) == called.get(run_type, {"draft", "target", "prm"})
    assert found.finish_reasons == {"answered": SMALL.problems}
    assert found.acceptance == {"draft": 1, "target": 0}.get(run_type, pytest.approx(0.7, abs=0.15))


@pytest.mark.parametrize("run_type", ["router", "rsd", "confidence"])
def test_blocks_need_fewer_requests_and_keep_what_each_step_keeps(a_config: Configure, run_type: RunType) -> None:
    apart, together = (simulated(a_config(run_type=run_type), Case(4, acceptance=0.9, block=block)) for block in (1, 4))
    assert (apart.steps, apart.acceptance, apart.finish_reasons) == (
        together.steps,
        together.acceptance,
        together.finish_reasons,
    )
    for model in apart.servers.keys() - {"target"}:
        assert together.servers[model].requests <= apart.servers[model].requests / 2
    assert together.bound is None


def test_a_simulation_of_several_targets_is_refused(a_config: Configure) -> None:
    model = {"model": "m", "prompt": "{question}"}
    targets = {name: {**model, "cost": 1.0} for name in ("small", "large")}
    config = a_config(models={"draft": model, "router": model, "targets": targets})
    with pytest.raises(ConfigError, match="a simulation has one target"):
        simulated(config, Case(4, acceptance=0.7))


def test_equal_simulations_are_equal_byte_for_byte(a_config: Configure) -> None:
    case = Case(8, lookahead=1, verify="on", acceptance=0.7)
    first, second = (msgspec.json.encode(simulated(a_config(), case)) for _ in range(2))
    assert first == second


depths: st.SearchStrategy[Depth] = st.sampled_from((0, 1, 2, "auto"))
modes: st.SearchStrategy[Verify] = st.sampled_from(get_args(Verify))


@examples(0.5)
@given(concurrency=st.sampled_from([1, 3, 12]), depth=depths, verify=modes, running=st.sampled_from([1, 3, 64]))
@pytest.mark.slow
def test_neither_concurrency_nor_looking_ahead_nor_verifying_changes_a_step(
    a_config: Configure, concurrency: int, depth: Depth, verify: Verify, running: int
) -> None:
    config = a_config(run_type="rsd")
    plain = simulated(config, Case(1, acceptance=0.6))
    found = simulated(config, Case(concurrency, depth, verify, 0.6), hardware(running=running))
    assert (found.steps, found.acceptance) == (plain.steps, plain.acceptance)
    assert found.finish_reasons == plain.finish_reasons
    tokens = found.tokens_per_second * found.makespan
    assert tokens == pytest.approx(plain.tokens_per_second * plain.makespan, rel=1e-4)
    assert sum(server.lost for server in found.servers.values()) + found.own == pytest.approx(1, abs=0.1)
    assert all(0 <= server.utilisation <= 1 and server.waited >= 0 for server in found.servers.values())


@examples(0.5)
@given(concurrency=st.sampled_from([1, 2, 5, 12]), verify=modes, running=st.sampled_from([1, 3, 64]))
@pytest.mark.slow
def test_no_run_is_faster_than_its_bound(a_config: Configure, concurrency: int, verify: Verify, running: int) -> None:
    found = simulated(a_config(), Case(concurrency, 0, verify, 0.6), hardware(running=running))
    assert found.bound is not None
    assert 0 < found.bound <= found.makespan + 1e-6


def test_alone_a_problem_loses_nothing_and_the_steps_are_the_bottleneck(a_config: Configure) -> None:
    found = simulated(a_config(), Case(1, acceptance=0.7))
    assert found.own == pytest.approx(1, abs=1e-4)
    assert found.bottleneck == STEPS
    assert found.makespan == pytest.approx(found.bound)
    assert found.latency.mean * found.problems == pytest.approx(found.makespan)


@pytest.mark.parametrize("verify", ["off", "on"])
@pytest.mark.slow
def test_gathering_changes_no_step_and_is_told_with_its_waits(a_config: Configure, verify: Verify) -> None:
    world, gather = replace(SMALL, problems=60), Gather(0.03, 0.25)
    case = Case(60, verify=verify, acceptance=0.6)
    without, gathered = (
        simulated(a_config(), case, replace(hardware(), gather=held), world) for held in (None, gather)
    )
    assert (gathered.steps, gathered.acceptance) == (without.steps, without.acceptance)
    assert gathered.servers["target"].decoded == without.servers["target"].decoded
    assert without.gathering == GatheringWaits()
    assert gathered.gathering.held > 0
    assert 0 < (gathered.gathering.largest_seconds or 0) <= gather.seconds
    assert (gathered.gathering.together or 0) > 1


@pytest.mark.slow
def test_a_server_without_places_is_the_bottleneck_and_its_requests_wait(a_config: Configure) -> None:
    slow = hardware(running=4)
    slow = replace(slow, placements={**slow.placements, "target": Placement("70B", "H100", 4)})
    found = simulated(a_config(), Case(100, acceptance=0.2), slow, replace(SMALL, problems=30))
    assert found.bottleneck == "target"
    assert found.servers["target"].waited > found.servers["draft"].waited
    assert found.servers["target"].full == 1


@pytest.mark.slow
def test_waiting_at_the_seat_is_told_as_waiting_in_the_queue_is(a_config: Configure) -> None:
    world = replace(SMALL, problems=30)  # the slots and the queue have different orders, so many requests must wait
    handle, queue = (
        simulated(a_config(), Case(30, acceptance=0.7), hardware(running=2, in_flight=places), world).servers["draft"]
        for places in (2, 128)
    )
    assert handle.waited == pytest.approx(queue.waited, rel=0.2)
    assert handle.waited > 0.1


def test_more_gpus_make_it_faster(a_config: Configure) -> None:
    one, two = (simulated(a_config(), Case(12, acceptance=0.7), hardware(gpus)) for gpus in (1, 2))
    assert two.makespan < one.makespan


def test_the_limits_of_the_configuration_are_obeyed(a_config: Configure) -> None:
    config = a_config(limits={"max_tokens": 60, "max_steps": 9, "step_tokens": 30})
    found = simulated(config, Case(4, acceptance=0.7))
    assert found.finish_reasons["max_tokens"] > 0
    assert found.steps <= 9 * SMALL.problems
    assert "step_limit" not in found.finish_reasons


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("7B", Placement("7B", "A100")),
        ("7B@H100", Placement("7B", "H100")),
        ("70B@4xH100", Placement("70B", "H100", 4)),
        ("PRM-1.5B@12xL40S", Placement("PRM-1.5B", "L40S", 12)),
    ],
)
def test_a_model_and_its_gpus_are_written_in_one_word(written: str, place: Placement) -> None:
    assert placed(written, "A100") == place


@pytest.mark.parametrize("written", ["", "@H100", "7B@", "7B@0xH100", "7B@4", "7B@H100@H100"])
def test_what_names_no_model_on_gpus_is_refused(written: str) -> None:
    with pytest.raises(ConfigError, match="write 7B, 7B@H100 or 70B@4xH100"):
        placed(written, "A100")


@pytest.mark.parametrize(("written", "known"), [("7B@H900", "A100, H100"), ("6B", "1.5B, 3B")])
def test_what_is_not_in_the_tables_is_refused_with_what_is(written: str, known: str) -> None:
    with pytest.raises(ConfigError, match=f"known: {known}"):
        placed(written, "A100").speed(64, mixed=False)
