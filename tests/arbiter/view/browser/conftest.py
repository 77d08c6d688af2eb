"""Fixtures: the page of the viewer in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.lock import locked
from arbiter.log.reader import LOG
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run
from benchmarks.silent_watcher import SilentWatcher
from tests.browser import Window

if TYPE_CHECKING:
    from playwright.sync_api import Page

DESKTOP, PHONE = (1280, 800), (360, 740)
REFUSED = "Failed to load resource"  # what the browser itself writes of an answer with an error status

See = Callable[["Page"], None]
Look = Callable[..., None]


@pytest.fixture
def look(window: Window, view: Callable[[Path], Any]) -> Look:
    """Open the page over a folder, at a place, and call a function with it; ``{name}`` is the id of the run ``name``.

    Nothing may be written to the console, or sent elsewhere. ``refused``: the test has the server refuse a request,
    which the browser writes to the console.
    """

    def show(
        folder: Path,
        see: See,
        at: str = "/",
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        refused: bool = False,
    ) -> None:
        with view(folder) as browsing:
            place = at.format(**{name: run["run"] for name, run in browsing.runs().items()})
            visit = window.visit(f"{browsing.page}#{place}", see, size, scheme)
        assert [text for text in visit.console if not (refused and REFUSED in text)] == []
        assert [url for url in visit.requested if not url.startswith(f"{browsing.address}/")] == []

    return show


HOSTILE = "</script><img src=x onerror=alert(1)><b>bold</b> \"' & \u202e \\frac{1}{2} {{7*7}} `${1}`"


def echo(request: GenerationRequest) -> Generation:
    """One step, which is the question; of the target two."""
    is_last = request.author == "draft" or request.step == 1
    text = f"{request.author} {request.transcript.question}"
    return Generation(text, "end" if is_last else "separator", Usage(5, 4))


def echoing(score: float) -> Models:
    generator = ModelHandle(ScriptedGenerator(echo))
    return Models(draft=generator, target=generator, scorers={"router": ModelHandle(ScriptedScorer(lambda _: score))})


@pytest.fixture(scope="session")
def problems() -> Callable[[int], list[Problem]]:
    """Make numbered problems."""
    return lambda count: [Problem(f"p{number}", f"question {number}", "7") for number in range(count)]


@pytest.fixture(scope="session")
def hostile_runs(record: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, ``kept`` and ``escalated``, whose ids, questions, steps and answers are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = [
        Problem(HOSTILE, f"{HOSTILE} \\boxed{{{HOSTILE}}}", HOSTILE),
        Problem("long" * 60, "word" * 400, "9" * 300),
    ]
    record(folder / "kept", texts, echoing(0.1), run_type="router")
    record(folder / "escalated", texts, echoing(0.9), run_type="router")
    record(folder / "a<b>&'c", texts, echoing(0.1), run_type="router")
    return folder


@pytest.fixture(scope="session")
def long_run(a_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``long`` of 5,000 problems of one step, without right answers: nothing is graded."""
    folder, config = tmp_path_factory.mktemp("long"), a_config(run_type="draft")
    given = [Problem(f"p{number}", f"question {number}", None) for number in range(5000)]

    async def solve() -> None:
        async with open_run(config, given, folder / "long") as run:
            await run.finish(await run_problems(config, given, echoing(0.1), run, SilentWatcher()))

    anyio.run(solve)
    return folder


class GrowingRun:
    """The run ``growing`` in a folder, whose log has half of its lines until ``go_on`` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        run = folder / "growing"
        self._log = run / LOG
        self._lines = self._log.read_bytes().splitlines(keepends=True)
        for name in ("summary.json", "results.jsonl"):
            (run / name).unlink()
        self._log.write_bytes(b"".join(self._lines[: len(self._lines) // 2]))

    def go_on(self) -> None:
        """Write the other lines."""
        with self._log.open("ab") as log:
            log.write(b"".join(self._lines[len(self._lines) // 2 :]))

    @contextmanager
    def being_written(self) -> Generator[None]:
        with locked(self._log.with_name(f".{LOG}.lock"), "run"):
            yield


@pytest.fixture
def growing(
    record: Callable[..., Path], problems: Callable[[int], list[Problem]], tmp_path: Path
) -> Generator[GrowingRun]:
    """A run that is being written."""
    record(tmp_path / "growing", problems(40), echoing(0.1), run_type="router", limits={"problems": 1})
    run = GrowingRun(tmp_path)
    with run.being_written():
        yield run
