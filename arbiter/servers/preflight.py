"""What this machine must have before anything is started: GPUs, free ports, checkpoints."""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from arbiter.protocols.errors import ConfigError
from arbiter.servers.plan_types import Launch

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")


def check(launches: Sequence[Launch], gpus: Sequence[str]) -> None:
    """Raise ``ConfigError`` naming the first key that this machine, which has ``gpus``, cannot do, and the way out."""
    for launch in launches:
        _check_gpus(launch, gpus)
        if launch.path is not None:
            _check_checkpoint(launch, launch.path)
    for launch in launches:
        for port in launch.ports:
            _check_port(launch, port)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this machine, as CUDA names them; those alone that ``CUDA_VISIBLE_DEVICES`` leaves, if it is set.

    The number of a GPU in a configuration is its place here, so that a batch system may choose which they are.
    """
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"],  # noqa: S607 - wherever the driver put it
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
            f'{launch.place}.server: there is no GPU on this machine (nvidia-smi -L shows none): set device = "cpu", '
            "or start it on another machine"
        )
    there = ", ".join(str(index) for index in range(len(gpus)))
    raise ConfigError(
        f"{launch.place}.server.gpus names GPU {max(launch.gpus)}, and this machine has {len(gpus)}: {there}. Name "
        "others, share one (memory_fraction), or start the server on another machine"
    )


def _check_checkpoint(launch: Launch, path: str) -> None:
    """Refuse a file or folder without a model in it. What is not on this machine may be a hub name."""
    key, place = f"{launch.place}.server.path", Path(path).expanduser()
    if place.is_file() or not (place.exists() or _is_local(path)):
        return
    if not place.is_dir():
        raise ConfigError(f"{key}: there is no file or folder {path!r}")
    if not (place / "config.json").is_file():
        raise ConfigError(f"{key}: {path} is no checkpoint: there is no config.json in it")
    if not any(any(place.glob(pattern)) for pattern in _WEIGHTS):
        raise ConfigError(f"{key}: there are no weights in {path} (no {', '.join(_WEIGHTS)}): was it loaded whole?")


def _is_local(path: str) -> bool:
    """Whether it is no hub name: that is OWNER/NAME, and there is no folder OWNER here."""
    owner = Path(path).parent
    if owner.is_dir() and owner != Path():
        return True
    return path.startswith(("/", ".", "~")) or path.lower().endswith(".gguf") or path.count("/") > 1


def _check_port(launch: Launch, port: int) -> None:
    family = socket.AF_INET6 if ":" in launch.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: ports that just closed are free
        try:
            listening.bind((launch.host, port))
        except OSError as error:
            raise ConfigError(
                f"{launch.place}.url: {launch.name} cannot listen at {launch.host}:{port} ({error.strerror}): stop "
                "what is there (`arbiter up` in another terminal?), or change the port"
            ) from error
