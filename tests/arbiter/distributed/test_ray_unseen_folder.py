"""Workers on a real Ray cluster, of which one node does not see the run folder."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.config.config import Config, load_config
from arbiter.distributed.ray_solver import RayPlace, RaySolver
from arbiter.log.segments import segments_of
from arbiter.runs.bench import bench
from benchmarks.hidden_node import can_hide, hidden_node
from benchmarks.silent_watcher import SilentWatcher
from tests.arbiter.distributed.accidents import Accidents
from tests.arbiter.distributed.scripted_cluster import logged, stored

ray: Any = pytest.importorskip("ray")
utils: Any = pytest.importorskip("ray.cluster_utils")

pytestmark = [
    pytest.mark.ray,
    pytest.mark.nightly,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not can_hide(), reason="this process may not mount"),
]

PROBLEMS = 24


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the second node does not see."""
    return tmp_path_factory.mktemp("unseen")


@pytest.fixture(scope="module")
def address(unseen: Path) -> Iterator[str]:
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray waits for the machine's own address
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    cluster = utils.Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args={"num_cpus": 2})
    with ExitStack() as ending:
        ending.callback(cluster.shutdown)
        ending.enter_context(hidden_node(cluster, unseen, 2))
        ray.init(address=cluster.address, namespace="arbiter", log_to_driver=False)
        ending.callback(ray.shutdown)
        yield cluster.address


def a_config() -> Config:
    return load_config("pocket", {"data": {"limit": PROBLEMS}, "limits": {"problems": 6}, "cpu_threads": 1})


def test_workers_that_do_not_see_the_run_folder_send_their_log(address: str, unseen: Path, tmp_path: Path) -> None:
    folder = unseen / "run"
    anyio.run(partial(bench, a_config(), tmp_path, SilentWatcher()))

    def kill_one_that_sends(accidents: Accidents) -> None:
        sending = next(line for line in accidents.lines if "does not see the run folder" in line)
        os.kill(accidents.processes[sending.split()[2]], signal.SIGKILL)

    watcher, solver = Accidents({2: kill_one_that_sends}), RaySolver(RayPlace(address, 3, num_cpus=0.5, lease=10.0))
    summary, _ = anyio.run(partial(bench, a_config(), folder, watcher, solver=solver))
    assert (summary.problems, summary.failed) == (PROBLEMS, 0)
    assert stored(folder) == logged(folder) == stored(tmp_path)
    names = [segment.name for segment in segments_of(folder / "events.jsonl")]
    assert {"0000-w0-0.jsonl", "0000-w1-0.jsonl", "0000-w2-0.jsonl"} <= {*names}
