#!/usr/bin/env bash
# Version: pyreqwest 0.15.1, and aiohttp 3.14.5 for comparison, on CPython 3.11.
#
# Guess: cancelling the task that awaits an HTTP request closes its connection, so that the server stops working on it.
#   aiohttp does so, and inference servers rely on it: they abort a generation when the client has disconnected.
#
# What happens: the task ends immediately, but the request goes on until its own time-out. With a time-out of 3 s:
#     aiohttp: the server saw the end of a cancelled request after 0.0 s
#     pyreqwest: the server saw the end of a cancelled request after 2.8 s
#
# Why it matters: a program that cancels requests to a language model (a deadline, a user who left, speculation that was
#   wrong) continues to pay for the tokens, and the cancelled requests keep their slots in the server's batch. Time-outs
#   of such requests are minutes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pyreqwest==0.15.1 aiohttp==3.14.5

cat > "$work/cancel.py" <<'PROGRAM'
import asyncio
import sys
import time
from datetime import timedelta
from importlib.metadata import version

import aiohttp
from pyreqwest.client import ClientBuilder

TIMEOUT = 3.0


async def seconds_until_seen(send):
    """Cancel a request that the server does not answer; return when the server sees the connection end."""
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        arrived.set()
        await reader.read()
        ended.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        asking = asyncio.create_task(send(url))
        await arrived.wait()
        await asyncio.sleep(0.2)
        asking.cancel()
        cancelled = time.monotonic()
        await asyncio.wait([asking])
        assert asking.cancelled() and time.monotonic() - cancelled < 1
        await asyncio.wait_for(ended.wait(), 4 * TIMEOUT)
        return time.monotonic() - cancelled


async def main():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:

        async def aiohttp_send(url):
            async with session.post(url, data=b"{}") as response:
                await response.read()

        first = await seconds_until_seen(aiohttp_send)
    async with ClientBuilder().no_proxy().timeout(timedelta(seconds=TIMEOUT)).build() as client:

        async def pyreqwest_send(url):
            await client.post(url).body_bytes(b"{}").build().send()

        second = await seconds_until_seen(pyreqwest_send)
    print(f"aiohttp {version('aiohttp')}, pyreqwest {version('pyreqwest')}, Python {sys.version.split()[0]}")
    print(f"expected: the server sees the end of a cancelled request at once, and not after {TIMEOUT:g} s")
    for name, seconds in (("aiohttp", first), ("pyreqwest", second)):
        print(f"{name}: the server saw the end of a cancelled request after {seconds:.1f} s")
    sys.exit(0 if first < 1 < 2 < second else 1)


asyncio.run(main())
PROGRAM
"$work/env/bin/python" "$work/cancel.py"
