"""A sweep stores what separate runs would store, with fewer requests."""

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.config.run_tables import RunType
from arbiter.data import Problem
from arbiter.log.checksums import of_document
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.ports import GenerationRequest, ScoreRequest
from arbiter.protocols.records import Solution
from arbiter.runs.folder import read_records
from arbiter.runs.results import Result, Summary
from arbiter.sweep.answer_cache import key_of
from arbiter.sweep.log_answers import answers_of
from arbiter.sweep.points import SweepPoint, plan
from arbiter.sweep.simulated_times import simulate, timed_alone
from arbiter.sweep.sweep_results import SweepResult
from tests.hypothesis_profiles import examples

pytestmark = pytest.mark.slow

Configs = Callable[..., Config]
Worlds = Callable[..., Models]
Swept = Callable[..., SweepResult]
Questions = Callable[[int], list[Problem]]
Request = GenerationRequest | ScoreRequest

FEW = settings(examples(0.1), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SEQUENTIAL: tuple[RunType, ...] = (
    "draft",
    "target",
    "random",
    "router",
    "rsd",
    "confidence",
    "judge",
    "trigger",
    "paced",
    "glimpse",
    "pomdp",
)
ALL: tuple[RunType, ...] = (*SEQUENTIAL, "oracle", "generate")


def results(out: Path, point: SweepPoint) -> dict[tuple[str, int], Result]:
    """Return the results of a point, without the times of its problems."""
    found = read_records(out / point.name / "results.jsonl", Result)
    return {(one.solution.problem, one.solution.sample): timeless(one) for one in found}


def timeless(result: Result) -> Result:
    return msgspec.structs.replace(result, solution=msgspec.structs.replace(result.solution, seconds=0.0))


def seconds(out: Path, point: SweepPoint) -> dict[tuple[str, int], float]:
    found = read_records(out / point.name / "results.jsonl", Result)
    return {(one.solution.problem, one.solution.sample): one.solution.seconds for one in found}


def keys(out: Path, points: Sequence[SweepPoint], stored: bool | None = None) -> list[bytes]:
    """Return the keys of all answers in the points' logs, or only of those made (or stored)."""
    problems = (problem for point in points for problem in Run.open(out / point.name).problems())
    answers = (answered for problem in problems for answered in answers_of(problem))
    return [key_of(answered.request, ()) for answered in answers if stored in (None, answered.stored)]


def simulated_alone(out: Path, point: SweepPoint) -> dict[tuple[str, int], float]:
    """Return the simulated times of a run that made all its requests itself."""
    problems = sorted(Run.open(out / point.name).problems(), key=lambda problem: (int(problem.key[0]), problem.key[1]))
    return dict(simulate(problems, point.config).each)


@FEW
@given(
    seed=st.integers(0, 10**6),
    run_types=st.lists(st.sampled_from(ALL), min_size=1, max_size=3, unique=True),
    thresholds=st.lists(st.integers(0, 20), min_size=2, max_size=4, unique=True),
    concurrency=st.sampled_from((1, 3, 50)),
    in_flight=st.sampled_from((1, 2, 64)),
    sampling=st.sampled_from(({}, {"temperature": 0.7}, {"temperature": 0.7, "samples": 2}, {"target_samples": 2})),
    audit=st.sampled_from((0.0, 0.5)),
)
def test_points_are_byte_for_byte_the_separate_runs_in_steps_figures_and_simulated_times(
    a_config: Configs,
    a_seen_world: Worlds,
    swept: Swept,
    questions: Questions,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    run_types: list[RunType],
    thresholds: list[int],
    concurrency: int,
    in_flight: int,
    sampling: dict[str, float],
    audit: float,
) -> None:
    table = {"model": "m", "prompt": "{question}", "in_flight": in_flight}
    tables = dict.fromkeys(("draft", "target", "prm", "router"), table)
    config = a_config(limits={"problems": concurrency}, sampling=sampling, audit=audit, models=tables)
    knobs = [",".join(str(value / 20) for value in thresholds)]
    points = plan(config, run_types, knobs if set(run_types) - {"draft", "target", "generate"} else [])
    problems, together, alone = questions(4), tmp_path_factory.mktemp("together"), tmp_path_factory.mktemp("alone")
    requested: list[Request] = []
    found = swept(together, points, a_seen_world(seed, in_flight=in_flight, requested=requested.append), problems)
    apart = swept(alone, points, a_seen_world(seed, in_flight=in_flight), problems, alone=True)
    for point, row, other in zip(points, found.points, apart.points, strict=True):
        assert results(together, point) == results(alone, point)
        assert row.requests.needed == other.requests.needed == other.requests.made
        assert seconds(together, point) == pytest.approx(simulated_alone(alone, point), abs=1e-5)
        assert row.summary is not None
        assert row.summary.simulated
    made = keys(together, points, stored=False)
    assert len(made) == len(set(made)) == found.made.requests == len(requested)
    assert found.needed.requests == len(made) + len(keys(together, points, stored=True))


@FEW
@given(seed=st.integers(0, 10**6), fails=st.sampled_from((0.02, 0.1)))
def test_a_failing_request_fails_the_same_problems_as_in_separate_runs(
    a_config: Configs,
    a_seen_world: Worlds,
    swept: Swept,
    questions: Questions,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    fails: float,
) -> None:
    points = plan(a_config(), ["draft", "rsd", "router"], ["0.2,0.5,0.8"])
    together, alone = tmp_path_factory.mktemp("together"), tmp_path_factory.mktemp("alone")
    swept(together, points, a_seen_world(seed, fails), questions(5))
    swept(alone, points, a_seen_world(seed, fails), questions(5), alone=True)
    for point in points:
        assert results(together, point) == results(alone, point)


@pytest.mark.parametrize("run_type", ["draft", "router", "rsd", "oracle"])
def test_a_problem_that_waits_for_nobody_takes_the_sum_of_its_requests(
    a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path, run_type: RunType
) -> None:
    [point] = plan(a_config(run_type=run_type), [run_type], [])
    swept(tmp_path, [point], a_seen_world(3), questions(6))
    for result in read_records(tmp_path / point.name / "results.jsonl", Result):
        alone: Solution = timed_alone(result.solution, point.config)
        assert result.solution.seconds == pytest.approx(alone.seconds, abs=1e-5)
        assert result.solution.seconds > 0.1 * len(result.solution.steps)


@FEW
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_a_sweep_that_was_killed_goes_on_without_paying_twice(
    a_config: Configs,
    a_seen_world: Worlds,
    swept: Swept,
    questions: Questions,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    cuts: list[float],
) -> None:
    """Each point's log is cut at any place. The answers that are left are known, and not requested again."""
    points, whole = plan(a_config(), ["router"], ["0.2,0.5,0.8"]), tmp_path_factory.mktemp("whole")
    before = swept(whole, points, a_seen_world(seed), questions(5))
    killed = tmp_path_factory.mktemp("killed") / "sweep"
    shutil.copytree(whole, killed)
    for point, cut in zip(points, cuts, strict=True):
        log = killed / point.name / "events.jsonl"
        first = log.read_bytes().index(b"\n") + 1
        os.truncate(log, first + int(cut * (log.stat().st_size - first)))
        (killed / point.name / "summary.json").unlink()
    left, requested = set(keys(killed, points)), list[Request]()
    after = swept(killed, points, a_seen_world(seed, requested=requested.append), questions(5))
    assert not {key_of(request, ()) for request in requested} & left
    for point in points:
        assert results(killed, point) == results(whole, point)
        assert seconds(killed, point) == seconds(whole, point)
    assert (after.needed, after.made) == (before.needed, before.made)


def test_points_that_come_later_ask_only_what_is_not_known(
    a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path
) -> None:
    few, more = plan(a_config(), ["router"], ["0:1:0.5"]), plan(a_config(), ["draft", "router"], ["0:1:0.25"])
    first = swept(tmp_path, few, a_seen_world(1), questions(5))
    requested: list[Request] = []
    known = set(keys(tmp_path, few))
    then = swept(tmp_path, more, a_seen_world(1, requested=requested.append), questions(5))
    assert then.made.requests == first.made.requests + len(requested)
    assert not {key_of(request, ()) for request in requested} & known
    again: list[Request] = []
    assert swept(tmp_path, more, a_seen_world(1, requested=again.append), questions(5)) == then
    assert again == []


def test_problems_that_failed_are_solved_again_with_the_answers_that_are_there(
    a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path
) -> None:
    points = plan(a_config(), ["rsd"], ["0.2,0.8"])
    failed = swept(tmp_path / "again", points, a_seen_world(5, fails=0.15), questions(6))
    assert sum(row.summary.failed for row in failed.points if row.summary) > 0
    requested: list[Request] = []
    up = a_seen_world(5, requested=requested.append)
    again = swept(tmp_path / "again", points, up, questions(6), retry_failed=True)
    whole = swept(tmp_path / "whole", points, a_seen_world(5), questions(6))
    for point in points:
        assert results(tmp_path / "again", point) == results(tmp_path / "whole", point)
        assert seconds(tmp_path / "again", point) == seconds(tmp_path / "whole", point)
    assert again.made == whole.made
    assert len(requested) == again.made.requests - failed.made.requests


def test_a_folder_that_cannot_be_written_stops_the_sweep_with_its_name(
    a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path
) -> None:
    points = plan(a_config(), ["router"], ["0.2,0.5,0.8"])
    where = tmp_path / "router-0.5"
    where.mkdir()
    (where / "events.jsonl").touch()
    (where / "results.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=f"cannot write the run folder {where}: No space left on device"):
        swept(tmp_path, points, a_seen_world(1), questions(5))


def test_a_signal_ends_all_points_keeps_what_is_done_and_the_sweep_goes_on(
    a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path
) -> None:
    points = plan(a_config(limits={"problems": 2}), ["router"], ["0.2,0.8"])
    requested: list[Request] = []

    def at_the_twentieth(request: Request) -> None:
        requested.append(request)
        if len(requested) == 20:
            os.kill(os.getpid(), signal.SIGINT)

    found = swept(tmp_path, points, a_seen_world(2, requested=at_the_twentieth), questions(12))
    summaries = [row.summary for row in found.points if row.summary is not None]
    assert found.interrupted
    assert [one.interrupted and one.simulated for one in summaries] == [True, True]
    assert 0 < sum(one.problems for one in summaries) < 24
    known = set(keys(tmp_path, points))
    then = swept(tmp_path, points, a_seen_world(2, requested=requested.append), questions(12))
    assert [row.summary.problems for row in then.points if row.summary] == [12, 12]
    assert not then.interrupted
    assert not {key_of(request, ()) for request in requested[found.made.requests + 4 :]} & known


def test_a_measured_point_is_a_run_of_its_own(
    a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path
) -> None:
    points = plan(a_config(), ["router"], ["0.2,0.8"])
    found = swept(tmp_path, points, a_seen_world(2), questions(4), alone=True)
    assert found.measured
    assert found.made == found.needed
    for point, row in zip(points, found.points, strict=True):
        stored = msgspec.json.decode(of_document((tmp_path / point.name / "summary.json").read_bytes()), type=Summary)
        assert row.summary == stored
        assert not stored.simulated
        assert not Run.open(tmp_path / point.name).is_shared


def test_no_more_problems_are_in_all_rings_than_are_let_in_and_the_points_take_turns(
    a_config: Configs, a_seen_world: Worlds, swept: Swept, questions: Questions, tmp_path: Path
) -> None:
    points = plan(a_config(limits={"problems": 3}), ["router"], ["0.2,0.5,0.8"])
    swept(tmp_path, points, a_seen_world(4), questions(6))
    starts = sorted(
        (event.wall, int(event.problem or 0))
        for point in points
        for event in Run.open(tmp_path / point.name).events()
        if event.kind == "start_problem"
    )
    assert [problem for _, problem in starts][:3] == [0, 0, 0]
    ended = {
        (point.name, problem.key): (problem.start.wall, problem.ended.wall)
        for point in points
        for problem in Run.open(tmp_path / point.name).problems()
        if problem.ended
    }
    for start, _ in ended.values():
        assert sum(begun <= start < end for begun, end in ended.values()) <= 3
