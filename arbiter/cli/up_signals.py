"""How ``arbiter up`` runs servers, here and on Ray: until a signal arrives, or until a command that uses them ends."""

import os
import signal
from collections.abc import Awaitable, Callable, Sequence

import anyio

from arbiter.cli.endings import say
from arbiter.servers.fleet import first_error, leashed, stop


def run_until_signal(body: Callable[[], Awaitable[int]]) -> int:
    """Run ``body``, which keeps servers up, until it ends or a signal arrives. Return the exit status."""
    return anyio.run(_run, body)


async def _run(body: Callable[[], Awaitable[int]]) -> int:
    received: list[signal.Signals] = []
    status = 0
    with first_error():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_listen, tasks.cancel_scope, received)
            status = await body()
            tasks.cancel_scope.cancel()
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


async def run_with_servers(command: Sequence[str]) -> int:
    """Run ``command`` while servers are ready, and return its exit status."""
    process = await leashed(command, os.environ)
    try:
        return await process.wait()
    finally:
        await stop(process)
