"""The table ``ray``: runs on several workers."""

from typing import Annotated

import msgspec

from arbiter.config.base import ConfigTable


class RayTable(ConfigTable, frozen=True):
    """The workers of ``arbiter bench`` and ``arbiter collect`` on [Ray](../how-to/run-on-ray.md).

    Other commands do not read this table.
    """

    workers: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The number of workers. 0: the command solves all problems itself, without Ray."""
    address: str = "local"
    """The cluster: ``local`` starts one on this machine, ``auto`` uses the one that runs here or that ``RAY_ADDRESS``
    names. Otherwise the address of its head, such as ``10.0.0.7:6379``.
    """
    num_cpus: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """The CPUs that Ray reserves for each worker."""
    lease: Annotated[float, msgspec.Meta(ge=3, le=3600)] = 30.0
    """The time in seconds after which the problems of a worker that stands still go to others."""
