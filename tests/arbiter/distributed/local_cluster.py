"""A Ray cluster of two nodes on this machine, at 127.0.0.1."""

import os
from contextlib import suppress
from importlib import import_module
from typing import Any

_TRIES = 3  # processes of Ray give up early on a busy machine


def two_nodes(*gpus: int) -> Any:
    """Start a cluster whose nodes have two CPUs each. ``gpus`` are the numbers of their GPUs, which Ray only counts."""
    Cluster: Any = import_module("ray.cluster_utils").Cluster  # noqa: N806 - a class; Ray is not installed everywhere

    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray waits for the machine's own address
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    head, other = ({"num_cpus": 2, "num_gpus": count} for count in gpus or (0, 0))
    for last in [*[False] * (_TRIES - 1), True]:
        cluster = Cluster()
        try:
            cluster.add_node(**head)
            cluster.add_node(**other)
        except Exception:  # Ray raises bare exceptions here
            with suppress(Exception):
                cluster.shutdown()
            if last:
                raise
        else:
            return cluster
    return None
