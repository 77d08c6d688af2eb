"""What a stream of events sends, and in which order."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Scope

from arbiter.gateway.streaming import PING_SECONDS, AnswerPart, AnswerStreams, EventStream
from arbiter.protocols.errors import RequestError
from arbiter.protocols.records import Solution

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
        await EventStream(events(), 10 * PING_SECONDS, anyio.sleep_forever)(scope, receive, send)

    in_virtual_time(body)
    assert [message.get("body") for message in sent] == [None, b"data: 1\n\n", b": ping\n\n", b""]


class ScriptedStream:
    """A stream of parts, each after its pause; ``fails`` ends it with an error."""

    def __init__(self, parts: list[tuple[float, str]], fails: bool) -> None:
        self._parts = parts
        self._fails = fails

    async def parts(self) -> Any:
        for pause, text in self._parts:
            await anyio.sleep(pause)
            yield AnswerPart(text)
        if self._fails:
            raise RequestError("failed")
        yield AnswerPart("", None, Solution("p", "q", (), "answered", 0.0, {}))


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.floats(0, 3), st.text(max_size=3)), max_size=5), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
def test_parts_of_a_choice_keep_their_order_however_the_choices_interleave(
    in_virtual_time: Virtual, scripts: list[tuple[list[tuple[float, str]], bool]]
) -> None:
    async def use() -> None:
        streams: Any = [ScriptedStream(parts, fails) for parts, fails in scripts]
        answers = AnswerStreams(streams)
        found: dict[int, list[str]] = {index: [] for index in range(len(scripts))}
        ended: set[int] = set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answers.forward)
            try:
                async for index, part in answers.parts():
                    assert index not in ended
                    found[index].append(part.text)
                    if part.solution is not None:
                        ended.add(index)
            except RequestError:
                assert any(fails for _, fails in scripts)
            else:
                assert ended == set(range(len(scripts)))
                assert found == {index: [*(text for _, text in parts), ""] for index, (parts, _) in enumerate(scripts)}
            tasks.cancel_scope.cancel()

    in_virtual_time(use)
