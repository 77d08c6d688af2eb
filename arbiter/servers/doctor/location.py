"""Checks of a model's address, and of its server's clock and load."""

import time
from email.utils import parsedate_to_datetime

import anyio

from arbiter.backends.served.queue_depth import ServerQueueDepth
from arbiter.backends.served.served_models import served_model
from arbiter.backends.served.transport import url_of
from arbiter.config.local_paths import shown
from arbiter.config.model_tables import AnyModelTable, ServedTable
from arbiter.servers.doctor.findings import Check

_MOST_SKEW = 5.0  # seconds; the date in a header has whole seconds
_LOOKS, _PAUSE = 20, 0.25


async def place(name: str, table: AnyModelTable) -> Check:
    """Return the model and its address. Raises ``BackendError`` if the server does not answer or lacks the model."""
    if not isinstance(table, ServedTable):
        return Check("model", f"{shown(table.model)} in process")
    model = await served_model(name, table)
    if model is None:
        return Check("model", f"{table.model} at {table.base} (the server lists no models, so the name is not checked)")
    context = f", a context of {model.max_model_len} tokens" if model.max_model_len else ""
    return Check("model", f"{table.model} at {table.base}{context}")


async def clock(table: AnyModelTable) -> Check | None:
    """Compare the server's clock with this machine's. None if the server does not report its time."""
    if not isinstance(table, ServedTable):
        return None
    import aiohttp  # importing it takes long

    timeout = aiohttp.ClientTimeout(total=min(table.timeout, 10.0))
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            started = time.time()
            async with session.get(url_of(table.base, "/v1/models")) as response:
                date = response.headers.get("date", "")
            ahead = parsedate_to_datetime(date).timestamp() - (started + time.time()) / 2
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
        return None
    if abs(ahead) <= _MOST_SKEW:
        return Check("clock", "the server's clock agrees with this machine's")
    text = f"the server's clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
    return Check("clock", f"{text}: set both by NTP, so that their logs can be compared", "warning")


async def falls_idle(queue_depth: ServerQueueDepth, before: int) -> bool:
    """Whether the server soon has no more requests than ``before``, within 5 seconds."""
    for _ in range(_LOOKS):
        load = await queue_depth.load()
        if load is not None and load.running + load.waiting <= before:
            return True
        await anyio.sleep(_PAUSE)
    return False
