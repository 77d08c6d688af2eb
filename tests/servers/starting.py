"""Real servers as child processes: on free ports, waited for until they answer, and stopped whatever happens."""

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

READY_SECONDS = 600.0  # on a machine that has other things to do; an idle one needs a tenth
_PATIENCE = 15.0  # seconds for a server to end by itself
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Launch(msgspec.Struct, frozen=True):
    """What to start: ``name`` is for messages, ``ready`` the path that answers 200 once the server serves."""

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
    """A server's process, which leads a group of its own; it is stopped when its block ends."""

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
        atexit.register(self.kill)  # should nothing else come to it

    def wait_until_ready(self) -> None:
        """Raises ``RuntimeError`` with the end of the server's log if it ends, or is not ready in time."""
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
        """End it at once, with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        atexit.unregister(self.kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ask_to_end()
        self.stop()

    def ask_to_end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """Wait for it after ``ask_to_end``; what has not ended in time is killed, and what its children left."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE)
        self.kill()


@contextlib.contextmanager
def started(launches: Sequence[Launch]) -> Generator[list[Running]]:
    """Servers that start at the same time, each ready; all are stopped when the block ends, however it ends."""
    running: list[Running] = []
    try:
        running.extend(map(Running, launches))
        for server in running:
            server.wait_until_ready()
        yield running
    finally:
        for server in running:
            server.ask_to_end()
        for server in running:
            server.stop()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens at now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listening in sockets:
            listening.bind(("127.0.0.1", 0))
        return [listening.getsockname()[1] for listening in sockets]


def _die_with_parent() -> None:
    """A test session that is killed runs no clean-up: Linux then ends its servers, and these their own children."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
