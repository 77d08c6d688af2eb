"""Running servers: start and monitor them, restart those that die, and always stop them at the end."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import anyio
import msgspec
from anyio.abc import Process

from arbiter.protocols.errors import ArbiterError, BackendError, RunError
from arbiter.servers import process_guard
from arbiter.servers.engine_metrics import EngineMetrics, figures
from arbiter.servers.plan_types import Launch

if TYPE_CHECKING:
    from arbiter.servers.pages import Pages

State = Literal["waiting", "starting", "ready", "restarting", "failed", "stopped"]

GRACE_SECONDS = 20.0  # from SIGTERM to SIGKILL
_KILL_SECONDS = 7.0  # for the guard to see that the killed processes ended
_LOG_TAIL = 15
_LOG_TAIL_BYTES = 8192


class Patience(msgspec.Struct, frozen=True):
    """Delays and intervals in seconds, and a number of tries.

    ``first`` is the delay before the first restart of a dead server. It doubles for each further restart, up to
    ``longest``, and is ``first`` again after a server ran for ``long_life``. ``tries`` is the number of starts of a
    server that was never ready. ``look`` and ``figures`` are the intervals of the ready check and of reading metrics.
    ``grace`` is the time that a server has to end.
    """

    first: float = 1.0
    longest: float = 60.0
    long_life: float = 300.0
    tries: int = 5
    look: float = 0.5
    figures: float = 2.0
    grace: float = GRACE_SECONDS


class ServerProcess:
    """A launch, and the state of its process."""

    def __init__(self, launch: Launch, log: Path) -> None:
        self.launch = launch
        self.log = log
        self.state: State = "waiting"
        self.since = time.monotonic()
        self.next_start = 0.0
        """The time of the next start while the state is ``restarting``, in seconds of ``time.monotonic``."""
        self.starts = 0
        self.figures = EngineMetrics()
        self.rate: float | None = None
        """Tokens per second since the last reading: written, or read for a model that scores."""
        self.process: Process | None = None
        self.was_ready = anyio.Event()
        self._measured = 0.0

    def become(self, state: State) -> None:
        """Set the state and the time since which it holds. A server that is not ready has no metrics."""
        self.state, self.since = state, time.monotonic()
        if state != "ready":
            self.figures, self.rate = EngineMetrics(), None

    def update_metrics(self, found: EngineMetrics) -> None:
        """Store new metrics, and the token rate since the last ones."""
        now, before = time.monotonic(), self.figures
        new, old = (found.read, before.read) if self.launch.scores else (found.written, before.written)
        self.rate = None if new is None or old is None else max(0.0, new - old) / max(now - self._measured, 1e-9)
        self.figures, self._measured = found, now


class Fleet:
    """Servers in the order in which they start. Create it with ``open_fleet``."""

    def __init__(
        self,
        launches: Sequence[Launch],
        logs: Path,
        gpus: Sequence[str],
        notify: Callable[[str], None],
        patience: Patience,
        pages: "Pages",
    ) -> None:
        self.servers = [ServerProcess(launch, logs / f"{launch.name}.log") for launch in launches]
        self._gpus = gpus
        self._notify = notify
        self._patience = patience
        self._pages = pages

    async def ready(self) -> None:
        """Wait until every server has been ready."""
        for server in self.servers:
            await server.was_ready.wait()

    async def keep(self, server: ServerProcess) -> None:
        """Start ``server``, and restart it whenever it ends.

        Raises ``BackendError`` with the last lines of its log if it used all its tries and was never ready.
        """
        others = {one.launch.name: one for one in self.servers}
        for name in server.launch.after:
            await others[name].was_ready.wait()
        patience, wait = self._patience, self._patience.first
        while True:
            started = time.monotonic()
            status = await self._run_once(server)
            if not server.was_ready.is_set() and server.starts >= patience.tries:
                server.become("failed")
                raise BackendError(_gave_up(server, status))
            if time.monotonic() - started >= patience.long_life:
                wait = patience.first
            server.become("restarting")
            server.next_start = time.monotonic() + wait
            self._notify(f"{server.launch.name} {_ended(status)}; it restarts in {wait:g} s (log: {server.log})")
            await anyio.sleep(wait)
            wait = min(2 * wait, patience.longest)

    async def _run_once(self, server: ServerProcess) -> int:
        """Run ``server`` until it ends, and return its exit status."""
        server.starts += 1
        server.become("starting")
        environment = {**os.environ, **_environment(server.launch, self._gpus)}
        with _opened(server.log, again=server.starts > 1) as log:
            log.write(f"$ {shown(server.launch, self._gpus)}\n\n".encode())
            log.flush()
            process = await leashed(server.launch.command, environment, log, self._patience.grace)
        server.process = process
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, server)
                await process.wait()
                tasks.cancel_scope.cancel()
            return await process.wait()
        finally:
            await stop(process, self._patience.grace)
            server.process = None
            server.become("stopped")

    async def _watch(self, server: ServerProcess) -> None:
        while not await self._is_ready(server.launch):  # noqa: ASYNC110 - only polling the server shows that it is ready
            await anyio.sleep(self._patience.look)
        took = time.monotonic() - server.since
        server.become("ready")
        server.was_ready.set()
        self._notify(f"{server.launch.name} is ready at {server.launch.address} after {took:.0f} s")
        if server.launch.program not in ("sglang", "vllm"):
            return
        while True:
            status, text = await self._pages.read(f"{server.launch.address}/metrics")
            if status == 200:
                server.update_metrics(figures(server.launch.program, text))
            await anyio.sleep(self._patience.figures)

    async def _is_ready(self, launch: Launch) -> bool:
        for page in launch.ready:
            status, _ = await self._pages.read(launch.address + page)
            if status != 404:
                return status == 200
        return False


@asynccontextmanager
async def open_fleet(
    launches: Sequence[Launch],
    logs: Path,
    gpus: Sequence[str],
    notify: Callable[[str], None],
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
) -> AsyncGenerator[Fleet]:
    """Start the servers of ``launches``; all are stopped when the block ends.

    Each server has a log file in the folder ``logs``. ``gpus`` are the machine's GPUs as CUDA names them. ``notify`` is
    called with a line of text for each event. If a server cannot be started, the block is cancelled and
    ``BackendError`` is raised. Raises ``RunError`` if a log cannot be written.
    """
    from arbiter.servers.pages import open_pages  # importing its HTTP client takes long

    _make(logs)
    async with open_pages() as pages:
        fleet = Fleet(launches, logs, gpus, notify, patience, pages)
        with first_error():
            async with anyio.create_task_group() as tasks:
                for server in fleet.servers:
                    tasks.start_soon(fleet.keep, server)
                yield fleet
                tasks.cancel_scope.cancel()


@contextmanager
def first_error() -> Generator[None]:
    """Raise the first ``ArbiterError`` of an exception group that the block raises, in the place of the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        known = group.subgroup(ArbiterError)
        if known is None:
            raise
        raise _first_of(known) from group


def _first_of(group: BaseExceptionGroup[ArbiterError]) -> ArbiterError:
    """Return the first error of a group, at any nesting depth."""
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def leashed(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: BinaryIO | None = None,
    grace: float = GRACE_SECONDS,
) -> Process:
    """Start ``command`` under the process guard, and return the guard's process.

    When it is stopped, or when this process ends, no child of it remains. It has its own session, so that a terminal's
    Ctrl-C reaches only this process, and it has no standard input.
    """
    guarded = [sys.executable, "-I", process_guard.__file__, str(os.getpid()), str(grace), *command]
    return await anyio.open_process(
        guarded,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        start_new_session=True,
    )


async def stop(process: Process, grace: float = GRACE_SECONDS) -> None:
    """Stop a process of ``leashed``: terminate it, and kill it if it does not end in time."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        with anyio.move_on_after(grace + _KILL_SECONDS):
            await process.wait()
            return
        process.kill()
        await process.wait()


def shown(launch: Launch, gpus: Sequence[str]) -> str:
    """Return a launch as a shell command."""
    environment = [f"{name}={shlex.quote(value)}" for name, value in _environment(launch, gpus).items()]
    return " ".join([*environment, shlex.join(launch.command)])


def _environment(launch: Launch, gpus: Sequence[str]) -> dict[str, str]:
    """Return the variables to add to a server's environment. A GPU that the machine lacks is named by its number."""
    if not launch.gpus:
        return launch.environment
    names = [gpus[gpu] if gpu < len(gpus) else str(gpu) for gpu in launch.gpus]
    return {"CUDA_VISIBLE_DEVICES": ",".join(names), **launch.environment}


def _make(logs: Path) -> None:
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write logs into {logs}: {error.strerror}; choose another folder (--logs)") from error


def _opened(log: Path, *, again: bool) -> BinaryIO:
    try:
        return log.open("ab" if again else "wb")
    except OSError as error:
        raise RunError(f"cannot write {log}: {error.strerror}; choose another folder (--logs)") from error


def _gave_up(server: ServerProcess, status: int) -> str:
    return (
        f"{server.launch.name} ended {server.starts} times before it was ready; the last time it {_ended(status)}. "
        f"The end of its log {server.log}:\n{tail(server.log)}"
    )


def _ended(status: int) -> str:
    """Describe an exit status. Above 128 it is a signal, as shells and the guard report it."""
    number = -status if status < 0 else status - 128
    return f"was killed by signal {number}" if number > 0 else f"ended with status {status}"


def tail(log: Path) -> str:
    """Return the last lines of a log file, indented."""
    with suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL:])
    return "  (it cannot be read)"
