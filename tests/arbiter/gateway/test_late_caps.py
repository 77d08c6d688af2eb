"""Caps that are reached while a body arrives, and what the draft alone cannot answer at a cap."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from arbiter.backends.scripted import ScriptedGenerator
from arbiter.gateway.inprocess_client import BASE
from arbiter.protocols.tools import Effort
from tests.arbiter.gateway.test_spend_caps import ANSWER, KEYS, Endpoint, opened

InVirtualTime = Callable[[Callable[[], Awaitable[None]]], None]
Message = MutableMapping[str, Any]
QUESTION = {"model": "arbiter", "messages": [{"role": "user", "content": "q"}]}


async def sent_in_parts(served: Endpoint, between: Callable[[], Awaitable[Any]]) -> tuple[int, Any]:
    """Send the question in two parts, with ``between`` called in between; return the status and the answer."""
    body, sent, parts = msgspec.json.encode(QUESTION), list[Message](), iter((0, 1))

    async def receive() -> Message:
        part = next(parts, None)
        if part is None:
            await anyio.sleep_forever()
        if part == 1:
            await between()
        return {"type": "http.request", "body": body[9:] if part else body[:9], "more_body": not part}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {KEYS[0]}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers}
    await served.gateway.app(scope, receive, send)
    return sent[0]["status"], msgspec.json.decode(b"".join(message.get("body", b"") for message in sent[1:]))


class WithoutAnything(ScriptedGenerator):
    """A model that can do nothing but write."""

    without_tools = "Its template has no tools."
    without_logprobs = "Its server leaves them out."
    without_constraints = "It needs an extra."
    efforts: Mapping[Effort, bool] = {}


TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "add"}}]}
FORMAT: dict[str, Any] = {"type": "json_schema", "name": "sum", "schema": {"type": "object"}}
JSON: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": {"name": "sum", "schema": {}}}}


@pytest.mark.parametrize(
    ("path", "fields", "param", "reason"),
    [
        ("chat/completions", TOOLS, "tools", "a model cannot be offered tools. Its template has no tools."),
        ("chat/completions", JSON, "response_format.json_schema.schema", "It needs an extra."),
        ("chat/completions", {"logprobs": True}, "top_logprobs", "Its server leaves them out."),
        ("chat/completions", {"reasoning_effort": "low"}, "reasoning_effort", "leave it out"),
        ("responses", {"text": {"format": FORMAT}}, "text.format.schema", "It needs an extra."),
        ("responses", {"reasoning": {"effort": "low"}}, "reasoning.effort", "leave it out"),
        ("completions", {"logprobs": 0}, "top_logprobs", "Its server leaves them out."),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_draft_cannot_do_is_refused_at_the_cap_with_the_field_and_the_reason(
    path: str, fields: dict[str, Any], param: str, reason: str, stream: bool, in_virtual_time: InVirtualTime
) -> None:
    async def use() -> None:
        async with opened(per_day=ANSWER, at_cap="draft", kind=WithoutAnything) as served:

            async def post(**more: Any) -> httpx2.Response:
                question = {"responses": "input", "completions": "prompt"}.get(path)
                asked = QUESTION if question is None else {question: "q"}
                body = {**asked, "model": "arbiter:target", **more}
                headers = {"authorization": f"Bearer {KEYS[0]}"}
                return await served.client.post(f"{BASE}/v1/{path}", json=body, headers=headers)

            assert (await post()).status_code == 200
            refused = await post(**fields, stream=stream)
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
            assert error["message"].startswith("the key has reached a spend cap, so the draft alone answers: " + param)
            assert error["message"].endswith(reason)
            assert served.gateway.open == 0
            assert (await post()).status_code == 200

    in_virtual_time(use)


@pytest.mark.parametrize("n", [1, 2])
def test_several_answers_are_refused_at_the_cap_as_one_is(n: int, in_virtual_time: InVirtualTime) -> None:
    async def use() -> None:
        async with opened(per_day=ANSWER, at_cap="draft", kind=WithoutAnything) as served:
            assert (await served.chat(model="arbiter:target", **TOOLS)).status_code == 200
            refused = await served.chat(model="arbiter:target", n=n, **TOOLS)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
            assert served.gateway.open == 0

    in_virtual_time(use)


@pytest.mark.parametrize("at_cap", ["refuse", "draft"])
@pytest.mark.parametrize("spent", ["before", "while the body arrives"])
def test_a_cap_counts_when_the_body_has_arrived_and_a_request_meets_it_once(
    at_cap: str, spent: str, in_virtual_time: InVirtualTime
) -> None:
    async def use() -> None:
        async with opened(per_day=ANSWER, at_cap=at_cap) as served:
            if spent == "before":
                await served.chat()
                status, answer = await sent_in_parts(served, lambda: anyio.sleep(1))
            else:
                status, answer = await sent_in_parts(served, served.chat)
            if at_cap == "refuse":
                assert (status, answer["error"]["code"]) == (429, "insufficient_quota")
            else:
                assert (status, answer["arbiter"]["at_cap"]) == (200, "draft")
            assert served.target.calls == 1
            assert 'arbiter_capped_requests_total{key="key 1"} 1.0' in await served.metrics()

    in_virtual_time(use)
