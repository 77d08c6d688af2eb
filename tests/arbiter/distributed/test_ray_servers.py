"""``arbiter up --ray`` on a real Ray cluster of two nodes on this machine, with a small server as the engine."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.config.config import load_config
from arbiter.distributed.ray_solver import RayPlace, RaySolver
from arbiter.log.segments import segments_of
from arbiter.runs.bench import bench
from tests.arbiter.distributed.accidents import Accidents
from tests.arbiter.distributed.local_cluster import two_nodes

ray: Any = pytest.importorskip("ray")

pytestmark = [pytest.mark.ray, pytest.mark.nightly, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[3]
ENGINE = f"""#!{sys.executable}
import sys, threading
if sys.argv[1] == "-c":  # the call that checks which packages it has
    print("True", "True", "False")
    sys.exit()
if "--fails" in sys.argv:
    sys.exit("no weights to be found")
sys.path.insert(0, {str(ROOT)!r})
from tests.completions_server import completions_server
with completions_server(lambda _: "\\\\boxed{{7}}", int(sys.argv[sys.argv.index("--port") + 1])):
    threading.Event().wait()
"""
SECRET = "sk-that-must-not-travel"  # noqa: S105 - of a test
LONG = 120  # seconds; no start of a server needs as many


def a_cluster() -> Any:
    """Two nodes, with one and two GPUs."""
    os.environ["KEY_OF_A_TEST"] = SECRET  # on each machine, as the how-to says
    return two_nodes(1, 2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    cluster = a_cluster()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def address(cluster: Any) -> str:
    return cluster.address


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def configured(folder: Path, **models: str) -> dict[str, int]:
    """Write mine.toml with ``models``, whose values are keys of their server tables. Return their ports."""
    engine = folder / "engine"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    ports = {name: free_port() for name in models}
    text = 'run_type = "draft"\ntoken_exact = false\n[data]\nsource = "pocket:1"\nlimit = 4\n'
    for name, keys in models.items():
        # only the server's machine in the cluster answers: it has no address of version 6
        text += f'[models.{name}]\nbackend = "http"\nurl = "http://[::1]:{ports[name]}"\nprompt = "plain"\n'
        text += f'api_key_env = "KEY_OF_A_TEST"\nmodel = "m"\n[models.{name}.server]\npython = "{engine}"\n{keys}\n'
    (folder / "mine.toml").write_text(text)
    return ports


class Command:
    """A running command of ``arbiter``, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, pattern: str) -> str:
        """Read until a line has ``pattern``, and return that line."""
        assert self.process.stderr is not None
        for line in iter(self.process.stderr.readline, ""):
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"no line with {pattern!r} in:\n{''.join(self.lines)}")

    def ended(self, status: int) -> None:
        """Read to the end, and check the exit status."""
        assert self.process.stderr is not None
        self.lines.append(self.process.stderr.read())
        assert self.process.wait(LONG) == status, "".join(self.lines)


@contextmanager
def arbiter(folder: Path, *arguments: str) -> Generator[Command]:
    command = [sys.executable, "-m", "arbiter", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        late = threading.Timer(2 * LONG, process.kill)
        late.start()
        try:
            yield Command(process)
        finally:
            late.cancel()
            process.terminate()


def up(folder: Path, address: str) -> AbstractContextManager[Command]:
    return arbiter(folder, "up", "mine.toml", "--ray", address, "--logs", "logs")


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def files_with_the_key(*folders: Path) -> list[Path]:
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [path for path in files if SECRET.encode() in path.read_bytes()]


def test_servers_on_a_cluster_are_found_by_a_run_come_back_and_stop(cluster: Any, tmp_path: Path) -> None:
    address = cluster.address
    ports = configured(tmp_path, draft="gpus = [5]\n", target="gpus = [0, 1]\ntensor_parallel = 2\n")
    with up(tmp_path, address) as running:
        said = running.until("all servers are ready")
        assert all(f"{name} at 127.0.0.1:{port}" in said for name, port in ports.items())
        logs = {name: (tmp_path / "logs" / f"{name}.log").read_text() for name in ports}
        assert logs["draft"].startswith("$ CUDA_VISIBLE_DEVICES=0 ")  # the number on its machine
        assert logs["target"].startswith("$ CUDA_VISIBLE_DEVICES=0,1 ")

        with up(tmp_path, address) as second:
            second.ended(2)
        assert f"has a server of m on port {ports['draft']} already" in "".join(second.lines)

        watcher = Accidents({})
        config = load_config(str(tmp_path / "mine.toml"))
        solver = RaySolver(RayPlace(address, 2, num_cpus=0.5))
        summary, _ = anyio.run(partial(bench, config, tmp_path / "run", watcher, solver=solver))
        assert (summary.problems, summary.failed) == (4, 0)
        assert f"models.draft is at 127.0.0.1:{ports['draft']}" in watcher.lines

        [process] = re.findall(r"draft on .* \(process (\d+)\)", "".join(running.lines))
        os.kill(int(process), signal.SIGKILL)
        running.until("the process of draft in the cluster died; Ray starts it again")
        running.until("draft is ready at")
        assert answers(ports["draft"])
        running.process.send_signal(signal.SIGTERM)
        running.ended(128 + signal.SIGTERM)
    assert "all servers are stopped" in running.lines[-1]
    assert not any(answers(port) for port in ports.values())
    assert files_with_the_key(tmp_path, Path(cluster.head_node.get_logs_dir_path())) == []


@pytest.mark.parametrize(
    ("keys", "messages"),
    [
        ("gpus = [0, 1, 2]\ntensor_parallel = 3\n", ["need 3 GPUs (draft: 3)", "has 3 (127.0.0.1: "]),
        ('device = "cpu"\nargs = ["--fails"]\n', ["draft ended 5 times before it was ready", "no weights to be found"]),
    ],
)
def test_what_cannot_start_on_a_cluster_is_told(address: str, tmp_path: Path, keys: str, messages: list[str]) -> None:
    ports = configured(tmp_path, draft=keys)
    with up(tmp_path, address) as running:
        running.ended(2)
    assert all(message in "".join(running.lines) for message in messages), running.lines
    assert not answers(ports["draft"])


def test_an_address_in_use_on_the_machine_of_the_server_is_told(address: str, tmp_path: Path) -> None:
    ports = configured(tmp_path, draft='device = "cpu"\n')
    with socket.create_server(("127.0.0.1", ports["draft"])), up(tmp_path, address) as running:
        running.ended(2)
    assert f"draft cannot listen on 127.0.0.1:{ports['draft']}" in "".join(running.lines)


def test_a_cluster_that_goes_away_ends_servers_and_runs(tmp_path: Path) -> None:
    """Ray itself may end a process whose cluster is gone, before the process can say why."""
    ports = configured(tmp_path, draft='device = "cpu"\n')
    cluster = a_cluster()
    with up(tmp_path, cluster.address) as running:
        running.until("all servers are ready")
        options = ["--ray", cluster.address, "--workers", "2", "--concurrency", "2", "--limit", "2000", "--out", "run"]
        with arbiter(tmp_path, "bench", "mine.toml", *options) as benching:
            results = tmp_path / "run" / "results.jsonl"
            while not results.exists() or results.stat().st_size < 1000:
                assert benching.process.poll() is None
                time.sleep(0.1)
            assert segments_of(tmp_path / "run" / "events.jsonl"), "a relative folder is that of the command"
            cluster.shutdown()
            benching.ended(1)
        running.ended(1)
    assert "does not see the run folder" not in "".join(benching.lines)
    assert not any("Traceback" in line for line in (*benching.lines, *running.lines))
    assert not answers(ports["draft"])
