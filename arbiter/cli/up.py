"""``arbiter up``: start the servers that a configuration describes."""

import os
import shlex
import shutil
import signal
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
from arbiter.config.config import load_config
from arbiter.protocols.errors import ArbiterError, ConfigError
from arbiter.servers.fleet import Fleet, first_of, leashed, open_fleet, shown, stop
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
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        find = likely_interpreter if print_ else find_interpreter
        names = [name.strip() for name in (only or "").split(",") if name.strip()]
        chosen = plan(load_config(config), config, find, only=names, host=host)
        for note in chosen.notes:
            say(note)
        gpus = visible_gpus() if any(launch.gpus for launch in chosen.launches) else ()
        if print_:
            for launch in chosen.launches:
                write_text(f"# {launch.name}, {launch.address}\n{shown(launch, gpus)}\n")
            return 0
        if command and shutil.which(command[0]) is None:
            raise ConfigError(f"there is no command {command[0]!r}: check the command after --")
        check(chosen.launches, gpus)
        folder = logs or LOGS / Path(config).stem
        return anyio.run(partial(_up, chosen.launches, folder, gpus, command, config))

    return guarded(debug, action)


async def _up(launches: Sequence[Launch], logs: Path, gpus: Sequence[str], command: Sequence[str], config: str) -> int:
    """Keep the servers up until a signal arrives or the command ends, and return the exit status."""
    received: list[signal.Signals] = []
    status = 0
    say(f"starting {len(launches)} servers; log files: {logs}")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_listen, tasks.cancel_scope, received)
            async with open_fleet(
                launches,
                logs,
                gpus,
                say,
            ) as fleet:
                with _live(fleet, gpus, bool(command)):
                    status = await _while_they_run(fleet, launches, gpus, command, config)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        known = group.subgroup(ArbiterError)
        if known is None:
            raise
        raise first_of(known) from group
    say("all servers are stopped")
    return 128 + received[0] if received else status


async def _listen(scope: anyio.CancelScope, received: list[signal.Signals]) -> None:
    """Stop all servers at the first signal. Later signals change nothing."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if not received:
                say(f"stopping all servers ({number.name})")
                received.append(number)
                scope.cancel()


async def _while_they_run(
    fleet: Fleet, launches: Sequence[Launch], gpus: Sequence[str], command: Sequence[str], config: str
) -> int:
    """Run ``command`` when all servers are ready, and return its exit status. Without a command, wait forever."""
    await fleet.ready()
    if command:
        process = await leashed(command, os.environ)
        try:
            return await process.wait()
        finally:
            await stop(process)
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
