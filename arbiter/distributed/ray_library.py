"""Import Ray and connect to a cluster. Needs the extra ``ray``."""

# Ray is not in the development extra, because it is large
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

import importlib.metadata
import math
import os
import platform
from typing import Any

from arbiter.protocols.errors import ConfigError, not_installed

LOCAL = "local"
"""The address that starts a cluster on this machine, which ends with the command."""

AUTO = "auto"
"""The address of the cluster that runs on this machine, or that the variable ``RAY_ADDRESS`` names."""


def ray_module() -> Any:  # noqa: ANN401 - Ray has no types here
    """Return the module ``ray``. Raises ``ConfigError`` if it is not installed.

    Statistics about the use of Ray are switched off, unless the environment says otherwise. Its warnings about actors,
    which go to standard error past all loggers, are switched off as well.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(not_installed("a run on several workers (--workers)", "Ray", "ray")) from error
    return ray


def connect(address: str, cpus: float) -> Any:  # noqa: ANN401 - as above
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
