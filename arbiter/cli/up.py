"""``arbiter up``: start the servers that a configuration describes."""

import shlex
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from arbiter.cli.console import guarded, stderr
from arbiter.cli.endings import say
from arbiter.cli.terminal import write_text
from arbiter.cli.up_on_ray import check_ray_options, up_on_ray
from arbiter.cli.up_signals import run_until_signal, run_with_servers
from arbiter.config.config import load_config
from arbiter.protocols.errors import ConfigError
from arbiter.servers.fleet import Fleet, open_fleet, shown
from arbiter.servers.interpreters import find_interpreter, likely_interpreter
from arbiter.servers.plan import plan
from arbiter.servers.plan_types import Launch
from arbiter.servers.preflight import check, visible_gpus
from arbiter.servers.status_table import StatusTable

LOGS = Path("runs") / "servers"
_FIGURES_SECONDS = 60.0  # between plain status tables, where there is no terminal


def up_command(
    config: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    only: str | None = None,
    print_: Annotated[bool, Parameter(name="--print")] = False,
    logs: Path | None = None,
    host: str | None = None,
    ray: str | None = None,
    debug: bool = False,
) -> int:
    """Start the servers that a configuration describes, keep them running, and stop all of them at the end.

    The table `[models.NAME.server]` of a model names the engine and the GPUs of its server
    (docs/how-to/start-servers.md). A server that dies is restarted. Ctrl-C stops all servers. With `-- COMMAND`, the
    command starts when all servers are ready, and the servers stop when it ends. Its exit status becomes that of
    `arbiter up`.

    Examples:

        arbiter up pocket-sglang
        arbiter up configs/mine.toml --print
        arbiter up configs/mine.toml --only draft,target --logs /var/log/servers
        arbiter up pocket-sglang -- arbiter bench pocket-sglang --limit 50
        arbiter up configs/mine.toml --ray auto

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration (`pocket-sglang`).
    command
        After `--`: a command to run while the servers are up.
    only
        Start only the servers of these models, separated by commas, for example `draft,target`. Default: all.
    print_
        Print the command of each server, with the environment variables that it adds, and start nothing.
    logs
        The folder of the servers' log files, one per server. Default: `runs/servers/CONFIG`.
    host
        The address that the servers listen on, in place of those in the configuration. With `0.0.0.0` anybody in the
        network can use them.
    ray
        Start the servers on the machines of a Ray cluster that have the GPUs, as Ray assigns them: `auto` is the
        cluster that runs here or that `RAY_ADDRESS` names, otherwise the address of its head. They listen on the
        addresses of these machines, and `arbiter bench --workers N --ray auto` finds them
        (docs/how-to/run-on-ray.md). Needs the extra `ray`.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        find = likely_interpreter if print_ or ray is not None else find_interpreter
        names = [name.strip() for name in (only or "").split(",") if name.strip()]
        loaded = load_config(config)
        chosen = plan(loaded, config, find, only=names, host=host)
        for note in chosen.notes:
            say(note)
        if command and shutil.which(command[0]) is None:
            raise ConfigError(f"there is no command {command[0]!r}: check the command after --")
        folder = logs or LOGS / Path(config).stem
        if ray is not None:
            check_ray_options(ray, print_=print_, host=host)
            folder = folder.absolute()
            return run_until_signal(partial(up_on_ray, ray, loaded, config, chosen.launches, folder, command))
        gpus = visible_gpus() if any(launch.gpus for launch in chosen.launches) else ()
        if print_:
            for launch in chosen.launches:
                write_text(f"# {launch.name}, {launch.address}\n{shown(launch, gpus)}\n")
            return 0
        check(chosen.launches, gpus)
        return run_until_signal(partial(_up_here, chosen.launches, folder, gpus, command, config))

    return guarded(debug, action)


async def _up_here(
    launches: Sequence[Launch], logs: Path, gpus: Sequence[str], command: Sequence[str], config: str
) -> int:
    """Keep the servers up until the command ends, and return its exit status. Without a command, wait forever."""
    say(f"starting {len(launches)} servers; log files: {logs}")
    async with open_fleet(launches, logs, gpus, say) as fleet:
        with _live(fleet, gpus, bool(command)):
            await fleet.ready()
            if command:
                return await run_with_servers(command)
            say(f"all servers are ready: {', '.join(f'{launch.name} at {launch.address}' for launch in launches)}")
            say(f"next, in another terminal: arbiter bench {shlex.quote(config)}; Ctrl-C here stops the servers")
            while True:
                await anyio.sleep(_FIGURES_SECONDS)
                if not stderr.is_terminal:
                    stderr.print(StatusTable(fleet.servers, gpus).table(stderr.width))


def _live(fleet: Fleet, gpus: Sequence[str], has_command: bool) -> AbstractContextManager[object]:
    """Return a live status table. It is not drawn without a terminal, or while a command uses the terminal."""
    if has_command or not stderr.is_terminal:
        return nullcontext()
    from rich.live import Live

    status = StatusTable(fleet.servers, gpus)
    return Live(console=stderr, get_renderable=lambda: status.table(stderr.width), refresh_per_second=2)
