"""Measure what the client costs: problems against a server without delay, for both HTTP backends.

    python benchmarks/throughput.py --data ../shared/data/math500.jsonl

The measurement covers a whole run: the ring, the requests, grading and the run folder. Seconds depend on the machine;
compare the ratio of the two lines. The backends take turns, ``repeats`` times each, and the round with the least CPU
counts.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio
import cyclopts
import msgspec
from rich.console import Console

from arbiter.config.config import parse
from arbiter.runs.bench import bench
from arbiter.runs.progress import PlainWatcher

BACKENDS: tuple[Literal["http", "openai"], ...] = ("http", "openai")
KEY = "ARBITER_BENCHMARK_KEY"


class Reading(msgspec.Struct, frozen=True):
    """One run: its requests, and the wall and CPU seconds of this process, without graders and server."""

    backend: str
    problems: int
    graded: int
    requests: int
    seconds: float
    cpu: float


def main(
    *,
    data: str = "pocket:2",
    limit: int | None = None,
    concurrency: int = 256,
    repeats: int = 3,
    json: bool = False,
) -> None:
    """Measure ``http`` and ``openai`` in turns over the problems of ``data``, and print one line per backend."""
    os.environ[KEY] = "none"
    with served() as port:
        readings = [measured(backend, data, limit, concurrency, port) for _ in range(repeats) for backend in BACKENDS]
    best = {
        backend: min((one for one in readings if one.backend == backend), key=lambda one: one.cpu)
        for backend in BACKENDS
    }
    if json:
        sys.stdout.write(msgspec.json.encode(best).decode() + "\n")
        return
    out = Console(emoji=False, highlight=False, soft_wrap=True)
    out.print("| backend | problems graded | requests | requests/s | CPU µs per request |\n|---|---|---|---|---|")
    for backend, reading in best.items():
        out.print(
            f"| {backend} | {reading.graded} of {reading.problems} | {reading.requests} | "
            f"{reading.requests / reading.seconds:.0f} | {reading.cpu / reading.requests * 1e6:.0f} |"
        )


def measured(backend: str, data: str, limit: int | None, concurrency: int, port: int) -> Reading:
    """Measure one ``rsd`` run against the server: each step makes one request to the draft and one to the PRM."""
    table: dict[str, Any] = {
        "backend": backend,
        "url": f"http://127.0.0.1:{port}",
        "model": "fixed",
        "prompt": "qwen2.5-math",
        "in_flight": concurrency,
    }
    if backend == "openai":
        table["api_key_env"] = KEY
    source: dict[str, Any] = {"source": data} if limit is None else {"source": data, "limit": limit}
    tree = {
        "run_type": "rsd",
        "data": source,
        "limits": {"problems": concurrency},
        "models": {"draft": table, "target": table, "prm": {**table, "prompt": "plain"}},
    }
    with tempfile.TemporaryDirectory() as folder:
        config, watcher = parse(tree, "benchmark"), PlainWatcher(Console(stderr=True))
        started, cpu = time.monotonic(), _cpu_seconds()
        summary, _ = anyio.run(partial(bench, config, Path(folder) / "run", watcher))
        return Reading(
            backend=backend,
            problems=summary.problems,
            graded=summary.graded,
            requests=sum(calls.requests for calls in summary.requests.values()),
            seconds=time.monotonic() - started,
            cpu=_cpu_seconds() - cpu,
        )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def served() -> Generator[int]:
    """Start the fixed-answer server in its own process, and yield its port."""
    command = [sys.executable, str(Path(__file__).parent / "fixed_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - the command is ours
        try:
            if process.stdout is None or not (port := process.stdout.readline()):
                raise SystemExit("the server did not start")
            yield int(port)
        finally:
            process.terminate()


if __name__ == "__main__":
    cyclopts.run(main)
