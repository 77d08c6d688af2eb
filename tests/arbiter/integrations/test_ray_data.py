"""``Solver`` in a pipeline of Ray Data, on a real Ray of this machine (``just test-ray``)."""

import os
import subprocess
import sys
from collections.abc import Generator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from arbiter.config.config import Config, parse
from benchmarks.child_environment import child_environment

if not all(map(find_spec, ("ray", "pandas"))):  # without an import: Ray reads its variables then
    pytest.skip("needs the extra ray", allow_module_level=True)
pytestmark = [pytest.mark.ray, pytest.mark.nightly, pytest.mark.filterwarnings("ignore")]  # the warnings are Ray's own

ROOT = Path(__file__).parents[3]
ON_THIS_MACHINE_ONLY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # otherwise Ray replaces 127.0.0.1 by the address of the machine
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
}


@pytest.fixture(scope="module")
def ray() -> Generator[Any]:
    """A Ray of one node with two processors, which is ended."""
    before = dict(os.environ)
    os.environ.update(child_environment() | ON_THIS_MACHINE_ONLY)
    ray: Any = import_module("ray")
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def config() -> Generator[Config]:
    """Models behind a server that writes five steps to each question, the last one with the answer 42."""
    command = [sys.executable, ROOT / "benchmarks" / "fixed_server.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        table = {"backend": "openai", "url": url, "model": "fixed", "prompt": "qwen2.5-math", "api_key_env": ""}
        models = {"draft": table, "target": table, "prm": {**table, "prompt": "plain"}}
        yield parse({"models": models, "run_type": "rsd"}, "test")
        process.kill()


def test_a_pipeline_of_two_actors_answers_every_row_once(ray: Any, config: Config, tmp_path: Path) -> None:
    from arbiter.integrations.ray import Solver

    rows = [{"number": number, "question": f"What is {number} more than nothing?"} for number in range(40)]
    rows[7]["question"] = ""
    solved = ray.data.from_items(rows, override_num_blocks=4).map_batches(
        Solver,
        fn_constructor_kwargs={"config": config, "seed": 1},
        batch_format="pyarrow",
        batch_size=5,
        concurrency=2,
    )
    solved.write_parquet(str(tmp_path / "solved"))
    found = ray.data.read_parquet(str(tmp_path / "solved")).take_all()
    assert sorted(row["number"] for row in found) == list(range(40))
    [empty] = [row for row in found if row["question"] == ""]
    assert (empty["arbiter_finish_reason"], empty["arbiter_error"]) == ("failed", "the question is empty")
    others = [row for row in found if row["question"]]
    assert {(row["arbiter_answer"], row["arbiter_error"], len(row["arbiter_steps"])) for row in others} == {
        ("42", None, 5)
    }
    assert {step["author"] for row in others for step in row["arbiter_steps"]} == {"draft"}
    assert all(step["draft_score"] > 0.8 for row in others for step in row["arbiter_steps"])


def test_a_wrong_argument_ends_the_pipeline_with_its_reason(ray: Any, config: Config) -> None:
    from arbiter.integrations.ray import Solver

    pipeline = ray.data.from_items([{"question": "What?"}]).map_batches(
        Solver, fn_constructor_kwargs={"config": config, "max_steps": 0}, batch_format="pyarrow", concurrency=1
    )
    with pytest.raises(Exception, match="max_steps must be 1 or more"):
        pipeline.take_all()


def test_a_batch_of_another_format_ends_the_pipeline_with_the_way_out(ray: Any, config: Config) -> None:
    from arbiter.integrations.ray import Solver

    pipeline = ray.data.from_items([{"question": "What?"}]).map_batches(
        Solver, fn_constructor_kwargs={"config": config}, concurrency=1
    )
    with pytest.raises(Exception, match='call map_batches with batch_format="pyarrow"'):
        pipeline.take_all()
