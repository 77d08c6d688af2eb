"""From a configuration to its launches: one per server, in the order in which they start."""

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

import arbiter.pocket
from arbiter.config.config import Config
from arbiter.config.model_tables import ServedTable
from arbiter.config.server_tables import Program, ServerTable
from arbiter.protocols.errors import ConfigError
from arbiter.servers.engines import COMMANDS, LaunchJob, router
from arbiter.servers.interpreters import Interpreter
from arbiter.servers.plan_types import EVERYWHERE, Launch, LaunchPlan
from arbiter.servers.unsupported import refusal

_SCORERS = ("prm", "router")
_BY_TOKENS = ("score", "label-tokens")  # dialects that score with the token probabilities of a text generator
REPLICA_PORTS = 100
"""Replica k listens on the port of ``url`` plus 100 k. The router's metrics use the port after the last replica's."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Find = Callable[[Program, str | None], Interpreter]
FindAt = Callable[[str], Find]
"""How interpreters are found for the server at a place."""


class _PlannedServer(msgspec.Struct, frozen=True):
    """A server that one or several tables need. ``names`` are the models, and ``place`` is the key for errors."""

    names: tuple[str, ...]
    place: str
    table: ServedTable
    server: ServerTable
    host: str

    @property
    def name(self) -> str:
        return "+".join(self.names)

    @property
    def scores(self) -> bool:
        """Whether it is a classifier, which generates no text."""
        return self.names[0] in _SCORERS and self.table.scores not in _BY_TOKENS

    @property
    def port(self) -> int:
        return urlsplit(self.table.url).port or 0


def plan(config: Config, source: str, find: Find, *, only: Sequence[str] = (), host: str | None = None) -> LaunchPlan:
    """Return the servers to start for ``config``, or only those of the models ``only``, and notes for the user.

    ``host`` replaces the address that they listen on. ``find`` finds an engine's interpreter. Raises ``ConfigError``
    with ``source``, the key and the fix.
    """
    servers, notes = _planned_servers(config, source, host)
    places = _chosen(servers, only, source)
    launches = _launches(servers, source, lambda place: find if place in places else _not_searched)
    _check_ports(launches, source)
    chosen = [launch for launch in launches if launch.place in places]
    names = {launch.name for launch in chosen}
    kept = (msgspec.structs.replace(one, after=tuple(name for name in one.after if name in names)) for one in chosen)
    open_to_all = [one.name for one in servers if one.host in EVERYWHERE and one.name in names]
    if open_to_all:
        models = ", ".join(open_to_all)
        notes += (f"warning: anybody in the network can use the server of {models}: it listens on all addresses",)
    return LaunchPlan(tuple(kept), notes)


def here() -> tuple[str, ...]:
    """Return the host names and addresses of this machine."""
    return (*_LOOPBACK, *EVERYWHERE, socket.gethostname().lower(), socket.getfqdn().lower())


def _planned_servers(config: Config, source: str, host: str | None) -> tuple[list[_PlannedServer], tuple[str, ...]]:
    found: dict[tuple[str, int | None, str], _PlannedServer] = {}
    notes: list[str] = []
    for name, table in config.models.configured().items():
        if not isinstance(table, ServedTable):
            continue
        place = f"{source}: models.{name}"
        if table.server is None:
            notes.append(f"models.{name} is not started: it has no table [models.{name}.server]")
            continue
        parts = urlsplit(table.url)
        if parts.hostname not in here():
            notes.append(f"models.{name} is not started: its url names another machine, {parts.hostname}")
            continue
        one = _PlannedServer((name,), place, table, table.server, host or table.server.host)
        if one.host in _LOOPBACK and parts.hostname not in (*_LOOPBACK, *EVERYWHERE):
            raise ConfigError(
                f"{place}.url names {parts.hostname}, but its server would listen only on {one.host}: write 127.0.0.1 "
                f"in the url, or set models.{name}.server.host"
            )
        key = "here", parts.port, table.model
        found[key] = _merged(found[key], one, source) if key in found else one
    if not found:
        reasons = "; ".join(notes) or "its models run in process"
        raise ConfigError(
            f'{source}: there is nothing to start: {reasons}. To start the server of a model, set backend = "http", a '
            "url of this machine and a table [models.NAME.server] (docs/how-to/start-servers.md)"
        )
    return list(found.values()), tuple(notes)


def _merged(first: _PlannedServer, second: _PlannedServer, source: str) -> _PlannedServer:
    """Return the one server of two tables with the same url and model. Raises ``ConfigError`` if they contradict."""
    priorities = {one.table.priority for one in (first, second)} - {None}
    if first.server != second.server or len(priorities) > 1:
        raise ConfigError(
            f"{source}: models.{first.names[0]} and models.{second.names[0]} share one server, because they have the "
            "same url and model: make their server tables and their priority equal, or give them different ports"
        )
    if first.scores != second.scores:
        raise ConfigError(
            f"{source}: models.{first.names[0]} and models.{second.names[0]} have the same url and model, but only one "
            "of them scores, and one server cannot do both: give them different ports"
        )
    table = first.table if first.table.priority else second.table
    return msgspec.structs.replace(first, names=(*first.names, *second.names), table=table)


def _launches(servers: Sequence[_PlannedServer], source: str, find: FindAt) -> list[Launch]:
    shared = Counter(gpu for one in servers for gpu in one.server.gpus)
    last: dict[int, str] = {}  # the latest server on each GPU
    taken: dict[int, float] = {}  # the share of each GPU's memory that earlier servers take
    launches: list[Launch] = []
    for one in servers:
        if reason := refusal(one.table, one.server, one.scores):
            raise ConfigError(f"{one.place}.{reason}")
        if any(shared[gpu] > 1 for gpu in one.server.gpus):
            _check_share(one, taken, source)
        launches += _of(one, find(one.place), taken, last)
        for gpu in one.server.gpus:
            taken[gpu] = taken.get(gpu, 0.0) + (one.server.memory_fraction or 0.0)
    return launches


def _check_share(one: _PlannedServer, taken: dict[int, float], source: str) -> None:
    fraction = one.server.memory_fraction
    if fraction is None and one.server.engine != "llama.cpp":
        raise ConfigError(
            f"{one.place}.server.memory_fraction is missing: other servers use the same GPU, and this one would take "
            "almost all of its memory. Set it for each of them, less than 1 in total"
        )
    for gpu in one.server.gpus:
        if round(taken.get(gpu, 0.0) + (fraction or 0.0), 6) >= 1:
            raise ConfigError(
                f"{source}: the memory_fraction of the servers on GPU {gpu} add up to 1 or more with "
                f"models.{one.names[0]}.server.memory_fraction = {fraction:g}: lower one, or use another GPU"
            )


def _of(one: _PlannedServer, find: Find, taken: dict[int, float], last: dict[int, str]) -> list[Launch]:
    """Return the launch of one server, or those of its replicas and of the router in front of them."""
    server, several = one.server, one.server.replicas > 1
    each = server.tensor_parallel * server.data_parallel
    python = _found(find, one, server.engine, server.python)
    replicas: list[Launch] = []
    for index in range(server.replicas):
        gpus = server.gpus[index * each : (index + 1) * each]
        port = one.port + (REPLICA_PORTS * (index + 1) if several else 0)
        job = LaunchJob(
            server=_with_proposer(server, one.place),
            path=resolved(server.path or one.table.model, f"{one.place}.server.path"),
            model=one.table.model,
            scores=one.scores,
            priority=one.table.priority,
            host="127.0.0.1" if several else one.host,
            port=port,
            fraction=_as_counted(server, max((taken.get(gpu, 0.0) for gpu in gpus), default=0.0)),
        )
        command, environment = COMMANDS[server.engine](job, python)
        name = f"{one.name}-{index + 1}" if several else one.name
        replicas.append(
            Launch(
                name=name,
                place=one.place,
                program=server.engine,
                scores=one.scores,
                command=tuple(command),
                environment=environment,
                host=job.host,
                port=port,
                ports=(port,),
                path=job.path,
                gpus=gpus,
                after=tuple(dict.fromkeys(last[gpu] for gpu in gpus if gpu in last)),
            )
        )
        last.update(dict.fromkeys(gpus, name))
    return [*replicas, _router(one, replicas, find)] if several else replicas


def _with_proposer(server: ServerTable, place: str) -> ServerTable:
    """Return the table with the path of the speculation model resolved."""
    if server.speculation is None or server.speculation.model is None:
        return server
    model = resolved(server.speculation.model, f"{place}.server.speculation.model")
    speculation = msgspec.structs.replace(server.speculation, model=model)
    return msgspec.structs.replace(server, speculation=speculation)


def _router(one: _PlannedServer, replicas: Sequence[Launch], find: Find) -> Launch:
    metrics_port = one.port + REPLICA_PORTS * (len(replicas) + 1)
    python = _found(find, one, "sglang", one.server.python if one.server.engine == "sglang" else None)
    command, environment = router(python, [each.address for each in replicas], one.host, one.port, metrics_port)
    return Launch(
        name=one.name,
        place=one.place,
        program="router",
        scores=one.scores,
        command=tuple(command),
        environment=environment,
        host=one.host,
        port=one.port,
        ports=(one.port, metrics_port),
        after=tuple(each.name for each in replicas),
    )


def _found(find: Find, one: _PlannedServer, program: Program, named: str | None) -> Interpreter:
    try:
        return find(program, named)
    except ConfigError as error:
        raise ConfigError(f"{one.place}.server: {error}") from error


def _as_counted(server: ServerTable, before: float) -> float | None:
    """Return the share of a GPU as the engine counts it: of all memory, for sglang of the memory that is free."""
    if server.memory_fraction is None or server.engine != "sglang":
        return server.memory_fraction
    return round(server.memory_fraction / (1.0 - before), 4)


def resolved(path: str, place: str) -> str:
    """Return ``path``, or the folder of the pocket model ``pocket:ROLE``. Raises ``ConfigError`` naming ``place``."""
    folder = arbiter.pocket.resolved(path)
    if folder != path and not Path(folder).is_dir():
        models = (one.parent.name for one in arbiter.pocket.MODELS.glob("*/config.json"))  # a head has no such file
        known = ", ".join(sorted(arbiter.pocket.PREFIX + name for name in models))
        raise ConfigError(f"{place}: there is no model {path!r}; use one of {known}")
    return folder


def _check_ports(launches: Sequence[Launch], source: str) -> None:
    owners: dict[int, Launch] = {}
    for launch in launches:
        for port in launch.ports:
            if port > 65535:
                raise ConfigError(f"{launch.place}.url: {launch.name} would use port {port} > 65535; use a lower one")
            owner = owners.setdefault(port, launch)
            if owner is not launch:
                raise ConfigError(
                    f"{source}: {owner.name} and {launch.name} would both listen on port {port}: change the url of one "
                    "(replicas use the ports 100, 200, … above it)"
                )


def _chosen(servers: Sequence[_PlannedServer], only: Sequence[str], source: str) -> set[str]:
    """Return the places of the servers of the models ``only``, or of all."""
    known = {name: one.place for one in servers for name in one.names}
    for name in only:
        if name not in known:
            raise ConfigError(f"--only: {source} has no server {name!r} to start; use one of {', '.join(known)}")
    return {known[name] for name in only or known}


def _not_searched(program: Program, named: str | None) -> Interpreter:
    """Return any interpreter, for a server that does not start here: it may be another machine's."""
    return Interpreter(named or program)
