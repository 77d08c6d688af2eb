"""What the benchmarks over real servers have in common: servers that live as long as a block, and runs over them."""

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
    """A run that was made, with its solutions by problem."""

    summary: Summary
    solutions: dict[str, Solution]
    path: Path


def behind_servers(config: Config, port: int, changes: Mapping[str, Mapping[str, Any]]) -> Config:
    """``config`` with the servers of the pocket models in the place of its models, at ``port`` and those behind it.

    ``changes`` are more keys of the models' tables, by their names.
    """
    models: dict[str, Any] = {}
    for index, (name, table) in enumerate(load_config(SERVED).models.configured().items()):
        url = f"http://127.0.0.1:{port + index}"
        models[name] = {**msgspec.to_builtins(table), "url": url, **changes.get(name, {})}
    return parse({**msgspec.to_builtins(config), "models": models}, SERVED)


@asynccontextmanager
async def serving(config: Config, source: str, logs: Path, only: Iterable[str] = ()) -> AsyncGenerator[Fleet]:
    """The servers of ``config``, or those of the models ``only``, ready; stopped when the block ends.

    Raises ``ConfigError`` for what this machine cannot do, ``BackendError`` for a server that cannot be brought up.
    """
    launches = plan(config, source, find_interpreter, only=tuple(only)).launches
    gpus = visible_gpus() if any(launch.gpus for launch in launches) else ()
    check(launches, gpus)
    async with open_fleet(launches, logs, gpus, say) as fleet:
        await fleet.ready()
        yield fleet


async def solved(config: Config, folder: Path, watcher: PlainWatcher | None = None) -> Ran:
    """A run into ``folder``. Raises ``RunError`` if a signal ended it early."""
    summary, path = await bench(config, folder, watcher or PlainWatcher(console))
    if summary.interrupted:
        raise RunError("the benchmark was interrupted; runs that are not whole say nothing")
    results = read_records(path / "results.jsonl", Result)
    return Ran(summary, {result.solution.problem: result.solution for result in results}, path)


def kill_server(server: ServerProcess) -> None:
    """End the program of ``server`` with SIGKILL, as the kernel does when memory is short.

    It is the first child of the process that guards it.
    """
    shared = server.process
    if shared is None:
        raise BackendError(f"{server.launch.name} cannot be killed: it does not run")
    children = Path(f"/proc/{shared.pid}/task/{shared.pid}/children").read_text(encoding="ascii").split()
    say(f"killing {server.launch.name}")
    os.kill(int(children[0]), signal.SIGKILL)


async def cached_and_read(servers: Sequence[ServerProcess]) -> dict[str, tuple[float, float]]:
    """By server, in the life that it has now: the prompt tokens out of its prefix cache, and all of them."""
    found: dict[str, tuple[float, float]] = {}
    async with aiohttp.ClientSession() as session:
        for server in servers:
            try:
                async with session.get(f"{server.launch.address}/metrics") as answer:
                    told = figures("sglang", await answer.text())
            except aiohttp.ClientError as error:
                raise BackendError(f"{server.launch.name} does not tell its figures: {error}") from error
            found[server.launch.name] = told.cached or 0.0, told.looked_up or 0.0
    return found


def hit_rates(before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """What came out of each cache between two looks, by the tokens cached and read. One that fell began anew."""
    found: dict[str, float] = {}
    for name, (cached, read) in after.items():
        cached_before, read_before = before[name] if read >= before[name][1] else (0.0, 0.0)
        if read > read_before:
            found[name] = round((cached - cached_before) / (read - read_before), 4)
    return found


async def flush(servers: Sequence[ServerProcess]) -> None:
    """Empty the prefix caches. sglang refuses while a request runs; one that was cancelled does so for some seconds."""
    async with aiohttp.ClientSession() as session:
        for server in servers:
            end = time.monotonic() + FLUSH_SECONDS
            while not await _flushed(session, server.launch.address):
                if time.monotonic() > end:
                    raise BackendError(f"{server.launch.name} does not empty its prefix cache: it is never idle")
                await anyio.sleep(0.5)


async def _flushed(session: aiohttp.ClientSession, address: str) -> bool:
    try:
        async with session.post(f"{address}/flush_cache") as answer:
            return answer.status == 200
    except aiohttp.ClientError as error:
        raise BackendError(f"{address} does not empty its prefix cache: {error}") from error


def differing(here: Mapping[str, Solution], there: Mapping[str, Solution]) -> list[str]:
    """The problems whose transcripts are not the same, or not by the same authors."""
    return [problem for problem, solution in here.items() if texts(solution) != texts(there.get(problem))]


def texts(solution: Solution | None) -> list[tuple[str, str]]:
    """Each step's author and text."""
    return [] if solution is None else [(step.kept.author, step.kept.text) for step in solution.steps]


def say(line: str) -> None:
    """Tell what happens, on standard error."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
