"""Where a model is: its address, its server's clock, and how much that server has to do."""

import time
from email.utils import parsedate_to_datetime

import anyio

from arbiter.backends.served.queue_depth import ServerQueueDepth
from arbiter.backends.served.served_models import served_model
from arbiter.config.model_tables import AnyModelTable, ServedTable
from arbiter.servers.doctor.findings import Check

_MOST_SKEW = 5.0  # seconds; a date in a header is in whole ones
_LOOKS, _PAUSE = 20, 0.25


async def place(name: str, table: AnyModelTable) -> Check:
    """The model and its address. Raises ``BackendError`` if the server is not there, or has other models."""
    if not isinstance(table, ServedTable):
        return Check("model", f"{table.model} in process")
    model = await served_model(name, table)
    if model is None:
        return Check("model", f"{table.model} at {table.base} (which lists no models: the name is not checked)")
    context = f", a context of {model.max_model_len} tokens" if model.max_model_len else ""
    return Check("model", f"{table.model} at {table.base}{context}")


async def clock(table: AnyModelTable) -> Check | None:
    """Whether the server's clock is as this machine's; None where it does not tell."""
    if not isinstance(table, ServedTable):
        return None
    import aiohttp  # takes long to import

    timeout = aiohttp.ClientTimeout(total=min(table.timeout, 10.0))
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            asked = time.time()
            async with session.get(f"{table.base}/v1/models") as response:
                date = response.headers.get("date", "")
            ahead = parsedate_to_datetime(date).timestamp() - (asked + time.time()) / 2
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
        return None
    if abs(ahead) <= _MOST_SKEW:
        return Check("clock", "the server's clock is as this one's")
    text = f"the server's clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
    return Check("clock", f"{text}: set both by NTP, or their logs cannot be laid beside each other", "warning")


async def falls_idle(queue_depth: ServerQueueDepth, before: int) -> bool:
    """Whether soon no more requests run at the server than ``before``."""
    for _ in range(_LOOKS):
        load = await queue_depth.load()
        if load is not None and load.running + load.waiting <= before:
            return True
        await anyio.sleep(_PAUSE)
    return False
