"""Runs on a real Ray cluster of two nodes on this machine: processes are killed and stopped while it runs."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.config.config import Config, load_config
from arbiter.distributed.ray_actors import Hello, RayWorker
from arbiter.distributed.ray_solver import RayPlace, RaySolver
from arbiter.log.run import Run
from arbiter.log.segments import segments_of
from arbiter.protocols.errors import ConfigError
from arbiter.runs.bench import bench
from arbiter.runs.results import Summary
from benchmarks.silent_watcher import SilentWatcher
from tests.arbiter.distributed.accidents import Accidents
from tests.arbiter.distributed.local_cluster import two_nodes
from tests.arbiter.distributed.scripted_cluster import logged, stored

ray: Any = pytest.importorskip("ray")

pytestmark = [pytest.mark.ray, pytest.mark.nightly, pytest.mark.filterwarnings("ignore")]

PROBLEMS = 24


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    cluster = two_nodes()
    ray.init(address=cluster.address, namespace="arbiter", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def address(cluster: Any) -> str:
    return cluster.address


def a_config() -> Config:
    return load_config("pocket", {"data": {"limit": PROBLEMS}, "limits": {"problems": 6}, "cpu_threads": 1})


def run(folder: Path, watcher: SilentWatcher, solver: RaySolver | None) -> Summary:
    summary, _ = anyio.run(partial(bench, a_config(), folder, watcher, solver=solver))
    return summary


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("alone")
    run(folder, SilentWatcher(), None)
    return stored(folder)


def workers(address: str, count: int = 3) -> RaySolver:
    return RaySolver(RayPlace(address, count, num_cpus=0.5, lease=10.0))


def test_three_workers_have_the_transcripts_of_one_process(
    address: str, alone: dict[str, object], tmp_path: Path
) -> None:
    summary = run(tmp_path, SilentWatcher(), workers(address))
    assert (summary.problems, summary.failed, summary.interrupted) == (PROBLEMS, 0, False)
    assert summary.cpu_seconds is not None
    assert stored(tmp_path) == logged(tmp_path) == alone


def kill_ledger(run_folder: Path, _: Accidents) -> None:
    started = next(Run.open(run_folder).events())
    ray.kill(ray.get_actor(f"ledger-{started.run}-0", namespace="arbiter"), no_restart=False)


def test_a_run_survives_a_killed_worker_a_stopped_worker_and_a_killed_ledger(
    address: str, alone: dict[str, object], tmp_path: Path
) -> None:
    watcher = Accidents(
        {
            2: lambda accidents: os.kill(accidents.processes["w0"], signal.SIGKILL),
            4: partial(kill_ledger, tmp_path),
            6: lambda accidents: os.kill(accidents.processes["w1"], signal.SIGSTOP),
        }
    )
    try:
        summary = run(tmp_path, watcher, workers(address))
    finally:
        os.kill(watcher.processes["w1"], signal.SIGKILL)
    assert (summary.problems, summary.failed) == (PROBLEMS, 0)
    assert stored(tmp_path) == logged(tmp_path) == alone
    assert any("the worker w0 died" in line for line in watcher.lines)
    names = [segment.name for segment in segments_of(tmp_path / "events.jsonl")]
    assert {"0000-w0-1.jsonl", "0000-ledger-1.jsonl"} <= {*names}


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_run_survives_a_machine_that_is_killed_whole(cluster: Any, alone: dict[str, object], tmp_path: Path) -> None:
    """A third node goes down with all its processes at once, as if its power failed."""
    machine, killed = cluster.add_node(num_cpus=2), list[int]()

    def kill(accidents: Accidents) -> None:
        [raylet] = machine.all_processes["raylet"]
        killed.extend([raylet.process.pid, *children(raylet.process.pid)])
        assert {*killed} & {*accidents.processes.values()}, "no worker was on this machine"
        for process in killed:
            os.kill(process, signal.SIGKILL)

    watcher = Accidents({3: kill})
    summary = run(tmp_path, watcher, workers(cluster.address))
    cluster.remove_node(machine, allow_graceful=False)
    assert killed
    assert (summary.problems, summary.failed) == (PROBLEMS, 0)
    assert stored(tmp_path) == logged(tmp_path) == alone
    assert any("died, and is started again" in line for line in watcher.lines)


def test_a_worker_says_its_versions_and_whether_it_sees_the_log_of_the_run(address: str, tmp_path: Path) -> None:
    run(tmp_path, SilentWatcher(), workers(address))
    log, name = tmp_path / "events.jsonl", next(Run.open(tmp_path).events()).run
    worker = RayWorker("w0", msgspec.json.encode(a_config()), None, 1)

    def hello(path: Path, run_name: str) -> Hello:
        return msgspec.json.decode(anyio.run(worker.hello, str(path), run_name), type=Hello)

    assert hello(log, name).sees_log
    assert hello(log, name).versions["Ray"] == ray.__version__
    assert not hello(log, "another run").sees_log
    assert not hello(tmp_path / "elsewhere" / "events.jsonl", name).sees_log


def test_what_cannot_run_on_workers_is_refused_before_anything_starts(address: str) -> None:
    with pytest.raises(ConfigError, match=r"budget = 0\.2 moves one threshold"):
        workers(address).check(load_config("pocket", {"budget": 0.2}))
    with pytest.raises(ConfigError, match=r"limits\.problems is 2, and 3 workers"):
        workers(address).check(load_config("pocket", {"limits": {"problems": 2}}))
