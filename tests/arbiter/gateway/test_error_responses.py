"""Invalid, unknown and unsupported fields are refused in OpenAI's format, and the endpoint keeps serving."""

from contextlib import suppress
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.gateway.body_decoding import read, refused_fields
from arbiter.gateway.inprocess_client import BASE
from arbiter.gateway.schemas import ChatBody, CompletionBody, ResponseBody, StreamOptions, TextOptions
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import RequestError

ASKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat/completions": (ChatBody, {"messages": [{"role": "user", "content": "q"}]}),
    "completions": (CompletionBody, {"prompt": "q"}),
    "responses": (ResponseBody, {"input": "q"}),
}
ASKING_FOR_MORE: dict[str, Any] = {
    "best_of": 3,
    "echo": True,
    "logit_bias": {"50256": -100},
    "functions": [{"name": "add"}],
    "function_call": {"name": "add"},
    "response_format": {"type": "json_object"},
    "text": {"format": {"type": "json_object"}},
    "modalities": ["text", "audio"],
    "service_tier": "priority",
    "truncation": "auto",
    "store": True,
    "background": True,
}
FIELDS = [(path, name) for path, (kind, _) in ASKED.items() for name in refused_fields(kind)]


@pytest.mark.parametrize(("path", "name"), FIELDS)
@pytest.mark.asyncio
@pytest.mark.slow
async def test_what_cannot_be_honoured_is_refused_by_name(endpoint: Any, path: str, name: str) -> None:
    async with endpoint() as served:
        refused = await served.post(path, **ASKED[path][1], **{name: ASKING_FOR_MORE.get(name, "something")})
        assert served.models.asked("draft") == 0
    error = refused.json()["error"]
    assert (refused.status_code, error["type"]) == (400, "invalid_request_error")
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")


@pytest.mark.parametrize(("path", "name"), FIELDS)
@pytest.mark.asyncio
@pytest.mark.slow
async def test_the_same_field_is_taken_where_it_asks_for_nothing(endpoint: Any, path: str, name: str) -> None:
    kind, body = ASKED[path]
    async with endpoint() as served:
        for neutral in (None, *refused_fields(kind)[name]):
            assert (await served.post(path, **body, **{name: neutral})).status_code == 200


def test_a_field_of_an_object_is_refused_as_a_field_of_the_body_is() -> None:
    """The fields of objects within bodies stand in the same table, so the description of the API has them too."""
    assert refused_fields(TextOptions) == {"verbosity": ()}
    assert refused_fields(StreamOptions) == {"include_obfuscation": (False,)}
    obscured = {"stream_options": {"include_obfuscation": False}, "stream": True}
    for body in (obscured, {"text": {"verbosity": None}}):
        read(msgspec.json.encode({"model": "arbiter", "input": "q", **body}), ResponseBody)
    with pytest.raises(RequestError, match=r"text\.verbosity cannot be honoured: leave it out"):
        read(msgspec.json.encode({"model": "arbiter", "input": "q", "text": {"verbosity": "low"}}), ResponseBody)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"colour": 1}, "colour", "unknown_parameter"),
        ({"arbiter": {"treshold": 0.4}}, "arbiter.treshold", "unknown_parameter"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, None, "invalid_value"),
        ({"messages": [{"role": "user", "content": "x", "name": "ann"}]}, "messages[0].name", "unsupported_parameter"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "unsupported_parameter",
        ),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": "  "}]}, None, "invalid_value"),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            None,
            "invalid_value",
        ),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata", "invalid_value"),
        ({"model": "gpt-7"}, "model", "model_not_found"),
        ({"model": "arbiter:rsd"}, "model", "model_not_found"),
        ({"model": "arbiter:router@high"}, "model", "model_not_found"),
        ({"model": "arbiter:router@7"}, "model", "model_not_found"),
    ],
)
@pytest.mark.asyncio
@pytest.mark.slow
async def test_what_is_wrong_is_told_with_its_field(endpoint: Any, body: Any, param: str | None, code: str) -> None:
    async with endpoint() as served:
        refused = await served.post("chat/completions", **{**ASKED["chat/completions"][1], **body})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (404 if code == "model_not_found" else 400, code)
    assert param is None or error["param"] == param


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'{"model": "arbiter"', b'{"model": "\xff"}', b'{"model": "\\ud800"}', b"\x00"],
)
@pytest.mark.asyncio
async def test_a_body_that_is_no_json_object_is_a_400(endpoint: Any, raw: bytes) -> None:
    async with endpoint() as served:
        refused = await sent(served, raw)
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.asyncio
async def test_a_body_that_is_nested_too_deeply_is_a_400(endpoint: Any) -> None:
    raw = b'{"model": "arbiter", "messages": [], "tools": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    async with endpoint() as served:
        assert (await sent(served, raw)).status_code == 400


@pytest.mark.asyncio
async def test_a_body_that_is_too_large_is_a_413_before_it_is_read_whole(endpoint: Any) -> None:
    async with endpoint(largest=1000) as served:
        told = await sent(served, b" " * 1001)

        async def parts() -> Any:
            for _ in range(1001):
                yield b" "

        untold = await served.client.post(
            f"{BASE}/v1/completions", content=parts(), headers={"content-type": "application/json"}
        )
    assert (told.status_code, untold.status_code) == (413, 413)


@pytest.mark.asyncio
async def test_another_content_type_than_json_is_a_415(endpoint: Any) -> None:
    async with endpoint() as served:
        refused = await served.client.post(
            f"{BASE}/v1/completions", content=b"{}", headers={"content-type": "text/plain"}
        )
    assert refused.status_code == 415


@pytest.mark.asyncio
async def test_a_missing_content_type_is_json_unless_a_web_page_sends_the_request(endpoint: Any) -> None:
    url, raw = f"{BASE}/v1/completions", b'{"model": "arbiter", "prompt": "q"}'
    async with endpoint() as served:
        taken = await served.client.post(url, content=raw)
        refused = await served.client.post(url, content=raw, headers={"origin": "https://example.org"})
        malformed = await served.client.post(url, content=b"prompt=q")
    assert (taken.status_code, refused.status_code, malformed.status_code) == (200, 415, 400)
    assert "content-type" not in taken.request.headers


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nowhere", 404), ("DELETE", "/v1/models", 405)])
@pytest.mark.asyncio
async def test_other_paths_and_methods_are_refused_in_the_same_shape(
    endpoint: Any, method: str, path: str, status: int
) -> None:
    async with endpoint() as served:
        refused = await served.client.request(method, BASE + path)
    assert (refused.status_code, set(refused.json()["error"])) == (status, {"message", "type", "param", "code"})


@pytest.mark.asyncio
async def test_an_error_of_the_endpoint_itself_is_a_500_without_its_cause(endpoint: Any) -> None:
    class Broken(Arbiter):
        def task(self, question: Any, **overrides: Any) -> Any:
            raise ZeroDivisionError("a secret")

    async with endpoint(kind=Broken) as served:
        failed = await served.chat()
        assert (await served.client.get(f"{BASE}/health")).status_code == 200
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in failed.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from([ChatBody, CompletionBody, ResponseBody]),
    st.dictionaries(st.sampled_from([*ChatBody.__struct_fields__, "prompt", "input", "x"]), JSON) | JSON,
)
def test_any_json_is_read_or_refused(kind: Any, body: Any) -> None:
    with suppress(RequestError):
        assert isinstance(read(msgspec.json.encode(body), kind), kind)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with pytest.raises(RequestError):
        read(raw, ChatBody)


async def sent(served: Any, raw: bytes) -> httpx2.Response:
    return await served.client.post(
        f"{BASE}/v1/chat/completions", content=raw, headers={"content-type": "application/json"}
    )


def nested(depth: int) -> dict[str, Any]:
    """An object of objects, ``depth`` deep."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


ARGUMENTS = '{"a":' * 5000 + "1" + "}" * 5000
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": ARGUMENTS}}
QUESTION = {"role": "user", "content": "q"}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "1"}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [QUESTION, {"role": "assistant", "tool_calls": [CALL]}, RESULT]},
        {"messages": [QUESTION], "response_format": {"type": "json_schema", "json_schema": nested(600)}},
        {"messages": [QUESTION], "tools": [{"type": "function", "function": {"name": "f", "parameters": nested(600)}}]},
    ],
    ids=["arguments", "response_format", "tools"],
)
@pytest.mark.asyncio
async def test_a_value_that_is_nested_too_deeply_is_refused_as_invalid(endpoint: Any, body: dict[str, Any]) -> None:
    async with endpoint() as served:
        refused = await served.post("chat/completions", **body)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["type"] == "invalid_request_error"
        assert (await served.chat()).status_code == 200
