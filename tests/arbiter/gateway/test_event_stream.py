"""What a stream of events sends, and in which order."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
from starlette.types import Message, Scope

from arbiter.gateway.streaming import PING_SECONDS, EventStream

Virtual = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


def test_nothing_is_sent_after_the_end_of_a_stream_however_long_its_end_takes(in_virtual_time: Virtual) -> None:
    sent: list[Message] = []

    async def events() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        await anyio.sleep(1.5 * PING_SECONDS)

    async def send(message: Message) -> None:
        sent.append(message)
        if message.get("more_body") is False:
            await anyio.sleep(2 * PING_SECONDS)  # a client that reads slowly

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def body() -> None:
        scope: Scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}}
        await EventStream(events(), 10 * PING_SECONDS)(scope, receive, send)

    in_virtual_time(body)
    assert [message.get("body") for message in sent] == [None, b"data: 1\n\n", b": ping\n\n", b""]
