"""A recorded run as the workload of simulated servers."""

from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import LearnedRouter, Oracle
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.errors import BackendError, RunError
from arbiter.protocols.events import Detail
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Limits, Model, Sampling, Solution
from arbiter.simulation.placement import Placement
from arbiter.simulation.recorded_workload import RecordedWorkload
from arbiter.simulation.simulation_results import Case, Depth, SimulationResult
from arbiter.simulation.study import Hardware, Study
from arbiter.simulation.synthetic_workload import LogNormal, SyntheticWorkload, tokens_of
from arbiter.simulation.workload import StatedWorkload, Workload

SMALL = SyntheticWorkload(problems=10, acceptance=0.6, steps=LogNormal(5, 0.7, 20), seed=5)
SERVERS: dict[Model, Placement] = {
    "draft": Placement("1.5B", "H100"),
    "target": Placement("7B", "H100"),
    "prm": Placement("PRM-7B", "A100"),
    "router": Placement("PRM-1.5B", "A100"),
}
ROUTER = LearnedRouter(0.5)
HARDWARE = Hardware(SERVERS, dict.fromkeys(SERVERS, 4), running=4)


def stated(policy: Policy = ROUTER) -> StatedWorkload:
    return StatedWorkload(SMALL, policy, Limits(), Sampling(), 0.0)


def recorded(folder: Path, policy: Policy, verify: Verify = "off", broken: str = "", detail: Detail = "full") -> Run:
    """Record a run of the synthetic problems by models that answer immediately. Those of ``broken`` fail."""

    def write(request: GenerationRequest) -> Generation:
        if request.problem == broken:
            raise BackendError("the model fell over")
        made = SMALL.write(request)
        texts = request.transcript.question, *(step.text for step in request.transcript.steps)
        return replace(made, usage=replace(made.usage, prompt_tokens=sum(map(tokens_of, texts))))

    async def done(_: Solution) -> None:
        """Do nothing: the log has everything."""

    async def body() -> None:
        writer, scorer = ModelHandle(ScriptedGenerator(write)), ModelHandle(ScriptedScorer(SMALL.rate))
        models = Models(draft=writer, target=writer, scorers={"router": scorer, "prm": scorer})
        async with (
            open_journal(folder / "events.jsonl", {"run_type": "router"}, detail=detail) as journal,
            open_ring(models, journal=journal, verify=verify) as ring,
        ):
            await solve_all(ring, stated(policy).tasks(), 3, done)

    anyio.run(body)
    return Run.open(folder)


def figures(workload: Workload, case: Case) -> SimulationResult:
    return Study(workload, HARDWARE, case).run(lambda: None)


depths: tuple[Depth, ...] = (0, 1)


@pytest.mark.parametrize("policy", [ROUTER, Oracle(0.0)])
@pytest.mark.parametrize("depth", depths)
@pytest.mark.slow
def test_a_recorded_run_takes_as_long_as_what_was_recorded(tmp_path: Path, policy: Policy, depth: Depth) -> None:
    workload = RecordedWorkload.open(recorded(tmp_path, policy))
    for concurrency in (1, 10):
        case = Case(concurrency, depth)
        assert figures(workload, case) == figures(stated(policy), case)


def test_matches_are_those_that_were_recorded(tmp_path: Path) -> None:
    workload = RecordedWorkload.open(recorded(tmp_path, ROUTER, verify="on"))
    case = Case(10, verify="on")
    assert figures(workload, case) == figures(stated(), case)
    assert set(workload.matches) == {"recorded"}


@pytest.mark.slow
def test_matches_that_were_not_recorded_are_what_both_texts_begin_with(tmp_path: Path) -> None:
    workload = RecordedWorkload.open(recorded(tmp_path, ROUTER))
    case = Case(10, verify="on")
    found, drawn = figures(workload, case).prefix_match, figures(stated(), case).prefix_match
    assert set(workload.matches) == {"texts"}
    assert found.proposed == drawn.proposed
    assert 0 < found.matched < drawn.matched  # texts of this workload share a prefix only if they are equal


def test_without_texts_matches_are_drawn(tmp_path: Path) -> None:
    workload = RecordedWorkload.open(recorded(tmp_path, ROUTER, detail="redacted"))
    found = figures(workload, Case(10, verify="on"))
    assert found.steps == figures(stated(), Case(10)).steps
    assert workload.matches["stated"] > 0


def test_problems_that_failed_are_left_out_and_counted(tmp_path: Path) -> None:
    workload = RecordedWorkload.open(recorded(tmp_path, ROUTER, broken="problem-3"))
    assert (workload.problems, workload.left_out) == (9, 1)
    assert figures(workload, Case(3)).problems == 9


def test_a_log_of_decisions_alone_is_refused(tmp_path: Path) -> None:
    run = recorded(tmp_path, ROUTER, detail="decisions")
    with pytest.raises(RunError, match="leaves out the answers"):
        RecordedWorkload.open(run)
