"""Measure the viewer over many long runs: time to the first view, requests, and memory of the server.

    python benchmarks/view.py [--runs 50] [--problems 5000] [--recorded 2] [--folder FOLDER] [--json]

Scripted models solve the problems, eight steps each, and the run is recorded as any other. Only ``recorded`` runs are
made; the other folders have hard links to their files. Then ``arbiter view`` is started, twice. The first start finds
no index: it shows what it has read of a log so far, and the time until an index is whole is measured apart. The second
start finds the indexes of the first two runs.

The browser (playwright with ``chromium``) counts the requests of the page, and the seconds until the table of runs has
rows. Memory is the largest resident size of the server's process (``VmHWM``).
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Generator
from pathlib import Path
from random import Random
from typing import Annotated, Any

import anyio
import cyclopts
import msgspec
from cyclopts import Parameter
from silent_watcher import SilentWatcher

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import parse
from arbiter.data import Problem
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from arbiter.runs.bench import run_problems
from arbiter.runs.folder import open_run

STEPS, WORDS = 8, 25
QUESTION = "A train covers {n} kilometres in two hours, and {n} more in the third. " * 3 + "How far does it come?"
LINE = re.compile(r"(http://\S+)/\?token=(\S+)")


class Seconds(msgspec.Struct, frozen=True):
    """Seconds of requests to the server that found no index, or an index of the run."""

    runs: float
    runs_again: float
    first_rows: float
    whole_index: float
    page: float
    filtered: float
    searched: float
    problem: float
    compared: float
    threshold: float
    threshold_again: float


class Measured(msgspec.Struct, frozen=True):
    """The seconds of both starts, what the browser sees, and sizes in MB."""

    runs: int
    problems: int
    log_mb: float
    index_mb: float
    cold: Seconds
    warm: Seconds
    page_seconds: float | None
    page_requests: int | None
    memory_idle_mb: float
    memory_mb: float


def write(request: GenerationRequest) -> Generation:
    """Return a step of some words, or an answer that is right three times of four."""
    drawn = Random(f"{request.author} {request.problem} {request.step}")
    if request.step == STEPS - 1:
        return Generation(f"So the answer is \\boxed{{{drawn.choice((1, 1, 1, 2))}}}", "end", Usage(300, 12))
    words = drawn.choices(("the", "sum", "of", "x", "and", "y", "is", "therefore", "\\frac{1}{2}", "so"), k=WORDS)
    return Generation(" ".join(words), "separator", Usage(200, 30))


def rate(request: ScoreRequest) -> float:
    """Return a score that depends on problem and step alone."""
    return Random(f"{request.problem} {request.step}").random()


def record(folder: Path, problems: int, threshold: float) -> None:
    """Record a run of scripted models."""
    table = {"model": "scripted", "prompt": "{question}"}
    tables = dict.fromkeys(("draft", "target", "router"), table)
    config = parse({"models": tables, "run_type": "router", "thresholds": {"router": threshold}}, "benchmark")
    given = [Problem(f"problem-{n}", QUESTION.format(n=n), "1") for n in range(problems)]
    generator = ScriptedGenerator(write)
    models = Models(
        draft=ModelHandle(generator),
        target=ModelHandle(generator),
        scorers={"router": ModelHandle(ScriptedScorer(rate))},
    )

    async def solve() -> None:
        async with open_run(config, given, folder) as out:
            await out.finish(await run_problems(config, given, models, out, SilentWatcher()))

    anyio.run(solve)


def make_runs(folder: Path, runs: int, recorded: int, problems: int) -> None:
    """Record runs, and link their files into further folders."""
    for number in range(runs):
        out = folder / f"run-{number:03}"
        if out.exists():
            continue
        if number < recorded:
            record(out, problems, 0.4 + 0.2 * number / recorded)
            continue
        out.mkdir(parents=True)
        for file in (folder / f"run-{number % recorded:03}").iterdir():
            if file.is_file() and not file.name.startswith("."):
                os.link(file, out / file.name)


class Server:
    """A started viewer."""

    def __init__(self, process: "subprocess.Popen[str]", address: str, token: str) -> None:
        self.process = process
        self.page = f"{address}/?token={token}"
        self._address = address
        self._token = token

    def get(self, path: str, **query: str | int | float) -> tuple[float, Any]:
        """Return the seconds of a request, and the answer."""
        url = f"{self._address}/api/{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {self._token}"})  # noqa: S310
        began = time.perf_counter()
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own server
            content = answer.read()
        return time.perf_counter() - began, json.loads(content)

    def until_whole(self, run: str) -> None:
        """Wait until the index of a run is whole."""
        while not self.get(f"runs/{run}/problems", limit=1)[1]["index"]["complete"]:
            time.sleep(0.05)

    def memory(self) -> float:
        """Return the largest resident size so far, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0


@contextlib.contextmanager
def started(folder: Path) -> Generator[Server]:
    """Start ``arbiter view`` over ``folder``."""
    command = [sys.executable, "-m", "arbiter", "view", str(folder), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            for line in process.stderr or ():
                if (found := LINE.search(line)) is not None:
                    yield Server(process, found[1], found[2])
                    break
        finally:
            process.terminate()


def measure(server: Server) -> Seconds:
    """Open the list, two runs, pages, a problem, a comparison and another threshold."""
    runs, listed = server.get("runs")
    again, _ = server.get("runs")
    names = {run["name"]: run["run"] for run in listed["runs"]}
    a, b = names["run-000"], names["run-001"]
    began = time.perf_counter()
    while not server.get(f"runs/{a}/problems")[1]["rows"]:
        pass
    first = time.perf_counter() - began
    server.until_whole(a)
    whole = time.perf_counter() - began
    server.until_whole(b)
    return Seconds(
        runs=runs,
        runs_again=again,
        first_rows=first,
        whole_index=whole,
        page=server.get(f"runs/{a}/problems", offset=2000)[0],
        filtered=server.get(f"runs/{a}/problems", filter="wrong and escalated > 3", sort="-seconds")[0],
        searched=server.get(f"runs/{a}/problems", text="therefore therefore")[0],
        problem=server.get(f"runs/{a}/problems/77")[0],
        compared=server.get("compare/problems", a=a, b=b, filter='change == "lost"')[0],
        threshold=server.get(f"runs/{a}/what-if", threshold=0.3)[0],
        threshold_again=server.get(f"runs/{a}/what-if", threshold=0.31)[0],
    )


def looked_at(page: str) -> tuple[float | None, int | None]:
    """Return the seconds until the browser shows runs, and the requests until then; None without a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return None, None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as library:
        browser = library.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view, requests = browser.new_page(), list[str]()
        view.on("request", lambda request: requests.append(request.url))
        began = time.perf_counter()
        view.goto(page)
        view.locator(".tabulator-row").first.wait_for()
        seconds = time.perf_counter() - began
        browser.close()
    return seconds, len([url for url in requests if not url.startswith("data:")])


def main(
    *,
    runs: int = 50,
    problems: int = 5000,
    recorded: int = 2,
    folder: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """Print the seconds, the requests and the memory."""
    with contextlib.ExitStack() as stack:
        into = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="view-")))
        make_runs(into, runs, recorded, problems)
        for stored in into.glob("*/.events.jsonl.*"):
            stored.unlink()
        with started(into) as server:
            server.get("runs")
            idle = server.memory()
            cold = measure(server)
            memory = server.memory()
        with started(into) as server:
            warm, (seconds, requests) = measure(server), looked_at(server.page)
            memory = max(memory, server.memory())
        found = Measured(
            runs,
            problems,
            (into / "run-000" / "events.jsonl").stat().st_size / 1e6,
            (into / "run-000" / ".events.jsonl.rows").stat().st_size / 1e6,
            cold,
            warm,
            seconds,
            requests,
            idle,
            memory,
        )
    if as_json:
        print(msgspec.json.encode(found).decode())  # noqa: T201
        return
    for name, value in msgspec.to_builtins(found).items():
        print(f"{name:16} {value}")  # noqa: T201


if __name__ == "__main__":
    cyclopts.run(main)
