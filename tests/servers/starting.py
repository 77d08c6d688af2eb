"""Real servers as child processes on free ports. They are always stopped at the end."""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

READY_SECONDS = 600.0  # for a busy machine; an idle one needs a tenth
_PATIENCE = 15.0  # seconds from SIGTERM to SIGKILL
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Launch(msgspec.Struct, frozen=True):
    """A server to start. ``name`` is for messages; the path ``ready`` answers with status 200 when it is ready."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    ready: str
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Running:
    """A server's process, in its own process group. It is stopped when its block ends."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        with launch.log.open("ab") as output:
            self.process = subprocess.Popen(
                launch.command,
                env={**os.environ, **launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        atexit.register(self.kill)  # if nothing else stops it

    def wait_until_ready(self) -> None:
        """Wait. Raises ``RuntimeError`` with the end of the log if the server ends, or is not ready in time."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.launch.port}{self.launch.ready}", timeout=5):
                    return
            except OSError:
                time.sleep(0.5)
        wrote = self.launch.log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"the server {self.launch.name} ended, or is not ready in {READY_SECONDS:g} s:\n{wrote}")

    def kill(self) -> None:
        """Kill it immediately, with its child processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        atexit.unregister(self.kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()
        self.stop()

    def terminate(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """Wait for its end after ``terminate``, then kill what is left of it and its children."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE)
        self.kill()


@contextlib.contextmanager
def started(launches: Sequence[Launch]) -> Generator[list[Running]]:
    """Start servers concurrently, and wait until all are ready. All are stopped when the block ends."""
    running: list[Running] = []
    try:
        running.extend(map(Running, launches))
        for server in running:
            server.wait_until_ready()
        yield running
    finally:
        for server in running:
            server.terminate()
        for server in running:
            server.stop()


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listening in sockets:
            listening.bind(("127.0.0.1", 0))
        return [listening.getsockname()[1] for listening in sockets]


def _die_with_parent() -> None:
    """Let Linux end the server if the test session is killed, which runs no clean-up."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
