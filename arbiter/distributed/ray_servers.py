"""The actor of ``arbiter up --ray``: on one machine of a cluster, it runs servers that share GPUs. It gets no keys.

Ray starts a process for it, and starts it again when it dies. Needs the extra ``ray``.
"""

import os
import platform
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from arbiter.config.config import Config
from arbiter.distributed.published_servers import with_hosts
from arbiter.distributed.ray_library import ray_module, versions
from arbiter.protocols.errors import ArbiterError, ConfigError
from arbiter.protocols.records import Record
from arbiter.servers.fleet import GRACE_SECONDS, Patience, first_error, open_fleet
from arbiter.servers.interpreters import find_interpreter
from arbiter.servers.plan import plan
from arbiter.servers.plan_types import Launch
from arbiter.servers.preflight import check

_WAIT = 1.0  # seconds that a call for lines waits for one
_LOOK = 0.5  # seconds between two looks at a port
_LOOPBACK = "127.0.0.1"
_encode = msgspec.json.encode


class ServersJob(Record, frozen=True):
    """What an actor starts: the servers of the ``models`` of a configuration, whose name is ``source``.

    ``gpus`` are the numbers in the configuration of the GPUs that Ray gives the actor, in this order. ``logs`` is the
    folder of the log files on its machine.
    """

    config: Config
    source: str
    models: tuple[str, ...]
    gpus: tuple[int, ...]
    logs: str
    patience: Patience


class ServersPlace(Record, frozen=True):
    """Where an actor is: its machine and the address of that in the cluster, its process, and the versions there."""

    node: str
    address: str
    process: int
    versions: dict[str, str]


class ServersNews(Record, frozen=True):
    """Lines for people, and the ``address`` of the machine, None until all servers have been ready."""

    lines: tuple[str, ...]
    address: str | None


class ServersEnd(Record, frozen=True):
    """How the servers of an actor ended: the ``error`` that ended them, if one did, with the name of its class."""

    error: tuple[str, str] | None = None


class _MachineServers:
    """The servers of a job on this machine, whose address in the cluster is ``address``."""

    def __init__(self, job: ServersJob, address: str, notify: Callable[[str], None]) -> None:
        self._job = job
        self._address = address
        self._notify = notify
        self._ending = threading.Event()
        self.are_ready = threading.Event()

    def stop(self) -> None:
        """Let ``run`` stop all servers. It may be called from any thread, also before ``run``."""
        self._ending.set()

    async def run(self, again: bool) -> None:
        """Keep the servers running until ``stop`` is called. Raises the error that ended one of them."""
        try:
            with first_error():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._until_stopped, tasks.cancel_scope)
                    await self._keep(again)
        finally:
            self._ending.set()  # ends the thread that waits for it

    async def _until_stopped(self, scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(self._ending.wait, abandon_on_cancel=True)
        scope.cancel()

    async def _keep(self, again: bool) -> None:
        job = self._job
        found: Sequence[str] = ray_module().get_runtime_context().get_accelerator_ids().get("GPU", [])
        launches = self._launches()
        await _checked(partial(check, launches, found), 2 * GRACE_SECONDS if again else 0.0)
        async with open_fleet(launches, Path(job.logs), found, self._notify, job.patience) as fleet:
            await fleet.ready()
            self.are_ready.set()
            await anyio.sleep_forever()

    def _launches(self) -> list[Launch]:
        """Return the launches of the job, with this machine's address, and the numbers of its GPUs among those here."""
        job = self._job
        # an url may name the machine of the command
        here = with_hosts(job.config, dict.fromkeys(job.models, _LOOPBACK))
        found = plan(here, job.source, find_interpreter, only=job.models, host=self._address).launches
        numbers = {gpu: index for index, gpu in enumerate(job.gpus)}
        return [msgspec.structs.replace(launch, gpus=tuple(numbers[gpu] for gpu in launch.gpus)) for launch in found]


class RayServers:
    """The process of the servers of a ``ServersJob``. Its methods block, and Ray calls each in a thread of its own.

    None of them is async: else Ray would call all of them in its event loop.
    """

    def __init__(self, job: bytes) -> None:
        self._address = str(ray_module().util.get_node_ip_address())
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._servers = _MachineServers(msgspec.json.decode(job, type=ServersJob), self._address, self._lines.put)
        self._running = threading.Lock()
        self._end = ServersEnd()
        self._ended = threading.Event()

    def place(self) -> bytes:
        """Return ``ServersPlace``."""
        return _encode(ServersPlace(platform.node(), self._address, os.getpid(), versions()))

    def run(self, again: bool) -> bytes:
        """Start the servers, and keep them running until ``stop`` is called. Return ``ServersEnd``.

        With ``again`` the servers of an actor before this one may still be ending: their ports are waited for. A call
        while they run, after a connection that broke, waits for the same end.
        """
        with self._running:
            if not self._ended.is_set():
                self._end = self._run_to_the_end(again)
                self._ended.set()
        return _encode(self._end)

    def news(self) -> bytes:
        """Return ``ServersNews``: what happened since the last call. If nothing did, wait a second for it."""
        found: list[str] = []
        with suppress(queue.Empty):
            found.append(self._lines.get(timeout=_WAIT))
            while True:
                found.append(self._lines.get_nowait())
        return _encode(ServersNews(tuple(found), self.address()))

    def address(self) -> str | None:
        """Return the machine's address as soon as all servers have been ready; None before."""
        return self._address if self._servers.are_ready.is_set() else None

    def stop(self) -> None:
        """Stop all servers, and wait until none of their processes is left."""
        self._servers.stop()
        with self._running:
            self._ended.set()  # a call of ``run`` that comes later starts nothing

    def _run_to_the_end(self, again: bool) -> ServersEnd:
        try:
            anyio.run(self._servers.run, again)
        except ArbiterError as error:
            return ServersEnd((type(error).__name__, str(error)))
        finally:
            self._servers.are_ready.clear()
        return ServersEnd()


async def _checked(check_now: Callable[[], None], seconds: float) -> None:
    """Check until it succeeds, for at most ``seconds``."""
    end = anyio.current_time() + seconds
    while True:
        try:
            return await anyio.to_thread.run_sync(check_now)
        except ConfigError:
            if anyio.current_time() >= end:
                raise
        await anyio.sleep(_LOOK)
