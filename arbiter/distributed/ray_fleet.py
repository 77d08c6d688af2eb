"""Servers on a Ray cluster: one actor for each group of servers that share GPUs, in a placement group of its own."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec

from arbiter.config.config import Config
from arbiter.distributed import ray_library
from arbiter.distributed.published_servers import ServerKey, actor_name, keys_of, published
from arbiter.distributed.ray_library import (
    PAUSE,
    Handle,
    answered,
    check_versions,
    end_actors,
    error_of,
    first_line,
    is_reachable,
    until_gone,
)
from arbiter.distributed.ray_servers import RayServers, ServersEnd, ServersJob, ServersNews, ServersPlace
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.servers.fleet import GRACE_SECONDS, Patience, first_error
from arbiter.servers.plan_types import Launch

_LOOPBACK = ("127.0.0.1", "::1")
_ENDING = 2 * GRACE_SECONDS  # seconds that an actor has to stop its servers
_TRIES = 5  # times that an actor may die before its servers were ready
_CALLS = 8  # calls of an actor that may run at the same time
_encode = msgspec.json.encode
Notify = Callable[[str], None]


class ServerGroup(NamedTuple):
    """Servers that must run on one machine: they share GPUs, or are replicas with their router.

    ``models`` are keys after ``models.``. ``gpus`` are the numbers in the configuration, in increasing order.
    """

    models: tuple[str, ...]
    launches: tuple[str, ...]
    gpus: tuple[int, ...]
    keys: tuple[ServerKey, ...]

    @property
    def name(self) -> str:
        """The group for people."""
        return ", ".join(self.launches)


class ClusterNode(NamedTuple):
    """A machine of the cluster, and the number of its GPUs."""

    name: str
    gpus: int


def groups_of(config: Config, launches: Sequence[Launch]) -> list[ServerGroup]:
    """Return the groups of ``launches``, which are those of ``config``, in their order."""
    parts: list[list[Launch]] = []
    for launch in launches:
        joined = [part for part in parts if any(_belong(launch, one) for one in part)]
        parts = [part for part in parts if part not in joined]
        parts.append([*(one for part in joined for one in part), launch])
    return [_group(config, part) for part in parts]


def _belong(one: Launch, other: Launch) -> bool:
    return one.place == other.place or not {*one.gpus}.isdisjoint(other.gpus)


def _group(config: Config, launches: Sequence[Launch]) -> ServerGroup:
    ports = {launch.port for launch in launches}
    keys = {name: key for name, key in keys_of(config).items() if key.port in ports}
    gpus = sorted({gpu for launch in launches for gpu in launch.gpus})
    names = tuple(launch.name for launch in launches)
    return ServerGroup(tuple(keys), names, tuple(gpus), tuple(sorted({*keys.values()})))


def nodes_of(found: Sequence[Mapping[str, object]]) -> list[ClusterNode]:
    """Return the living machines of what ``ray.nodes()`` returned."""
    living = msgspec.convert([one for one in found if one["Alive"]], list[_RayNode])
    return [ClusterNode(one.name, int(one.resources.get("GPU", 0))) for one in living]


class _RayNode(msgspec.Struct):
    name: str = msgspec.field(name="NodeManagerAddress")
    resources: dict[str, float] = msgspec.field(name="Resources", default_factory=dict[str, float])


def check_room(groups: Sequence[ServerGroup], nodes: Sequence[ClusterNode]) -> None:
    """Raise ``ConfigError`` if the cluster lacks the GPUs that ``groups`` name. Those that others use count as well."""
    asked, there = sum(len(group.gpus) for group in groups), sum(node.gpus for node in nodes)
    largest = max((node.gpus for node in nodes), default=0)
    if asked <= there and all(len(group.gpus) <= largest for group in groups):
        return
    wanted = "; ".join(f"{group.name}: {len(group.gpus)}" for group in groups if group.gpus)
    has = ", ".join(f"{node.name}: {node.gpus}" for node in nodes)
    raise ConfigError(
        f"the servers need {asked} GPUs ({wanted}), and those of one group need one machine. The Ray cluster has "
        f"{there} ({has}). Start Ray on more machines, name fewer gpus, or start fewer servers (--only)"
    )


def check_free(groups: Sequence[ServerGroup], names: Sequence[str]) -> None:
    """Raise ``ConfigError`` if the cluster has one of the servers already. ``names`` are those of all its actors."""
    there = published(names)
    for group in groups:
        for key in group.keys:
            if key in there:
                raise ConfigError(
                    f"the Ray cluster has a server of {key.model} on port {key.port} already: stop the other "
                    "arbiter up --ray, or give models another port (url)"
                )


class RayFleet:
    """Servers on a cluster. Create it with ``open_ray_fleet``."""

    def __init__(self, ray: Handle, jobs: Mapping[ServerGroup, ServersJob], notify: Notify) -> None:
        self._ray = ray
        self._notify = notify
        self._placements: list[Handle] = []
        self._actors = {group: self._started(group, job) for group, job in jobs.items()}
        self._hosts: dict[ServerGroup, str] = {}
        self._are_ready = anyio.Event()
        self._is_gone = False

    async def ready(self) -> dict[str, str]:
        """Wait until every server has been ready. Return the addresses of their machines, by the models' keys."""
        await self._are_ready.wait()
        return {name: host for group, host in self._hosts.items() for name in group.models}

    async def run(self) -> None:
        """Keep the servers running. Raises the error that ended one of them."""
        async with anyio.create_task_group() as tasks:
            for group in self._actors:
                tasks.start_soon(self._keep, group)
                tasks.start_soon(self._tell, group)

    async def watch(self) -> None:
        """Raise ``RunError`` when the cluster has gone. Never returns."""
        await until_gone(self._ray)
        self._is_gone = True
        raise _gone("it no longer answers")

    async def stop(self) -> None:
        """Stop all servers, and free what they had in the cluster. Without a cluster, nothing is left of them."""
        if self._is_gone:
            return
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_ENDING):
                async with anyio.create_task_group() as tasks:
                    for group in self._actors:
                        tasks.start_soon(self._stop, group)
            await end_actors(self._ray, self._actors.values(), self._placements)

    def _started(self, group: ServerGroup, job: ServersJob) -> Handle:
        """Start the actor of ``group`` in a placement group of its own, which keeps its GPUs while it starts again."""
        needed = {"CPU": 1, **({"GPU": len(group.gpus)} if group.gpus else {})}
        placement = self._ray.util.placement_group([needed], strategy="STRICT_PACK")
        self._placements.append(placement)
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(placement)
        actor = self._ray.remote(RayServers).options(
            name=actor_name(group.keys),
            num_cpus=1,
            num_gpus=len(group.gpus),
            scheduling_strategy=strategy,
            max_restarts=-1,
            max_concurrency=_CALLS,
        )
        return actor.remote(_encode(job))

    async def _keep(self, group: ServerGroup) -> None:
        """Run the servers of ``group`` until they end by themselves; again after each death of their actor."""
        deaths = 0
        while True:
            try:
                node, end = await self._run(group, again=deaths > 0)
            except self._ray.exceptions.RayActorError as error:
                if not await is_reachable(self._ray):
                    await anyio.sleep_forever()  # ``watch`` ends the fleet
                deaths = 1 if self._hosts.pop(group, None) else deaths + 1
                if deaths > _TRIES:
                    raise RunError(f"the process of {group.name} died {deaths} times: {first_line(error)}") from error
                self._notify(
                    f"the process of {group.name} in the cluster died; Ray starts it again where there is room"
                )
                await anyio.sleep(PAUSE)
            except self._ray.exceptions.RayError as error:
                raise _gone(first_line(error)) from error
            else:
                if end.error is not None:
                    raise error_of(f"on {node}", *end.error)
                return

    async def _run(self, group: ServerGroup, *, again: bool) -> tuple[str, ServersEnd]:
        actor = self._actors[group]
        place = msgspec.json.decode(
            await answered(self._ray, actor.place.remote, lambda: self._notify(_waits(group))), type=ServersPlace
        )
        check_versions(f"the process of {group.name}", place.node, place.versions, ray_library.versions())
        self._notify(f"{group.name} on {place.node}: {place.address} (process {place.process})")
        if place.address not in _LOOPBACK:
            self._notify(
                f"warning: anybody in the network of {place.node} can use the server of {group.name}: it listens on "
                f"{place.address}"
            )
        return place.node, msgspec.json.decode(await actor.run.remote(again), type=ServersEnd)

    async def _tell(self, group: ServerGroup) -> None:
        while True:
            try:
                news = msgspec.json.decode(await self._actors[group].news.remote(), type=ServersNews)
            except self._ray.exceptions.RayActorError:  # ``_keep`` says so
                await anyio.sleep(PAUSE)
                continue
            except self._ray.exceptions.RayError as error:
                raise _gone(first_line(error)) from error
            for line in news.lines:
                self._notify(line)
            if news.address is not None:
                self._hosts[group] = news.address
            if len(self._hosts) == len(self._actors):
                self._are_ready.set()

    async def _stop(self, group: ServerGroup) -> None:
        with suppress(self._ray.exceptions.RayError):
            await self._actors[group].stop.remote()


@asynccontextmanager
async def open_ray_fleet(
    ray: Handle,
    config: Config,
    source: str,
    launches: Sequence[Launch],
    logs: Path,
    notify: Notify,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
) -> AsyncGenerator[RayFleet]:
    """Start the servers of ``launches``, which are those of ``config``; all are stopped when the block ends.

    ``ray`` is connected to the cluster. ``logs`` is the absolute path of the folder of log files, on each machine.
    ``notify`` is called with a line of text for each event. If a server cannot be started, the block is cancelled and
    its error is raised. Raises ``ConfigError`` if the cluster has no room for them, or has them already, and
    ``RunError`` if it fails.
    """
    groups = groups_of(config, launches)
    with first_error():
        check_room(groups, nodes_of(await anyio.to_thread.run_sync(ray.nodes)))
        check_free(groups, await anyio.to_thread.run_sync(ray.util.list_named_actors))
        groups.sort(key=lambda group: -len(group.gpus))  # the largest first, while a machine has room for it
        jobs = {group: ServersJob(config, source, group.models, group.gpus, str(logs), patience) for group in groups}
        fleet = await anyio.to_thread.run_sync(partial(RayFleet, ray, jobs, notify))
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fleet.run)
                tasks.start_soon(fleet.watch)
                yield fleet
                tasks.cancel_scope.cancel()
        finally:
            await fleet.stop()


def _waits(group: ServerGroup) -> str:
    gpus = f"{len(group.gpus)} GPUs on one machine" if group.gpus else "a CPU"
    return f"{group.name} does not start: it needs {gpus} that nobody else uses (ray status shows who uses them)"


def _gone(reason: str) -> RunError:
    return RunError(
        f"the Ray cluster failed, and the servers in it ended: {reason}. Start the cluster, then arbiter up"
    )
