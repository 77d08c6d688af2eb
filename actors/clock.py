"""The clock of the running event loop."""

import asyncio
from collections.abc import Callable

import anyio


def running_clock() -> Callable[[], float]:
    """Return a function that returns what ``anyio.current_time`` returns, at a tenth of its cost on asyncio.

    The function may only be called in the event loop that runs now.
    """
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:  # another event loop than asyncio's
        return anyio.current_time
