"""Calls on an event loop from other threads."""

import asyncio
from collections.abc import Callable

import sniffio

Soon = Callable[[Callable[[], object]], object]
"""Schedules a function on an event loop, from any thread, after those scheduled before.

Raises ``RuntimeError`` if the loop has ended.
"""


def running_soon() -> Soon:
    """Return a function with which other threads schedule calls on the event loop that runs now."""
    if sniffio.current_async_library() == "asyncio":
        return asyncio.get_running_loop().call_soon_threadsafe
    import trio

    return trio.lowlevel.current_trio_token().run_sync_soon
