"""The gateway ``smg`` in front of replicas, started as ``arbiter up`` starts it. The replicas are scripted."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import anyio
import pytest

from arbiter.backends.served.served_models import open_transport
from arbiter.backends.served.transport import NotServedError
from arbiter.config.model_tables import ServedTable
from arbiter.protocols.errors import BackendError
from arbiter.servers.engines import router
from arbiter.servers.interpreters import Interpreter
from tests.servers.asking import Model, asked
from tests.servers.starting import Launch, Running, free_ports, started

pytestmark = [pytest.mark.servers, pytest.mark.asyncio]
REPLICA = Path(__file__).parent / "replica.py"
_INSTALLED = "import importlib.util as u, sys; sys.exit(u.find_spec('smg') is None)"


@pytest.fixture(scope="module")
def interpreter() -> str:
    """Return the interpreter that has ``smg``: that of sglang's environment, or of ``ARBITER_SMG_PYTHON``."""
    for variable in ("ARBITER_SMG_PYTHON", "ARBITER_SGLANG_PYTHON"):
        python = os.environ.get(variable, ".sglang/bin/python")
        if Path(python).is_file() and not subprocess.run([python, "-c", _INSTALLED], check=False).returncode:
            return python
    pytest.skip("smg is not installed (ARBITER_SMG_PYTHON, .sglang): run just sglang-env")


class Replicas:
    """Two replicas, and the gateway in front of them."""

    def __init__(self, first: Running, second: Running, gateway: Launch) -> None:
        self.first, self.second, self.gateway = first, second, gateway

    @property
    def model(self) -> Model:
        table = {"url": self.gateway.url, "model": "m", "prompt": "{question}", "api_key_env": "", "retries": 8}
        return Model({"backend": "http", "engine": "sglang", "timeout": 60, **table})


@pytest.fixture
def replicas(interpreter: str, tmp_path: Path) -> Generator[Replicas]:
    first, second, port, metrics = free_ports(4)
    workers = [
        Launch(f"replica {number}", [sys.executable, str(REPLICA), str(number)], {}, number, "/health", tmp_path / "w")
        for number in (first, second)
    ]
    command, environment = router(
        Interpreter(interpreter), [worker.url for worker in workers], "127.0.0.1", port, metrics
    )
    gateway = Launch("smg", command, environment, port, "/readiness", tmp_path / "smg")
    with started(workers) as running, started([gateway]):
        yield Replicas(running[0], running[1], gateway)


async def test_all_requests_of_a_problem_reach_one_replica_and_each_replica_gets_problems(replicas: Replicas) -> None:
    async with replicas.model.writing() as generator:
        reached = {
            problem: {(await generator.generate(asked("1+1?", problem=problem))).text for _ in range(4)}
            for problem in "abcdefgh"
        }
    assert all(len(names) == 1 for names in reached.values())
    assert {name for names in reached.values() for name in names} == {
        str(replicas.first.launch.port),
        str(replicas.second.launch.port),
    }


async def test_a_killed_replica_loses_no_request(replicas: Replicas) -> None:
    async with replicas.model.writing() as generator:
        for problem in "abcd":
            await generator.generate(asked("1+1?", problem=problem))
        replicas.first.kill()
        with anyio.fail_after(120):
            found = {(await generator.generate(asked("1+1?", problem=problem))).text for problem in "abcd"}
    assert found == {str(replicas.second.launch.port)}


async def test_what_smg_does_not_forward_is_known(replicas: Replicas) -> None:
    """Sessions cannot be closed through it, it has no page about the server, and it refuses prompts of token ids."""
    table = replicas.model.seen("target", retries=0)
    assert isinstance(table, ServedTable)
    async with open_transport("target", table) as transport:
        with pytest.raises(NotServedError):
            await transport.post("/close_session", {"session_id": "s"}, "")
        with pytest.raises(NotServedError):
            await transport.get("/server_info")
        with pytest.raises(BackendError, match="answered 400"):
            await transport.post("/v1/completions", {"model": "m", "prompt": [1, 2], "max_tokens": 1}, "p")
        with contextlib.suppress(BackendError):
            await transport.post("/classify", {"model": "m", "text": "x"}, "")
            pytest.fail("smg forwards /classify now: see _FORWARDED in arbiter/servers/unsupported.py")
