"""Import Ray and connect to a cluster. Needs the extra ``ray``."""

# Ray is not in the development extra, because it is large
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

import importlib.metadata
import math
import os
import platform
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from arbiter.protocols import errors
from arbiter.protocols.errors import ArbiterError, ConfigError, RunError, not_installed

PAUSE = 0.5
"""The time in seconds before an actor that died is called again."""

_T = TypeVar("_T")
_LOOK = 5.0  # seconds between two questions whether the cluster is still there
_SILENT = 10.0  # seconds that it has to answer
_LONG = 60.0  # seconds after which an actor that does not start is mentioned

Handle = Any
"""Ray itself, or a handle of an actor. Ray has no types here."""

LOCAL = "local"
"""The address that starts a cluster on this machine, which ends with the command."""

AUTO = "auto"
"""The address of the cluster that runs on this machine, or that the variable ``RAY_ADDRESS`` names."""


def ray_module(what: str = "a run on several workers (--workers)") -> Handle:
    """Return the module ``ray``. Raises ``ConfigError`` if it is not installed, which says ``what`` needs it.

    Statistics about the use of Ray are switched off, unless the environment says otherwise. Its warnings about actors,
    which go to standard error past all loggers, are switched off as well.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(not_installed(what, "Ray", "ray")) from error
    return ray


def connect(address: str, cpus: float) -> Handle:
    """Return ``ray``, connected to the cluster at ``address``. A local one gets room for ``cpus``.

    A connection that this process has already is used. A local cluster gets a second try: its processes give up
    early on a busy machine. Raises ``ConfigError`` if there is no such cluster, or if it has another version of Ray or
    Python.
    """
    ray = ray_module()
    for last in (False, True) if address == LOCAL else (True,):
        if ray.is_initialized():
            break
        try:
            ray.init(**_where(address, cpus), namespace="arbiter", log_to_driver=False, logging_level="error")
        except Exception as error:  # Ray raises bare exceptions here
            ray.shutdown()
            if last:
                raise ConfigError(_refused(address, error)) from error
    return ray


def _where(address: str, cpus: float) -> dict[str, Any]:
    if address == LOCAL:
        return {"address": LOCAL, "num_cpus": math.ceil(cpus), "include_dashboard": False}
    return {"address": address}


def _refused(address: str, error: Exception) -> str:
    if address == LOCAL:
        return (
            f"Ray cannot start on this machine: {error}. On a busy machine it needs more time: repeat the command, or "
            f"start it with ray start --head, and use --ray {AUTO}"
        )
    return (
        f"cannot connect to the Ray cluster {address!r}: {error}. Start one with ray start --head, with the same "
        f"versions of Python and Ray as here, or use --ray {LOCAL}"
    )


def on_this_node() -> Any:  # noqa: ANN401 - as above
    """Return the strategy that places an actor on the node of this process, also when it starts again."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray_module().get_runtime_context().get_node_id(), soft=False)


def versions() -> dict[str, str]:
    """Return the versions that must be the same in all processes of a run."""
    own = importlib.metadata.version("arbiter-reasoning")
    return {"Arbiter": own, "Python": platform.python_version(), "Ray": ray_module().__version__}


def check_versions(what: str, node: str, found: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` if ``what`` on ``node`` has other versions than ``here``."""
    different = [f"{name} {version} (here {here[name]})" for name, version in found.items() if version != here[name]]
    if different:
        raise ConfigError(f"{what} on {node} has {', '.join(different)}: install the same versions on all machines")


async def answered(ray: Handle, call: Callable[[], Awaitable[_T]], slow: Callable[[], None]) -> _T:
    """Return what an actor answers. While Ray starts it again, Ray refuses calls. ``slow`` is called after a minute.

    The call may arrive several times.
    """
    limit = _LONG
    while True:
        with suppress(ray.exceptions.ActorUnavailableError), anyio.move_on_after(limit) as waiting:
            return await call()
        if waiting.cancelled_caught:
            limit = math.inf
            slow()
        await anyio.sleep(PAUSE)


async def until_gone(ray: Handle) -> None:
    """Return when the cluster has left two questions in a row without an answer.

    Without its head, Ray lets all calls wait, and ends this process after a minute without a word.
    """
    unanswered = 0
    while unanswered < 2:
        await anyio.sleep(_LOOK)
        unanswered = 0 if await is_reachable(ray) else unanswered + 1


async def is_reachable(ray: Handle) -> bool:
    """Return whether the cluster answers now."""
    with anyio.move_on_after(_SILENT):
        await anyio.to_thread.run_sync(ray.nodes, abandon_on_cancel=True)
        return True
    return False


async def end_actors(ray: Handle, actors: Iterable[Handle], placements: Iterable[Handle] = ()) -> None:
    """End ``actors`` and free ``placements``, unless the cluster does not answer: then nothing is left of them."""

    def end() -> None:
        for actor in actors:
            ray.kill(actor)
        for placement in placements:
            ray.util.remove_placement_group(placement)

    with anyio.move_on_after(_SILENT), suppress(Exception):  # Ray raises bare exceptions here
        await anyio.to_thread.run_sync(end, abandon_on_cancel=True)


def error_of(where: str, kind: str, text: str) -> ArbiterError:
    """Return the error of another process, whose class is named ``kind``. Its text begins with ``where``."""
    found = getattr(errors, kind, RunError)
    return found(f"{where}: {text}")


def first_line(error: BaseException) -> str:
    """Return the first line of the text of an error: those of Ray go on with a traceback."""
    return str(error).strip().partition("\n")[0]
