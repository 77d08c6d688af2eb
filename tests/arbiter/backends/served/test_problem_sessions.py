"""Sessions of sglang's prefix cache: a name per problem, always closed."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.actors.policies import TargetOnly
from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.opening import open_generator
from arbiter.backends.served.problem_sessions import control_table, with_sessions
from arbiter.backends.served.served_models import open_transport
from arbiter.backends.served.session_ledger import SessionLedger, left_over
from arbiter.backends.served.transport import Transport
from arbiter.backends.wrapped_generator import WrappedGenerator
from arbiter.config.model_tables import ServedTable
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.model_traits import HoldsProblems
from arbiter.protocols.ports import ModelHandle
from arbiter.protocols.records import Transcript
from tests.arbiter.backends.served.conftest import Asked, FakeServer, Reply, Table

KEEPS = {"body": {"enable_session_radix_cache": True, "enable_mixed_chunk": True}}
CLOSE = "/close_session"
KILLED = """
import os, signal, sys
from pathlib import Path
from arbiter.backends.served.session_ledger import SessionLedger
names = SessionLedger(Path(sys.argv[1]), sys.argv[2])
print(names.name(0), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def backend() -> str:
    """Sessions are of the backend ``http``."""
    return "http"


@pytest.fixture
def keeps(server: FakeServer, answer: Callable[..., Reply]) -> FakeServer:
    """A server that keeps sessions and writes a step."""
    server.about = lambda asked: KEEPS if asked.path == "/server_info" else {"status": 404}
    server.replies(lambda asked: {"body": ""} if asked.path == CLOSE else answer())
    return server


@pytest.fixture
def opened(table: Table, tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def opening(**keys: Any) -> AsyncGenerator[Transport]:
        found = table(**keys)
        assert isinstance(found, ServedTable)
        async with (
            open_transport("draft", found) as plain,
            open_transport("draft", control_table(found)) as control,
            with_sessions(found, plain, control, tmp_path) as transport,
        ):
            yield transport

    return opening


def seen(server: FakeServer) -> list[tuple[str, str | None]]:
    """The requests, as the end of their path and the number of their session."""
    return [(asked.path.rpartition("/")[2], number(asked)) for asked in server.asked[1:]]  # without the trial


def number(asked: Asked) -> str | None:
    name = asked.body.get("session_id")
    return name and name.rpartition("-")[2]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def no_folder(tmp_path: Path) -> Path:
    """A file in the place of the folder."""
    tmp_path.rmdir()
    tmp_path.write_text("a file")
    return tmp_path


@pytest.fixture
def left(server: FakeServer, tmp_path: Path) -> str:
    """The name of a session that a killed process left open."""
    command = [sys.executable, "-c", KILLED, str(tmp_path), server.url]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=60)
    return ended.stdout.strip()


async def complete(transport: Transport, problem: str) -> None:
    await transport.post("/v1/completions", {"prompt": "1+1?"}, problem)


async def closed(server: FakeServer, times: int) -> None:
    """Wait until the server has closed ``times`` sessions, besides the trial."""
    while sum(asked.path == CLOSE for asked in server.asked) < times + 1:
        await server.reached()


@pytest.mark.asyncio
async def test_all_requests_of_a_problem_have_one_session_and_its_end_closes_it(
    keeps: FakeServer, opened: Callable[..., Any]
) -> None:
    async with opened() as transport:
        for problem in ("a", "b", "a"):
            await complete(transport, problem)
        transport.release("a")
        await closed(keeps, 1)
        await complete(transport, "b")
    completions = [("completions", "0"), ("completions", "1"), ("completions", "0")]
    assert seen(keeps) == [*completions, (CLOSE[1:], "0"), ("completions", "1"), (CLOSE[1:], "1")]
    names = {asked.body["session_id"] for asked in keeps.asked}
    assert len(names) == 3  # the two, and that of the trial


@pytest.mark.asyncio
async def test_the_name_of_a_closed_session_is_used_again(keeps: FakeServer, opened: Callable[..., Any]) -> None:
    async with opened() as transport:
        for problem in "abc":
            await complete(transport, problem)
            transport.release(problem)
            assert await transport.close()
    assert {name for _, name in seen(keeps)} == {"0"}


@pytest.mark.asyncio
async def test_a_session_is_closed_after_the_requests_that_its_end_gives_up(
    keeps: FakeServer, opened: Callable[..., Any]
) -> None:
    keeps.replies({"body": ""}, {"fault": "silent"}, {"body": ""})
    async with opened() as transport, anyio.create_task_group() as group:
        group.start_soon(complete, transport, "a")
        await keeps.reached(2)
        transport.release("a")
        await asyncio.sleep(0)
        assert seen(keeps) == [("completions", "0")]
        group.cancel_scope.cancel()
    assert seen(keeps) == [("completions", "0"), (CLOSE[1:], "0")]


@pytest.mark.asyncio
async def test_requests_without_a_problem_and_other_paths_have_no_session(
    keeps: FakeServer, opened: Callable[..., Any]
) -> None:
    async with opened() as transport:
        await complete(transport, "")
        await transport.post("/classify", {"text": "x"}, "a")
    assert seen(keeps) == [("completions", None), ("classify", None)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "about",
    [
        {"status": 404},
        {"body": {"enable_session_radix_cache": False}},
        {"body": {"version": "0.5.9"}},
        {"body": "<html>"},
    ],
    ids=["another engine", "off", "too old", "a page"],
)
async def test_a_server_that_keeps_no_sessions_gets_none(
    about: Reply, keeps: FakeServer, opened: Callable[..., Any]
) -> None:
    keeps.about = lambda _: about
    async with opened() as transport:
        await complete(transport, "a")
    assert [asked.body for asked in keeps.asked] == [{"prompt": "1+1?"}]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "keys", [{"server": {"engine": "vllm"}}, pytest.param({"backend": "openai"}, marks=pytest.mark.slow)]
)
async def test_only_a_self_hosted_sglang_is_asked_about_sessions(
    keys: dict[str, Any], keeps: FakeServer, opened: Callable[..., Any]
) -> None:
    async with opened(**keys) as transport:
        await complete(transport, "a")
    assert [asked.body for asked in keeps.asked] == [{"prompt": "1+1?"}]


@pytest.mark.asyncio
async def test_a_router_that_closes_no_sessions_gets_none(
    keeps: FakeServer, opened: Callable[..., Any], answer: Callable[..., Reply], caplog: pytest.LogCaptureFixture
) -> None:
    keeps.replies(lambda asked: {"status": 404} if asked.path == CLOSE else answer())
    async with opened() as transport:
        await complete(transport, "a")
    assert "session_id" not in keeps.asked[-1].body
    assert "it closes none" in caplog.text


@pytest.mark.asyncio
async def test_no_session_is_used_if_its_name_cannot_be_written(
    keeps: FakeServer, opened: Callable[..., Any], no_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as transport:
        await complete(transport, "a")
    assert "session_id" not in keeps.asked[-1].body
    assert f"names cannot be written: [Errno 17] File exists: '{no_folder}'" in caplog.text


@pytest.mark.asyncio
async def test_a_file_names_what_may_be_open_until_all_is_closed(
    keeps: FakeServer, opened: Callable[..., Any], tmp_path: Path
) -> None:
    async with opened() as transport:
        for index in range(65):
            await complete(transport, f"{index}")
        (file,) = files(tmp_path)
        assert json.loads(file.read_bytes())["count"] == 128
        assert list(left_over(tmp_path, keeps.url)) == []  # this process holds its lock
    assert files(tmp_path) == []
    assert len([asked for asked in keeps.asked if asked.path == CLOSE]) == 66


@pytest.mark.asyncio
async def test_a_file_stays_if_a_session_could_not_be_closed(
    keeps: FakeServer, opened: Callable[..., Any], answer: Callable[..., Reply], tmp_path: Path
) -> None:
    refuses = {"status": 400, "body": "not now"}
    async with opened() as transport:
        await complete(transport, "a")
        keeps.replies(refuses)
        transport.release("a")
    assert len(list(left_over(tmp_path, keeps.url))) == 1
    keeps.replies(lambda asked: {"body": ""} if asked.path == CLOSE else answer())
    async with opened():
        assert list(left_over(tmp_path, keeps.url)) == []


@pytest.mark.asyncio
async def test_the_next_start_closes_the_sessions_of_a_killed_process(
    keeps: FakeServer, opened: Callable[..., Any], left: str, tmp_path: Path
) -> None:
    other = SessionLedger(tmp_path, "http://127.0.0.1:1")
    other.close(remove=False)
    async with opened() as transport:
        names = [asked.body["session_id"] for asked in keeps.asked]
        await complete(transport, "a")
    assert left in names
    assert len(names) == 65  # the trial, and all names that were reserved
    assert [path.suffix for path in files(tmp_path)] == [".json"]  # that of another server


@pytest.mark.asyncio
async def test_the_ring_closes_the_session_of_a_problem_however_it_ends(
    keeps: FakeServer, table: Table, answer: Callable[..., Reply], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ends: dict[str, Reply] = {
        "ended": answer(matched_stop=2),
        "failed": {"status": 400, "body": "no"},
        "cancelled": {"fault": "silent"},
    }

    def script(asked: Asked) -> Reply:
        return {"body": ""} if asked.path == CLOSE else ends[asked.body["prompt"].split()[0]]

    keeps.replies(script)
    async with (
        open_generator("target", table("target"), None) as generator,
        open_ring(Models(target=ModelHandle(generator))) as ring,
    ):
        for index, question in enumerate(("ended", "failed")):
            await ring.solve(Task(question, Transcript(f"{question} question"), TargetOnly()))
            await closed(keeps, index + 1)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(ring.solve, Task("c", Transcript("cancelled question"), TargetOnly()))
                while "cancelled" not in json.dumps(keeps.asked[-1].body):
                    await keeps.reached()
                scope.cancel()
        await closed(keeps, 3)
    paths = [path for path, _ in groupby(path for path, _ in seen(keeps))]  # a problem has several steps
    assert paths == ["completions", CLOSE[1:]] * 3


class Holds:
    """Fails as soon as ``others`` more requests wait with it."""

    def __init__(self, others: int) -> None:
        self.released: list[str] = []
        self._missing = others + 1
        self._all = anyio.Event()

    async def generate(self, request: Any) -> Any:
        self._missing -= 1
        if self._missing <= 0:
            self._all.set()
        await self._all.wait()
        raise BackendError(f"no step for {request.problem}")

    def release(self, problem: str) -> None:
        self.released.append(problem)


@pytest.mark.asyncio
async def test_a_problem_is_released_after_its_last_sample_also_through_wrappers() -> None:
    class Wrapped(WrappedGenerator):
        async def generate(self, request: Any) -> Any:
            return await self.inner.generate(request)

    holds = Holds(2)
    wrapped = Wrapped(Wrapped(holds))
    assert isinstance(wrapped, HoldsProblems)
    async with open_ring(Models(target=ModelHandle(wrapped), draft=ModelHandle(wrapped))) as ring:
        async with anyio.create_task_group() as group:
            for sample in range(3):
                group.start_soon(ring.solve, Task("p", Transcript("1+1?"), TargetOnly(), sample=sample))
        assert holds.released == ["p"]
        await ring.solve(Task("p", Transcript("1+1?"), TargetOnly()))
    assert holds.released == ["p", "p"]
