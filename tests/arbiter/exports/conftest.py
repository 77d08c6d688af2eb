"""Fixtures: recorded runs of scripted models that answer, fail, hang, and write hostile markup."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.exports.html import write_page
from arbiter.log.run import Run
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run
from benchmarks.silent_watcher import SilentWatcher
from tests.browser import DESKTOP, Window

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

HOUR = 3600.0

Record = Callable[..., Run]
Look = Callable[..., None]


def write(request: GenerationRequest) -> Generation:
    """Two steps, the second with the question as the answer; the problem ``broken`` fails at the second."""
    if request.step == 0:
        return Generation(f"First, {request.transcript.question}", "separator", Usage(5, 4))
    if request.problem == "broken":
        raise BackendError("the model fell over")
    return Generation(f"\\boxed{{{request.transcript.question}}}", "end", Usage(9, 2))


def seconds(request: GenerationRequest | ScoreRequest) -> float:
    return HOUR if request.problem == "stuck" and request.step == 1 else 0.0


def models() -> Models:
    """The router escalates only the draft's first step of problem 1."""
    return Models(
        draft=ModelHandle(ScriptedGenerator(write, seconds)),
        target=ModelHandle(ScriptedGenerator(write, seconds)),
        scorers={
            "prm": ModelHandle(ScriptedScorer(lambda request: 0.9 if request.author == "target" else 0.1)),
            "router": ModelHandle(
                ScriptedScorer(lambda request: 0.75 if (request.problem, request.step) == ("1", 0) else 0.25)
            ),
        },
    )


def problems(count: int, *names: str) -> list[Problem]:
    """Numbered problems, the last of which is answered wrong, and problems with the given names."""
    wrong = count - 1
    numbered = [Problem(str(n), str(n), "something else" if n == wrong else str(n)) for n in range(count)]
    return [*numbered, *(Problem(name, f"the {name} one", "0") for name in names)]


@pytest.fixture(scope="session")
def record(a_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Record a run of scripted models."""

    def build(given: list[Problem], **keys: Any) -> Run:
        config, out = a_config(**keys), tmp_path_factory.mktemp("recorded") / "run"

        async def solve() -> None:
            with anyio.fail_after(60):
                async with open_run(config, given, out) as folder:
                    await run_problems(config, given, models(), folder, SilentWatcher())

        anyio.run(solve)
        return Run.open(out)

    return build


@pytest.fixture(scope="session")
def plain_run(record: Record) -> Run:
    """Six problems, one of them wrong, one with an escalated step."""
    return record(problems(6))


@pytest.fixture(scope="session")
def troubled_run(record: Record) -> Run:
    """Four problems that are answered, one whose model fails, and one that ends by its deadline."""
    return record(problems(4, "broken", "stuck"), limits={"deadline": 2.0})


@pytest.fixture
def look_at(window: Window) -> Look:
    """Open a page and call a function with it. It writes nothing to the console, and loads only its own parts."""

    def show(
        file: Path,
        action: Callable[[Page], None],
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        address: str = "",
    ) -> None:
        visit = window.visit(file.as_uri() + address, action, size, scheme)
        assert visit.console == []
        files = {url.partition("#")[0] for url in visit.requested}
        assert files - {part.as_uri() for part in file.parent.glob("part-*.js")} == {file.as_uri()}

    return show


@pytest.fixture
def look(look_at: Look, tmp_path: Path) -> Look:
    """Open the page of a run and call a function with it."""

    def show(
        run: Run,
        action: Callable[[Page], None],
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        address: str = "",
    ) -> None:
        write_page(run, tmp_path / "page.html")
        look_at(tmp_path / "page.html", action, size, scheme, address)

    return show
