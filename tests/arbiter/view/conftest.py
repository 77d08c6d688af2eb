"""Fixtures: runs of scripted models in a folder, and a viewer of it on a socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.gateway.listening_socket import bound
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run
from arbiter.view.view_app import Viewer
from arbiter.view.view_server import ViewServer
from benchmarks.silent_watcher import SilentWatcher

TOKEN = "the-token-of-a-test"  # noqa: S105 - of a test
STEPS = 3

Write = Callable[[GenerationRequest], Generation]
Rate = Callable[[ScoreRequest], float]


def write(request: GenerationRequest) -> Generation:
    """Three steps. Draft and target differ in all of them; the draft's answer is wrong in every third problem."""
    question = request.transcript.question
    number = sum(map(ord, request.problem))
    if request.step < STEPS - 1:
        text = f"{request.author} step {request.step}: half of it is \\frac{{1}}{{2}} of {question}"
        return Generation(text, "separator", Usage(20, 7 + request.step))
    if request.problem == "broken":
        raise BackendError("the model fell over")
    answer = 8 if request.author == "draft" and number % 3 == 0 else 7
    return Generation(f"So it is \\boxed{{{answer}}}", "end", Usage(30, 5))


def rate(request: ScoreRequest) -> float:
    """A score that depends on problem and step alone; that of the target is higher."""
    share = (sum(map(ord, request.problem)) * 7 + request.step * 3) % 10 / 10
    return min(1.0, share + 0.25) if request.author == "target" else share


def scripted(write_step: Write = write, rate_step: Rate = rate) -> Models:
    generator, scorer = ScriptedGenerator(write_step), ScriptedScorer(rate_step)
    return Models(
        draft=ModelHandle(generator),
        target=ModelHandle(generator),
        scorers={"prm": ModelHandle(scorer), "router": ModelHandle(scorer), "judge": ModelHandle(scorer)},
    )


def numbered(count: int, *names: str) -> list[Problem]:
    """Numbered problems, and problems with the given ids. The right answer is always 7."""
    return [Problem(name, f"question of {name}", "7") for name in (*map("p{}".format, range(count)), *names)]


Record = Callable[..., Path]


@pytest.fixture(scope="session")
def record(a_config: Callable[..., Config]) -> Record:
    """Record a run of scripted models in the folder ``out``, and return it."""

    def build(
        out: Path, problems: list[Problem], models: Models | None = None, cut: float | None = None, **keys: Any
    ) -> Path:
        config = a_config(**keys)

        async def solve() -> None:
            with anyio.fail_after(60), anyio.move_on_after(cut):
                async with open_run(config, problems, out) as folder:
                    summary = await run_problems(config, problems, models or scripted(), folder, SilentWatcher())
                    await folder.finish(summary)

        anyio.run(solve)
        return out

    return build


class Browsing:
    """A client of a viewer: ``client`` has the token, ``plain`` has none."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.page = f"{address}/?token={TOKEN}"
        self.client = httpx2.Client(base_url=address, headers={"authorization": f"Bearer {TOKEN}"}, timeout=60)
        self.plain = httpx2.Client(base_url=address, timeout=60)

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer to a request that must succeed."""
        answer = self.client.get(f"/api/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def error(self, path: str, status: int, **query: Any) -> dict[str, Any]:
        """Return the error of a request that must be refused with ``status``."""
        answer = self.client.get(f"/api/{path}", params=query)
        assert answer.status_code == status, answer.text
        return answer.json()["error"]

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return the runs by their names."""
        return {run["name"]: run for run in self.get("runs")["runs"]}

    def id(self, name: str) -> str:
        return self.runs()[name]["run"]

    def whole(self, path: str, **query: Any) -> Any:
        """Return the answer once the index of its run is whole."""
        while not (answer := self.get(path, **query))["index"]["complete"]:
            pass
        return answer

    def close(self) -> None:
        self.client.close()
        self.plain.close()


@contextmanager
def serving(folder: Path) -> Generator[Browsing]:
    """Serve a viewer of ``folder`` on a socket, in a thread."""
    viewer, started = Viewer(folder, TOKEN, "arbiter_view_test"), threading.Event()
    server = ViewServer(viewer, started.set)
    with bound("127.0.0.1", 0) as socket:
        thread = threading.Thread(target=lambda: anyio.run(server.serve, [socket]))
        thread.start()
        try:
            assert started.wait(60)
            browsing = Browsing(f"http://127.0.0.1:{socket.getsockname()[1]}")
            try:
                yield browsing
            finally:
                browsing.close()
        finally:
            server.should_exit = True
            thread.join()
            viewer.close()


@pytest.fixture
def view() -> Callable[[Path], Any]:
    """Serve a viewer of a folder: a context manager with a ``Browsing``."""
    return serving


@pytest.fixture(scope="session")
def some_runs(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ``router`` and an ``rsd`` run of the same problems, and an ``oracle`` run with a failed one."""
    folder = tmp_path_factory.mktemp("viewed")
    record(folder / "router", numbered(12), run_type="router", thresholds={"router": 0.5})
    record(folder / "rsd", numbered(12), run_type="rsd", thresholds={"rsd": 0.4})
    record(folder / "oracle", numbered(5, "broken"), run_type="oracle")
    return folder


@pytest.fixture
def viewed(some_runs: Path) -> Generator[Browsing]:
    """A viewer of ``some_runs``."""
    with serving(some_runs) as browsing:
        yield browsing
