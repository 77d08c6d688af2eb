"""Cancel work when its client disconnects."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.types import Receive

from arbiter.actors.supervision import services

Answer = TypeVar("Answer")


class GoneError(Exception):
    """The client has disconnected: no response can be sent."""


async def while_connected(receive: Receive, work: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the result of ``work``, and cancel it if the client disconnects.

    Raises ``GoneError`` if the client disconnects, and any exception of ``work``.
    """
    answers: list[Answer] = []
    async with services() as tasks:
        tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
        answers.append(await work())
    if not answers:
        raise GoneError
    return answers[0]


async def cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Wait until the client of a request disconnects, then cancel ``scope``."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
