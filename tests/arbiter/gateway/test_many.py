"""A thousand concurrent clients over sockets, and clients that read slowly or send nothing."""

import re
from typing import Any

import aiohttp
import anyio
import msgspec
import pytest

from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]
CLIENTS, ROOM = 1000, 100


async def asked(session: aiohttp.ClientSession, url: str, question: str) -> tuple[int, str]:
    """The status, and the text of a streamed answer."""
    body = {"model": "arbiter", "messages": [{"role": "user", "content": question}], "stream": True}
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        raw = (await answer.read()).decode()
    data = [line.removeprefix("data: ") for line in raw.splitlines() if line.startswith("data: {")]
    deltas = [msgspec.json.decode(one)["choices"] for one in data] if answer.status == 200 else []
    whole = "".join(choices[0]["delta"].get("content", "") for choices in deltas if choices)
    return answer.status, whole if raw.endswith("data: [DONE]\n\n") or answer.status != 200 else f"cut: {raw}"


@pytest.mark.nightly
async def test_of_a_thousand_streaming_clients_none_is_lost_or_mixed_up_and_the_limit_is_kept(listening: Any) -> None:
    answers: dict[str, tuple[int, str]] = {}
    options = {"seconds": 0.002, "config": {"limits": {"problems": ROOM}}, "queue": CLIENTS}
    async with listening(**options) as (served, url), aiohttp.ClientSession(connector=everyone()) as session:

        async def client(number: int) -> None:
            question = f"question {number}."
            answers[question] = await asked(session, url, question)

        async with anyio.create_task_group() as clients:
            for number in range(CLIENTS):
                clients.start_soon(client, number)
    assert len(answers) == CLIENTS
    for question, answer in answers.items():
        assert answer == (200, f"draft 0 of {question}\n\ntarget 1 of {question}\n\ndraft 2 of {question}")
    assert served.models.draft.most_running <= ROOM
    assert served.models.running == 0


async def test_of_a_thousand_clients_those_without_a_place_are_told_so_and_the_others_answered(listening: Any) -> None:
    statuses: list[int] = []
    options = {"seconds": 0.02, "config": {"limits": {"problems": 50}}, "queue": 50}
    async with listening(**options) as (_, url), aiohttp.ClientSession(connector=everyone()) as session:

        async def client(number: int) -> None:
            status, text = await asked(session, url, f"q{number}.")
            statuses.append(status)
            assert (status == 429) or re.findall(r"q\d+\.", text) == [f"q{number}."] * 3

        async with anyio.create_task_group() as clients:
            for number in range(CLIENTS):
                clients.start_soon(client, number)
        after = await asked(session, url, "q.")
    assert (len(statuses), set(statuses)) == (CLIENTS, {200, 429})
    assert statuses.count(200) >= 100
    assert after[0] == 200


async def test_connections_that_are_cut_leave_nothing_running(listening: Any, until: Any) -> None:
    async with listening(seconds=60.0) as (served, url):
        port = int(url.rpartition(":")[2])
        body = b'{"model": "arbiter", "stream": true, "messages": [{"role": "user", "content": "q"}]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        streams = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(20)]
        for stream in streams:
            await stream.send(head + b"content-length: %d\r\n\r\n%s" % (len(body), body))
        half = await anyio.connect_tcp("127.0.0.1", port)
        await half.send(head + b"content-length: 1000\r\n\r\n{")
        await until(lambda: served.models.running == 20)
        for stream in (half, *streams):
            await stream.aclose()
        await until(lambda: served.models.running == 0)
        assert served.models.draft.cancelled == 20


async def test_a_body_that_does_not_come_is_a_408_and_its_place_free_again(listening: Any) -> None:
    async with listening(patience=0.2) as (served, url):
        half = await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))
        head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        await half.send(head + b"content-length: 1000\r\n\r\n{")
        with anyio.fail_after(20):
            answer = await half.receive()
        await half.aclose()
        assert b" 408 " in answer.splitlines()[0]
        assert served.gateway.open == 0


@pytest.mark.nightly
async def test_a_client_that_reads_nothing_holds_up_no_other_and_is_left_after_a_while(
    listening: Any, until: Any
) -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation(f"{request.step}" * 400_000, "separator", Usage(0, 1))

    config = {"run_type": "draft", "limits": {"max_steps": 40}}
    async with listening(write=write, patience=2.0, config=config) as (served, url):
        slow = await anyio.connect_tcp("127.0.0.1", int(url.rpartition(":")[2]))
        body = b'{"model": "arbiter", "stream": true, "messages": [{"role": "user", "content": "q"}]}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        await slow.send(head + b"content-length: %d\r\n\r\n%s" % (len(body), body))
        async with aiohttp.ClientSession() as session:
            assert (await asked(session, url, "another"))[0] == 200
        await until(lambda: served.gateway.open == 0)
        await slow.aclose()


def everyone() -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(limit=0, force_close=True)
