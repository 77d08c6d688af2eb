"""Fixtures: recorded runs of scripted models that answer, fail, hang, and write hostile markup."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
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

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

HOUR = 3600.0
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESKTOP = (1280, 800)

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


class Window:
    """A browser in a separate thread: playwright's event loop would block others in this one."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._playwright, self._browser = self._thread.submit(self._start).result()

    def _start(self) -> tuple[Any, Browser]:
        from playwright.sync_api import sync_playwright  # only those who look at a page need it

        started = sync_playwright().start()
        return started, started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

    def look(
        self,
        file: Path,
        action: Callable[[Page], None],
        size: tuple[int, int] = DESKTOP,
        scheme: Any = "light",
        address: str = "",
    ) -> None:
        """Open ``file`` in the browser and call ``action`` with the page."""
        self._thread.submit(self._look, file, action, size, scheme, address).result()

    def _look(
        self, file: Path, action: Callable[[Page], None], size: tuple[int, int], scheme: Any, address: str
    ) -> None:
        context = self._browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        wrong, loaded = list[str](), list[str]()
        try:
            view = context.new_page()
            view.set_default_timeout(10_000)
            view.on("console", lambda message: wrong.append(message.text))
            view.on("pageerror", lambda error: wrong.append(str(error)))
            view.on("request", lambda request: loaded.append(request.url))
            view.goto(file.as_uri() + address)
            action(view)
        finally:
            context.close()
        assert wrong == []
        files = {url.partition("#")[0] for url in loaded if not url.startswith("data:")}
        assert files - {part.as_uri() for part in file.parent.glob("part-*.js")} == {file.as_uri()}

    def close(self) -> None:
        self._thread.submit(self._browser.close).result()
        self._thread.submit(self._playwright.stop).result()
        self._thread.shutdown()


@pytest.fixture(scope="package")
def window() -> Generator[Window]:
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome is on this machine's path")
    opened = Window()
    yield opened
    opened.close()


@pytest.fixture
def look_at(window: Window) -> Look:
    """Open a page and call a function with it."""
    return window.look


@pytest.fixture
def look(window: Window, tmp_path: Path) -> Look:
    """Open the page of a run and call a function with it."""

    def show(
        run: Run,
        action: Callable[[Page], None],
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        address: str = "",
    ) -> None:
        write_page(run, tmp_path / "page.html")
        window.look(tmp_path / "page.html", action, size, scheme, address)

    return show
