"""The servers as a table: state, address, memory and load of each."""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.table import Table
from rich.text import Text

from arbiter.servers.fleet import ServerProcess, State

NOTHING = "–"
_COLUMNS = ("server", "state", "address", "GPUs", "memory", "tok/s", "running", "queue", "cached")
_WIDE, _LEFT_OUT = 80, ("address", "GPUs", "cached")  # the addresses are in the lines about servers that are ready
_STYLES: dict[State, str] = {"ready": "green", "starting": "cyan", "restarting": "yellow", "failed": "red"}
_GIB = 2**30
_SMI = ["nvidia-smi", "--query-gpu=index,uuid,memory.used,memory.total", "--format=csv,noheader,nounits"]
_SMI_SECONDS = 5.0


class StatusTable:
    """A status table of ``servers``. ``gpus`` are the machine's GPUs as CUDA names them."""

    def __init__(self, servers: Sequence[ServerProcess], gpus: Sequence[str]) -> None:
        self._servers = servers
        self._gpus = gpus
        self._on_gpus: dict[str, tuple[float, float]] = {}
        self._read_at = float("-inf")

    def table(self, width: int) -> Table:
        """Return the table with the current values. Below ``width`` 80, the columns that matter least are left out."""
        if any(server.launch.gpus for server in self._servers) and time.monotonic() - self._read_at > _SMI_SECONDS:
            self._on_gpus, self._read_at = _memory_of_gpus(), time.monotonic()
        table = Table(box=None, padding=(0, 2, 0, 0))  # nine columns in 80 characters
        shown = [index for index, column in enumerate(_COLUMNS) if width >= _WIDE or column not in _LEFT_OUT]
        for index in shown:
            table.add_column(_COLUMNS[index], justify="left" if index < 4 else "right", no_wrap=True)
        for server in self._servers:
            row = self._row(server)
            table.add_row(*(row[index] for index in shown))
        return table

    def _row(self, server: ServerProcess) -> tuple[str | Text, ...]:
        launch, found = server.launch, server.figures
        return (
            launch.name,
            Text(_state(server), style=_STYLES.get(server.state, "")),
            launch.address.removeprefix("http://"),
            ",".join(map(str, launch.gpus)) or NOTHING,
            self._memory(server),
            _number(server.rate),
            _number(found.running),
            _number(found.queued),
            NOTHING if found.hit_rate is None else f"{found.hit_rate:.1%}",
        )

    def _memory(self, server: ServerProcess) -> str:
        """Return the used memory of its GPUs, by all processes, or without GPUs the resident memory of the server."""
        if server.launch.gpus:
            names = [self._gpus[gpu] for gpu in server.launch.gpus if gpu < len(self._gpus)]
            found = [self._on_gpus[name] for name in names if name in self._on_gpus]
            if not found:
                return NOTHING
            used, total = map(sum, zip(*found, strict=True))
            return f"{used:.1f}/{total:.0f} GiB"
        process = server.process
        return NOTHING if process is None else f"{resident(process.pid) / _GIB:.1f} GiB"


def resident(session: int) -> int:
    """Return the resident memory of all processes of a session, in bytes. Shared memory counts for each process."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            pages += int(fields[21]) if int(fields[3]) == session else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _memory_of_gpus() -> dict[str, tuple[float, float]]:
    """Return used and total memory in GiB, by GPU number and by UUID. Empty without ``nvidia-smi``."""
    found: dict[str, tuple[float, float]] = {}
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        ended = subprocess.run(_SMI, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - ours
        for line in ended.stdout.splitlines():
            index, uuid, used, total = (field.strip() for field in line.split(","))
            found[index] = found[uuid] = float(used) / 1024, float(total) / 1024
    return found


def _state(server: ServerProcess) -> str:
    seconds = time.monotonic() - server.since
    match server.state:
        case "starting":
            return f"starting {seconds:.0f} s"
        case "restarting":
            return f"restarting in {max(0.0, server.next_start - time.monotonic()):.0f} s"
        case "ready" if server.starts > 1:
            return f"ready (start {server.starts})"
        case state:
            return state


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}"
