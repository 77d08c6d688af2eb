"""Which servers run in a Ray cluster, and where: ``arbiter up --ray`` publishes them, and the workers of runs use them.

The names of their actors say what they serve, so that no call is needed to find them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.to_thread
import msgspec

from arbiter.config.config import Config
from arbiter.config.model_tables import RouterTable, ServedTable
from arbiter.distributed.ray_library import PAUSE, Handle
from arbiter.servers.plan import here

_PREFIX = "arbiter-servers:"


class ServerKey(NamedTuple):
    """What two configurations must have in common to mean the same server: the port of its ``url``, and ``model``."""

    port: int
    model: str


def keys_of(config: Config) -> dict[str, ServerKey]:
    """Return the servers that ``arbiter up`` starts for ``config``, by the models' keys after ``models.``."""
    return {
        name: ServerKey(urlsplit(table.url).port or 0, table.model)
        for name, table in config.models.configured().items()
        if isinstance(table, ServedTable) and table.server is not None and urlsplit(table.url).hostname in here()
    }


def actor_name(keys: Sequence[ServerKey]) -> str:
    """Return the name of the actor that runs these servers."""
    return _PREFIX + msgspec.json.encode(sorted(keys)).decode()


def published(names: Iterable[str]) -> dict[ServerKey, str]:
    """Return the servers of a cluster, and the names of their actors, from the ``names`` of all actors."""
    return {
        key: name
        for name in names
        if name.startswith(_PREFIX)
        for key in msgspec.json.decode(name.removeprefix(_PREFIX), type=list[ServerKey])
    }


def with_hosts(config: Config, hosts: Mapping[str, str]) -> Config:
    """Return ``config`` with other machines in the urls of these models, by the models' keys after ``models.``."""
    moved = {name: _moved(table, hosts.get(name)) for name, table in config.models.configured().items()}
    targets = {name: moved.pop(f"targets.{name}") for name in config.models.targets}
    return msgspec.structs.replace(config, models=msgspec.structs.replace(config.models, **moved, targets=targets))


def _moved(table: RouterTable, host: str | None) -> RouterTable:
    if host is None or not isinstance(table, ServedTable):
        return table
    parts = urlsplit(table.url)
    netloc = f"[{host}]:{parts.port}" if ":" in host else f"{host}:{parts.port}"
    return msgspec.structs.replace(table, url=urlunsplit(parts._replace(netloc=netloc)))


async def hosts_of(ray: Handle, config: Config, notify: Callable[[str], None]) -> dict[str, str]:
    """Return the machines on which the cluster has servers of ``config``, by the models' keys after ``models.``.

    Wait until the servers are ready. ``notify`` gets a line for each model.
    """
    there = published(await anyio.to_thread.run_sync(ray.util.list_named_actors))
    hosts: dict[str, str] = {}
    for name, key in keys_of(config).items():
        if key in there:
            notify(f"models.{name} is served in the cluster (arbiter up --ray): waiting for it")
            hosts[name] = await _ready_host(ray, ray.get_actor(there[key]))
            notify(f"models.{name} is at {hosts[name]}:{key.port}")
    return hosts


async def _ready_host(ray: Handle, actor: Handle) -> str:
    while True:
        with suppress(ray.exceptions.ActorUnavailableError):
            host: str | None = await actor.address.remote()
            if host is not None:
                return host
        await anyio.sleep(PAUSE)
