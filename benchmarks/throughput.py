"""Measure what the client costs: problems against a server without delay, for both HTTP backends.

    python benchmarks/throughput.py --data ../shared/data/math500.jsonl

The first table covers whole runs: the ring, the requests, grading and the run folder. Seconds depend on the machine;
compare the ratio of the two lines. The backends take turns, ``repeats`` times each, and the round with the least CPU
counts.

The second table covers the transports alone, with ``IN_FLIGHT`` requests at a time. They take turns too. The figures
are medians of the rounds, and the ratios are medians of the ratios of the rounds.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import anyio
import cyclopts
import msgspec
from markdown_tables import markdown
from rich.console import Console

from arbiter.backends.served.aiohttp_transport import open_aiohttp
from arbiter.backends.served.openai_transport import open_openai
from arbiter.backends.served.plain_transport import open_plain
from arbiter.backends.served.transport import Address, Transport
from arbiter.config.config import parse
from arbiter.runs.bench import bench
from arbiter.runs.progress import PlainWatcher

BACKENDS: tuple[Literal["http", "openai"], ...] = ("http", "openai")
KEY = "ARBITER_BENCHMARK_KEY"
TRANSPORTS: dict[str, Callable[[Address], AbstractAsyncContextManager[Transport]]] = {
    "aiohttp": open_aiohttp,
    "plain": open_plain,
    "openai": open_openai,
}
IN_FLIGHT = 64
BODY = {"model": "fixed", "prompt": "We multiply the first number by the second one. " * 40, "max_tokens": 512}


class Reading(msgspec.Struct, frozen=True):
    """One run: its requests, and the wall and CPU seconds of this process, without graders and server."""

    backend: str
    problems: int
    graded: int
    requests: int
    seconds: float
    cpu: float


class TransportRow(msgspec.Struct, frozen=True):
    """CPU microseconds per request of a transport, and their ratio to those of aiohttp."""

    transport: str
    cpu: float
    ratio: float


class Found(msgspec.Struct, frozen=True):
    """All measurements. ``backends`` has the best round of each backend."""

    backends: dict[str, Reading]
    transports: list[TransportRow]


def main(
    *,
    data: str = "pocket:2",
    limit: int | None = None,
    concurrency: int = 256,
    repeats: int = 3,
    requests: int = 3000,
    json: bool = False,
) -> None:
    """Measure ``http`` and ``openai`` in turns over the problems of ``data``, then each transport over ``requests``."""
    os.environ[KEY] = "none"
    with served() as port:
        readings = [measured(backend, data, limit, concurrency, port) for _ in range(repeats) for backend in BACKENDS]
        transports = over_transports(f"http://127.0.0.1:{port}", requests, repeats)
    best = {
        backend: min((one for one in readings if one.backend == backend), key=lambda one: one.cpu)
        for backend in BACKENDS
    }
    if json:
        sys.stdout.write(msgspec.json.encode(Found(best, transports)).decode() + "\n")
        return
    out = Console(emoji=False, highlight=False, soft_wrap=True)
    runs = [
        (
            backend,
            f"{one.graded} of {one.problems}",
            one.requests,
            f"{one.requests / one.seconds:.0f}",
            f"{one.cpu / one.requests * 1e6:.0f}",
        )
        for backend, one in best.items()
    ]
    out.print(markdown("backend | problems graded | requests | requests/s | CPU µs per request", runs))
    rows = [(one.transport, f"{one.cpu:.0f}", f"{one.ratio:.2f}") for one in transports]
    out.print(f"\n{markdown('transport | CPU µs per request | / aiohttp', rows)}")


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


def over_transports(url: str, requests: int, repeats: int) -> list[TransportRow]:
    """Measure each transport in turn, after a round that warms up."""
    address = Address(url, timeout=60, retries=0, connections=IN_FLIGHT)
    readings: dict[str, list[float]] = {name: [] for name in TRANSPORTS}
    for _ in range(repeats + 1):
        for name, opening in TRANSPORTS.items():
            readings[name].append(anyio.run(_posted, opening(address), requests))
    rounds = {name: found[1:] for name, found in readings.items()}
    return [
        TransportRow(
            name, median(found), median(one / other for one, other in zip(found, rounds["aiohttp"], strict=True))
        )
        for name, found in rounds.items()
    ]


async def _posted(opened: AbstractAsyncContextManager[Transport], requests: int) -> float:
    """Make the requests over open connections, and return the CPU microseconds per request of all threads."""
    async with opened as transport:
        await _post(transport, IN_FLIGHT)
        started = time.process_time()
        await _post(transport, requests)
        return 1e6 * (time.process_time() - started) / requests


async def _post(transport: Transport, requests: int) -> None:
    waiting = iter(range(requests))

    async def work() -> None:
        for number in waiting:
            await transport.post("/v1/completions", BODY, f"problem-{number}")

    async with anyio.create_task_group() as workers:
        for _ in range(IN_FLIGHT):
            workers.start_soon(work)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def served(*options: str) -> Generator[int]:
    """Start the fixed-answer server in its own process, and yield its port."""
    command = [sys.executable, str(Path(__file__).parent / "fixed_server.py"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - the command is ours
        try:
            if process.stdout is None or not (port := process.stdout.readline()):
                raise SystemExit("the server did not start")
            yield int(port)
        finally:
            process.terminate()


if __name__ == "__main__":
    cyclopts.run(main)
