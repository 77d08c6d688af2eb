"""What workers refuse, and what readers of their runs say."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.cli.worker_options import WorkerOptions, refuse_workers
from arbiter.config.config import load_config
from arbiter.distributed import ray_library
from arbiter.distributed.ray_actors import Hello
from arbiter.distributed.ray_solver import RayPlace, RaySolver, check_hello, server_limits
from arbiter.distributed.shared_limits import ServerLimit
from arbiter.log.segments import create_segment, segments_of
from arbiter.protocols.errors import ConfigError
from arbiter.runs.file_checks import check_files
from arbiter.view.index_building import IndexBuilder
from arbiter.view.row_index import RowIndex
from tests.arbiter.distributed.scripted_cluster import ScriptedCluster, a_config, solved, worker_segments

SERVED = {"backend": "http", "model": "m", "prompt": "{question}", "url": "http://here:1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0.2}, r"budget = 0\.2 moves one threshold over all steps"),
        ({"limits": {"problems": 2}}, r"limits\.problems is 2, and 3 workers need one problem each"),
    ],
)
def test_what_workers_cannot_share_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RaySolver(RayPlace("local", 3)).check(load_config("pocket", changes))


def test_a_server_with_fewer_requests_than_workers_is_refused() -> None:
    config = a_config(models={"draft": {**SERVED, "in_flight": 2}, "target": SERVED, "prm": SERVED})
    assert server_limits(config)["draft"] == ServerLimit(2, adaptive=True)
    with pytest.raises(ConfigError, match=r"models\.draft\.in_flight is 2, and 3 workers share it"):
        RaySolver(RayPlace("local", 3)).check(config)


def test_models_in_process_have_no_shared_limit() -> None:
    assert server_limits(a_config()) == {}


def test_a_configuration_and_the_options_choose_the_workers() -> None:
    config = a_config(ray={"workers": 2})
    assert isinstance(WorkerOptions().solver(config), RaySolver)
    assert WorkerOptions(workers=0).solver(config) is None
    assert WorkerOptions().solver(a_config()) is None
    with pytest.raises(ConfigError, match="--ray auto needs the number of workers"):
        WorkerOptions(ray="auto").solver(a_config())
    with pytest.raises(ConfigError, match="--workers -1"):
        WorkerOptions(workers=-1).solver(config)


def test_a_sweep_refuses_workers() -> None:
    refuse_workers(WorkerOptions())
    with pytest.raises(ConfigError, match="a sweep cannot run on workers"):
        refuse_workers(WorkerOptions(workers=2))


def test_a_worker_with_other_versions_is_refused() -> None:
    here = {"Arbiter": "1", "Python": "3.11.7", "Ray": "2.60.0"}
    check_hello("w0", Hello("host", 1, here, sees_log=True), here)
    with pytest.raises(ConfigError, match=r"the worker w0 on host has Arbiter 2 \(here 1\): install the same versions"):
        check_hello("w0", Hello("host", 1, {**here, "Arbiter": "2"}, sees_log=True), here)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_message_names_the_extra() -> None:
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[ray\]'"):
        ray_library.ray_module()


def test_a_worker_that_starts_again_has_a_new_segment(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    names = [create_segment(log, session, "w0").name for session in (0, 0, 1)]
    assert names == ["0000-w0-0.jsonl", "0000-w0-1.jsonl", "0001-w0-0.jsonl"]
    (tmp_path / "events" / "notes.jsonl").touch()
    assert [segment.name for segment in segments_of(log)] == names


def test_a_check_of_the_files_and_the_viewer_find_damage_in_a_segment(tmp_path: Path) -> None:
    anyio.run(solved, tmp_path, a_config(), ScriptedCluster({}))
    checked = {file.name: file for file in check_files(tmp_path)}
    segment = worker_segments(tmp_path)[0]
    assert checked[f"events/{segment.name}"].error is None
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([lines[0].replace(b"w", b"v", 1), *lines[1:]]))
    damaged = next(file for file in check_files(tmp_path) if file.name == f"events/{segment.name}")
    assert damaged.error is not None
    assert "line 1" in damaged.error
    index = RowIndex(tmp_path / "index")
    try:
        builder = IndexBuilder(tmp_path / "events.jsonl", index)
        assert not builder.advance()
    finally:
        index.close()
    assert builder.error is not None
    assert segment.name in builder.error
