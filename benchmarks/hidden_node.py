"""A node of a local Ray cluster whose processes do not see one folder. Needs Linux, and the right to mount."""

import ctypes
import os
import subprocess
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NEW_MOUNTS, _PRIVATE = 0x20000, 1 << 18 | 1 << 14  # CLONE_NEWNS; MS_PRIVATE and MS_REC


def can_hide() -> bool:
    """Return whether this process may hide a folder from a child."""
    try:
        command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - ours
    except FileNotFoundError:
        return False


@contextmanager
def hidden_node(cluster: Any, folder: Path, cpus: int) -> Generator[None]:  # noqa: ANN401 - Ray has no types
    """Add a node, whose processes see an empty ``folder``, to a ``Cluster`` of ``ray.cluster_utils``.

    The cluster needs ``shutdown_at_exit=False``, because the node is added in another thread. The node ends with the
    block: Ray's processes end with the thread that started them.
    """

    def add() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        _called(libc.unshare(_NEW_MOUNTS))  # of this thread and of the processes that it starts
        _called(libc.mount(b"none", b"/", None, _PRIVATE, None))
        _called(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, None))
        cluster.add_node(num_cpus=cpus)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(add).result()
        yield


def _called(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
