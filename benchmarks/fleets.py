"""Shared parts of the benchmarks over real servers: start and stop servers, run problems, and read server metrics."""

import os
import signal
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import msgspec
from rich.console import Console

from arbiter.config.config import Config, load_config, parse
from arbiter.protocols.errors import BackendError, RunError
from arbiter.protocols.records import Solution
from arbiter.runs.bench import bench
from arbiter.runs.folder import read_records
from arbiter.runs.progress import PlainWatcher
from arbiter.runs.results import Result, Summary
from arbiter.servers.engine_metrics import figures
from arbiter.servers.fleet import Fleet, ServerProcess, open_fleet
from arbiter.servers.interpreters import find_interpreter
from arbiter.servers.plan import plan
from arbiter.servers.preflight import check, visible_gpus

POCKET, SERVED = "pocket", "pocket-sglang"
FLUSH_SECONDS = 30.0

console = Console(stderr=True, emoji=False)


class Ran(msgspec.Struct, frozen=True):
    """A finished run: its summary, its solutions by problem, and its folder."""

    summary: Summary
    solutions: dict[str, Solution]
    path: Path


def behind_servers(config: Config, port: int, changes: Mapping[str, Mapping[str, Any]]) -> Config:
    """Return ``config`` with its models replaced by pocket models behind servers at consecutive ports from ``port`` on.

    ``changes`` has further keys for the models' tables, by model name.
    """
    models: dict[str, Any] = {}
    for index, (name, table) in enumerate(load_config(SERVED).models.configured().items()):
        url = f"http://127.0.0.1:{port + index}"
        models[name] = {**msgspec.to_builtins(table), "url": url, **changes.get(name, {})}
    return parse({**msgspec.to_builtins(config), "models": models}, SERVED)


@asynccontextmanager
async def serving(config: Config, source: str, logs: Path, only: Iterable[str] = ()) -> AsyncGenerator[Fleet]:
    """Start the servers of ``config`` (or only those of the models ``only``), and stop them when the block ends.

    The block begins once all of them are ready. Raises ``ConfigError`` if this machine cannot run them, and
    ``BackendError`` if a server does not start.
    """
    launches = plan(config, source, find_interpreter, only=tuple(only)).launches
    gpus = visible_gpus() if any(launch.gpus for launch in launches) else ()
    check(launches, gpus)
    async with open_fleet(launches, logs, gpus, say) as fleet:
        await fleet.ready()
        yield fleet


async def solved(config: Config, folder: Path, watcher: PlainWatcher | None = None) -> Ran:
    """Run the benchmark into ``folder``. Raises ``RunError`` if a signal ended it early."""
    summary, path = await bench(config, folder, watcher or PlainWatcher(console))
    if summary.interrupted:
        raise RunError("the benchmark was interrupted, and an incomplete run cannot be compared")
    results = read_records(path / "results.jsonl", Result)
    return Ran(summary, {result.solution.problem: result.solution for result in results}, path)


def kill_server(server: ServerProcess) -> None:
    """End the program of ``server`` with SIGKILL, as the kernel does when memory runs out.

    The program is the first child of its guard process. Raises ``BackendError`` if the server is not running.
    """
    guard = server.process
    if guard is None:
        raise BackendError(f"{server.launch.name} cannot be killed: it is not running")
    children = Path(f"/proc/{guard.pid}/task/{guard.pid}/children").read_text(encoding="ascii").split()
    say(f"killing {server.launch.name}")
    os.kill(int(children[0]), signal.SIGKILL)


async def cached_and_read(servers: Sequence[ServerProcess]) -> dict[str, tuple[float, float]]:
    """Return by server how many prompt tokens came from its prefix cache, and how many there were, since its start.

    Raises ``BackendError`` if a server does not report its metrics.
    """
    counts: dict[str, tuple[float, float]] = {}
    async with aiohttp.ClientSession() as session:
        for server in servers:
            try:
                async with session.get(f"{server.launch.address}/metrics") as answer:
                    metrics = figures("sglang", await answer.text())
            except aiohttp.ClientError as error:
                raise BackendError(f"{server.launch.name} does not report its metrics: {error}") from error
            counts[server.launch.name] = metrics.cached or 0.0, metrics.looked_up or 0.0
    return counts


def hit_rates(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Return the hit rate of each prefix cache between two readings of cached and read tokens.

    A counter that fell belongs to a restarted server; it counts from 0. A server that read nothing is left out.
    """
    rates: dict[str, float] = {}
    for name, (cached, read) in after.items():
        cached_before, read_before = before[name] if read >= before[name][1] else (0.0, 0.0)
        if read > read_before:
            rates[name] = round((cached - cached_before) / (read - read_before), 4)
    return rates


async def flush(servers: Sequence[ServerProcess]) -> None:
    """Empty the prefix caches. Raises ``BackendError`` if a server stays busy for ``FLUSH_SECONDS``.

    sglang refuses while a request runs. A cancelled request may run on for some seconds.
    """
    async with aiohttp.ClientSession() as session:
        for server in servers:
            end = time.monotonic() + FLUSH_SECONDS
            while not await _flushed(session, server.launch.address):
                if time.monotonic() > end:
                    raise BackendError(f"{server.launch.name} did not empty its prefix cache: it was never idle")
                await anyio.sleep(0.5)


async def _flushed(session: aiohttp.ClientSession, address: str) -> bool:
    try:
        async with session.post(f"{address}/flush_cache") as answer:
            return answer.status == 200
    except aiohttp.ClientError as error:
        raise BackendError(f"{address} did not empty its prefix cache: {error}") from error


def differing(here: Mapping[str, Solution], there: Mapping[str, Solution]) -> list[str]:
    """Return the problems whose transcripts differ in a text or an author."""
    return [problem for problem, solution in here.items() if texts(solution) != texts(there.get(problem))]


def texts(solution: Solution | None) -> list[tuple[str, str]]:
    """Return author and text of each step."""
    return [] if solution is None else [(step.kept.author, step.kept.text) for step in solution.steps]


def say(line: str) -> None:
    """Print a line on standard error."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
