"""The servers while they live: started, watched, started again when they die, and stopped whatever happens."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
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

GRACE_SECONDS = 20.0  # for what is asked to end, before it is killed
_KILL_SECONDS = 7.0  # for the guard to see the end of what it killed
_LOG_TAIL = 15
_LOG_TAIL_BYTES = 8192


class Patience(msgspec.Struct, frozen=True):
    """In seconds: between the start of a dead server and the next, ``first``, doubled up to ``longest``, and from the
    beginning again after a life of ``long_life``. How many ``tries`` a server has that was never ready. How often it is
    looked at while it starts (``look``), and for its figures (``figures``). How long it may take to end (``grace``).
    """

    first: float = 1.0
    longest: float = 60.0
    long_life: float = 300.0
    tries: int = 5
    look: float = 0.5
    figures: float = 2.0
    grace: float = GRACE_SECONDS


class ServerProcess:
    """One launch and what has become of it."""

    def __init__(self, launch: Launch, log: Path) -> None:
        self.launch = launch
        self.log = log
        self.state: State = "waiting"
        self.since = time.monotonic()
        self.next_start = 0.0
        """While it is ``restarting``, when: in seconds of ``time.monotonic``."""
        self.starts = 0
        self.figures = EngineMetrics()
        self.rate: float | None = None
        """Tokens a second, lately: written, or of a model that scores read."""
        self.process: Process | None = None
        self.was_ready = anyio.Event()
        self._looked = 0.0

    def become(self, state: State) -> None:
        self.state, self.since = state, time.monotonic()
        if state != "ready":
            self.figures, self.rate = EngineMetrics(), None

    def heard(self, found: EngineMetrics) -> None:
        """Take new figures, and the rate since the last ones."""
        now, before = time.monotonic(), self.figures
        new, old = (found.read, before.read) if self.launch.scores else (found.written, before.written)
        self.rate = None if new is None or old is None else max(0.0, new - old) / max(now - self._looked, 1e-9)
        self.figures, self._looked = found, now


class Fleet:
    """Servers by the order in which they start. Made by ``open_fleet``."""

    def __init__(
        self,
        launches: Sequence[Launch],
        logs: Path,
        gpus: Sequence[str],
        tell: Callable[[str], None],
        patience: Patience,
        pages: "Pages",
    ) -> None:
        self.servers = [ServerProcess(launch, logs / f"{launch.name}.log") for launch in launches]
        self._gpus = gpus
        self._tell = tell
        self._patience = patience
        self._pages = pages

    async def ready(self) -> None:
        """Return once each server has been ready."""
        for server in self.servers:
            await server.was_ready.wait()

    async def keep(self, server: ServerProcess) -> None:
        """Start ``server``, and start it again whenever it ends.

        Raises ``BackendError`` with the end of its log if it ends time after time and was never ready.
        """
        others = {one.launch.name: one for one in self.servers}
        for name in server.launch.after:
            await others[name].was_ready.wait()
        patience, wait = self._patience, self._patience.first
        while True:
            started = time.monotonic()
            status = await self._lived(server)
            if not server.was_ready.is_set() and server.starts >= patience.tries:
                server.become("failed")
                raise BackendError(_gave_up(server, status))
            if time.monotonic() - started >= patience.long_life:
                wait = patience.first
            server.become("restarting")
            server.next_start = time.monotonic() + wait
            self._tell(f"{server.launch.name} {_ended(status)}; it starts again in {wait:g} s (log: {server.log})")
            await anyio.sleep(wait)
            wait = min(2 * wait, patience.longest)

    async def _lived(self, server: ServerProcess) -> int:
        """One life of a server: its exit status."""
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
        while not await self._is_ready(server.launch):  # noqa: ASYNC110 - nobody tells us but the server, if asked
            await anyio.sleep(self._patience.look)
        took = time.monotonic() - server.since
        server.become("ready")
        server.was_ready.set()
        self._tell(f"{server.launch.name} is ready at {server.launch.address} after {took:.0f} s")
        if server.launch.program not in ("sglang", "vllm"):
            return
        while True:
            status, text = await self._pages.read(f"{server.launch.address}/metrics")
            if status == 200:
                server.heard(figures(server.launch.program, text))
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
    tell: Callable[[str], None],
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
) -> AsyncGenerator[Fleet]:
    """The servers of ``launches``, starting or started; all are stopped when the block ends.

    Each has a file in ``logs``. ``gpus`` are CUDA's names of the machine's. ``tell`` is called with what happens.
    The block is cancelled, and ``BackendError`` raised, if a server cannot be brought up.
    """
    from arbiter.servers.pages import open_pages  # its HTTP client takes long to import

    _make(logs)
    async with open_pages() as pages:
        fleet = Fleet(launches, logs, gpus, tell, patience, pages)
        try:
            async with anyio.create_task_group() as tasks:
                for server in fleet.servers:
                    tasks.start_soon(fleet.keep, server)
                yield fleet
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            known = group.subgroup(ArbiterError)
            if known is None:
                raise
            raise first_of(known) from group


def first_of(group: BaseExceptionGroup[ArbiterError]) -> ArbiterError:
    """The first error of a group, whatever it is in."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def leashed(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: BinaryIO | None = None,
    grace: float = GRACE_SECONDS,
) -> Process:
    """Start ``command`` so that nothing of it is left when it is stopped, or when this process is gone.

    It has a session of its own, so that a terminal's Ctrl-C reaches this process alone, and no input.
    """
    shared = [sys.executable, "-I", process_guard.__file__, str(os.getpid()), str(grace), *command]
    return await anyio.open_process(
        shared,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        start_new_session=True,
    )


async def stop(process: Process, grace: float = GRACE_SECONDS) -> None:
    """End what is leashed, if it has not ended: asked first, and killed if it takes too long."""
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
    """A launch as a line for a shell."""
    environment = [f"{name}={shlex.quote(value)}" for name, value in _environment(launch, gpus).items()]
    return " ".join([*environment, shlex.join(launch.command)])


def _environment(launch: Launch, gpus: Sequence[str]) -> dict[str, str]:
    """What is special in a server's environment; a GPU's number is used where the machine does not have it."""
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
        raise RunError(f"cannot write {log}: {error.strerror}") from error


def _gave_up(server: ServerProcess, status: int) -> str:
    return (
        f"{server.launch.name} ended {server.starts} times before it was ready; at last it {_ended(status)}. "
        f"{server.log} ends with:\n{tail(server.log)}"
    )


def _ended(status: int) -> str:
    """An exit status in words; 128 and more is a signal, as shells and the guard report it."""
    number = -status if status < 0 else status - 128
    return f"was ended by signal {number}" if number > 0 else f"ended with status {status}"


def tail(log: Path) -> str:
    """The last lines of a log."""
    with suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LOG_TAIL:])
    return "  (it cannot be read)"
