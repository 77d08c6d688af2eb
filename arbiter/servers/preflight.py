"""Checks of this machine before a server starts: GPUs, checkpoints and free ports."""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from arbiter.protocols.errors import ConfigError
from arbiter.servers.plan_types import Launch

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")


def check(launches: Sequence[Launch], gpus: Sequence[str]) -> None:
    """Raise ``ConfigError`` for the first key that this machine with ``gpus`` cannot satisfy, with the fix."""
    for launch in launches:
        _check_gpus(launch, gpus)
        if launch.path is not None:
            _check_checkpoint(launch, launch.path)
    for launch in launches:
        for port in launch.ports:
            _check_port(launch, port)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs of this machine as CUDA names them, or only those in ``CUDA_VISIBLE_DEVICES`` if it is set.

    The number of a GPU in a configuration is its index in this list, so that a batch system can choose the GPUs.
    """
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"],  # noqa: S607 - found in PATH, where the driver installs it
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(map(str, range(count)))
    return tuple(name.strip() for name in chosen.split(",") if name.strip())


def _check_gpus(launch: Launch, gpus: Sequence[str]) -> None:
    if all(gpu < len(gpus) for gpu in launch.gpus):
        return
    if not gpus:
        raise ConfigError(
            f'{launch.place}.server: this machine has no GPU (nvidia-smi -L lists none): set device = "cpu", or '
            "start the server on another machine"
        )
    there = ", ".join(str(index) for index in range(len(gpus)))
    raise ConfigError(
        f"{launch.place}.server.gpus names GPU {max(launch.gpus)}, but this machine has {len(gpus)}: {there}. Use one "
        "of these, shared if needed (memory_fraction), or start the server on another machine"
    )


def _check_checkpoint(launch: Launch, path: str) -> None:
    """Raise ``ConfigError`` for a path without a model in it. A path that does not exist may be a hub name."""
    key, place = f"{launch.place}.server.path", Path(path).expanduser()
    if place.is_file() or not (place.exists() or _is_local(path)):
        return
    if not place.is_dir():
        raise ConfigError(f"{key}: there is no file or folder {path!r}; correct the path, or use a hub name")
    if not (place / "config.json").is_file():
        raise ConfigError(f"{key}: {path} is not a checkpoint: it has no config.json; use the folder of a checkpoint")
    if not any(any(place.glob(pattern)) for pattern in _WEIGHTS):
        raise ConfigError(f"{key}: {path} has no weights (no {', '.join(_WEIGHTS)}): download it again")


def _is_local(path: str) -> bool:
    """Whether ``path`` is not a hub name, which is OWNER/NAME without a folder OWNER on this machine."""
    owner = Path(path).parent
    if owner.is_dir() and owner != Path():
        return True
    return path.startswith(("/", ".", "~")) or path.lower().endswith(".gguf") or path.count("/") > 1


def _check_port(launch: Launch, port: int) -> None:
    family = socket.AF_INET6 if ":" in launch.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: a port that was just closed counts as free
        try:
            listening.bind((launch.host, port))
        except OSError as error:
            raise ConfigError(
                f"{launch.place}.url: {launch.name} cannot listen on {launch.host}:{port} ({error.strerror}): stop the "
                "process that uses the port (`arbiter up` in another terminal?), or change the port"
            ) from error
