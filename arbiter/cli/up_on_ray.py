"""``arbiter up --ray``: start the servers of a configuration on the machines of a Ray cluster."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from arbiter.cli.endings import say
from arbiter.cli.up_signals import run_with_servers
from arbiter.config.config import Config
from arbiter.protocols.errors import ConfigError
from arbiter.servers.plan_types import Launch


def check_ray_options(address: str, *, print_: bool, host: str | None) -> None:
    """Raise ``ConfigError`` for what ``--ray`` cannot do."""
    if address == "local":
        raise ConfigError(
            "--ray local would start a cluster that ends with this command and that no other command finds: leave out "
            "--ray to start the servers on this machine, or use a running cluster (--ray auto)"
        )
    if print_:
        raise ConfigError("--print shows the commands of this machine, and with --ray each machine has its own")
    if host is not None:
        raise ConfigError(
            f"--host {host}: with --ray each server listens on the address of its machine in the cluster; leave it out"
        )


async def up_on_ray(
    address: str, config: Config, source: str, launches: Sequence[Launch], logs: Path, command: Sequence[str]
) -> int:
    """Keep the servers up until the command ends, and return its exit status. Without a command, wait forever."""
    from arbiter.distributed.published_servers import keys_of  # with Ray, it takes long to import
    from arbiter.distributed.ray_fleet import open_ray_fleet
    from arbiter.distributed.ray_library import connect, ray_module

    ray_module("arbiter up --ray")
    ray = await anyio.to_thread.run_sync(partial(connect, address, 0), abandon_on_cancel=True)
    say(f"starting {len(launches)} servers in the Ray cluster; log files, on their machines: {logs}")
    async with open_ray_fleet(ray, config, source, launches, logs, say) as fleet:
        hosts = await fleet.ready()
        if command:
            return await run_with_servers(command)
        keys = keys_of(config)
        say(
            f"all servers are ready: {', '.join(f'{name} at {host}:{keys[name].port}' for name, host in hosts.items())}"
        )
        arguments = f"{shlex.quote(source)} --workers N --ray {shlex.quote(address)}"
        say(f"next, in another terminal: arbiter bench {arguments}; Ctrl-C here stops the servers")
        await anyio.sleep_forever()
    return 0
