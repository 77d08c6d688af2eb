"""Tools at the endpoint: calls and results of both APIs, streamed and not, with the openai package."""

import json
from typing import Any

import httpx2
import msgspec
import pytest
from openai import AsyncOpenAI

from arbiter.actors.ring_setup import Models
from arbiter.backends.calling import CallingGenerator
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import parse
from arbiter.gateway.app import Gateway
from arbiter.gateway.inprocess_client import BASE, open_http_client
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.protocols.tools import ToolCall

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FUNCTION = {"name": "add", "description": "Adds one.", "parameters": SCHEMA}
ADD: Any = {"type": "function", "function": FUNCTION}
FLAT: Any = {"type": "function", **FUNCTION, "strict": False}
QUESTION: Any = {"role": "user", "content": "1+1+1?"}


def agent(request: GenerationRequest) -> Generation:
    """Think, add twice, each time with a call that only the target writes well, and answer."""
    results = [turn.text for turn in request.transcript.after if turn.role == "tool"]
    usage = Usage(10, 5)
    if request.transcript.rules is None or len(results) == 2:
        return Generation(f"It is {results[-1]}." if results else "plain", "end", usage)
    if not request.transcript.steps and not results:
        return Generation("I add one, twice.", "separator", usage)
    value = "x" if request.author == "draft" else len(results) + 1
    return Generation("", "end", usage, calls=(ToolCall("", "add", json.dumps({"a": value})),))


def added(arguments: str) -> str:
    return str(json.loads(arguments)["a"] + 1)


@pytest.mark.asyncio
async def test_a_loop_of_two_calls_ends_with_an_answer(endpoint: Any) -> None:
    async with (
        endpoint(agent) as served,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client) as openai,
    ):
        messages: list[Any] = [QUESTION]
        for text in ("I add one, twice.", None):
            completion = await openai.chat.completions.create(model="arbiter", messages=messages, tools=[ADD])
            (choice,) = completion.choices
            assert (choice.finish_reason, choice.message.content) == ("tool_calls", text)
            assert choice.message.tool_calls is not None
            (call,) = choice.message.tool_calls
            assert call.type == "function"
            messages += [
                choice.message,
                {"role": "tool", "tool_call_id": call.id, "content": added(call.function.arguments)},
            ]
        completion = await openai.chat.completions.create(model="arbiter", messages=messages, tools=[ADD])
        assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == ("It is 3.", "stop")
        assert completion.choices[0].message.tool_calls is None


@pytest.mark.asyncio
async def test_a_streamed_call_comes_once_and_whole(endpoint: Any) -> None:
    async with (
        endpoint(agent) as served,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client) as openai,
    ):
        stream = await openai.chat.completions.create(
            model="arbiter", messages=[QUESTION], tools=[ADD], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert [(call.index, call.type, call.function and call.function.name) for call in calls] == [(0, "function", "add")]
    assert calls[0].id
    assert [delta.role for delta in deltas if delta.role] == ["assistant"]
    assert "".join(delta.content or "" for delta in deltas) == "I add one, twice."
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
        "tool_calls"
    ]
    assert sum(chunk.usage is not None for chunk in chunks) == 1


@pytest.mark.asyncio
async def test_the_helper_of_the_openai_package_joins_the_chunks(endpoint: Any) -> None:
    async with (
        endpoint(agent) as served,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client) as openai,
        openai.chat.completions.stream(model="arbiter", messages=[QUESTION], tools=[ADD]) as stream,
    ):
        message = (await stream.get_final_completion()).choices[0].message
    assert message.tool_calls is not None
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [("add", '{"a": 1}')]


def two_calls(request: GenerationRequest) -> Generation:
    """Add twice in one answer; the draft writes the second call wrong. It goes on after the calls before."""
    made = sum(len(step.calls) for step in request.transcript.steps)
    values: list[object] = [1, "x" if request.author == "draft" else 2]
    calls = tuple(ToolCall("", "add", json.dumps({"a": value})) for value in values[made:])
    return Generation("" if made else "I add both.", "end", Usage(10, 5), calls=calls)


@pytest.mark.asyncio
async def test_the_calls_of_several_steps_are_numbered_through_and_joined_by_the_helper(endpoint: Any) -> None:
    async with (
        endpoint(two_calls) as served,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client) as openai,
    ):
        completions, tools = openai.chat.completions, [ADD]
        completion = await completions.create(model="arbiter", messages=[QUESTION], tools=tools)
        streamed = await completions.create(model="arbiter", messages=[QUESTION], tools=tools, stream=True)
        chunks = [chunk async for chunk in streamed]
        async with completions.stream(model="arbiter", messages=[QUESTION], tools=tools) as stream:
            joined = (await stream.get_final_completion()).choices[0]
    calls = [call for chunk in chunks for one in chunk.choices for call in one.delta.tool_calls or ()]
    assert [call.index for call in calls] == [0, 1]
    for choice in (completion.choices[0], joined):
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I add both.")
        made = choice.message.tool_calls or []
        assert [call.function.arguments for call in made if call.type == "function"] == ['{"a": 1}', '{"a": 2}']
        assert len({call.id for call in made}) == 2


@pytest.mark.asyncio
async def test_a_response_has_an_item_for_the_call_of_each_step(endpoint: Any) -> None:
    async with (
        endpoint(two_calls) as served,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client) as openai,
    ):
        whole = await openai.responses.create(model="arbiter", input="1+1+1?", tools=[FLAT])
        streamed = await openai.responses.create(model="arbiter", input="1+1+1?", tools=[FLAT], stream=True)
        events = [event async for event in streamed]
    assert [item.type for item in whole.output] == ["message", "function_call", "function_call"]
    done = [event.item.type for event in events if event.type == "response.output_item.done"]
    assert done == ["message", "function_call", "function_call"]


@pytest.mark.asyncio
async def test_a_loop_through_the_responses_api_ends_with_an_answer(endpoint: Any) -> None:
    async with (
        endpoint(agent) as served,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client) as openai,
    ):
        items: list[Any] = [QUESTION]
        for kinds in (["message", "function_call"], ["function_call"]):
            response = await openai.responses.create(model="arbiter", input=items, tools=[FLAT])
            assert ([item.type for item in response.output], response.status) == (kinds, "completed")
            call = response.output[-1]
            assert call.type == "function_call"
            output = {"type": "function_call_output", "call_id": call.call_id, "output": added(call.arguments)}
            items += [*response.output, output]
        response = await openai.responses.create(model="arbiter", input=items, tools=[FLAT])
    assert (response.output_text, response.tools[0].type, response.tool_choice) == ("It is 3.", "function", "auto")


@pytest.mark.parametrize("results", [0, 1])
@pytest.mark.asyncio
async def test_a_streamed_response_has_the_items_of_a_whole_one(endpoint: Any, results: int) -> None:
    items: list[Any] = [QUESTION]
    for number in range(results):
        called = {"type": "function_call", "call_id": f"c{number}", "name": "add", "arguments": '{"a": 1}'}
        items += [called, {"type": "function_call_output", "call_id": f"c{number}", "output": "2"}]
    async with (
        endpoint(agent) as served,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client) as openai,
        openai.responses.stream(model="arbiter", input=items, tools=[FLAT]) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == [*([] if results else ["message"]), "function_call"]
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == len(final.output)
    assert kinds[-1] == "response.completed"
    call = final.output[-1]
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("add", json.dumps({"a": results + 1}))


@pytest.mark.asyncio
async def test_a_streamed_response_of_a_call_alone_with_records_of_steps_numbers_its_items_once(endpoint: Any) -> None:
    called = {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"a": 1}'}
    items: list[Any] = [QUESTION, called, {"type": "function_call_output", "call_id": "c", "output": "2"}]
    async with (
        endpoint(agent) as served,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client) as openai,
        openai.responses.stream(
            model="arbiter", input=items, tools=[FLAT], extra_body={"arbiter": {"steps": True}}
        ) as stream,
    ):
        events: list[Any] = [event async for event in stream]
        final: Any = await stream.get_final_response()
    for kind in ("added", "done"):
        sent = [event for event in events if event.type == f"response.output_item.{kind}"]
        assert [(event.output_index, event.item.type) for event in sent] == [(0, "message"), (1, "function_call")]
    assert [item.type for item in final.output] == ["message", "function_call"]
    call = final.output[1]
    assert call.type == "function_call"
    assert (final.output_text, json.loads(call.arguments)) == ("", {"a": 2})


@pytest.mark.asyncio
async def test_the_draft_that_breaks_the_rules_costs_no_request_to_the_router(endpoint: Any) -> None:
    async with endpoint(agent) as served:
        answer = (
            await served.post("chat/completions", messages=[QUESTION], tools=[ADD], arbiter={"steps": True})
        ).json()
        assert served.models.router.calls == 1  # for the thought
    call = answer["arbiter"]["steps"][-1]["candidates"]
    assert [(one["author"], one["valid"]) for one in call] == [("draft", False), ("target", True)]
    assert answer["usage"]["arbiter"]["router"]["requests"] == 1


@pytest.mark.parametrize(
    "choice", ["none", {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [ADD]}}]
)
@pytest.mark.asyncio
async def test_a_choice_reaches_the_models(endpoint: Any, choice: Any) -> None:
    seen: list[Any] = []

    def write(request: GenerationRequest) -> Generation:
        seen.append(request.transcript.rules)
        return Generation("plain", "end", Usage(1, 1))

    async with endpoint(write) as served:
        answer = await served.post(
            "chat/completions", messages=[QUESTION], tools=[ADD], tool_choice=choice, parallel_tool_calls=False
        )
        assert answer.status_code == 200
    assert (seen[0].choice, seen[0].parallel) == ("none" if choice == "none" else "auto", False)


CALLED = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "no"}}}]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [ADD, ADD]}, "tools[1]"),
        ({"tools": [{**ADD, "function": {**FUNCTION, "name": f"t{n}"}} for n in range(129)]}, "tools"),
        ({"tools": "add"}, "tools"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": [QUESTION, {"role": "tool", "tool_call_id": "c", "content": "1"}]}, None),
        ({"messages": [QUESTION, {"role": "tool", "content": "1"}]}, None),
        ({"messages": [QUESTION, {"role": "assistant", "tool_calls": [CALLED]}]}, None),
        ({"messages": [{**QUESTION, "tool_calls": [CALLED]}]}, "messages[0].tool_calls"),
    ],
)
@pytest.mark.asyncio
async def test_what_is_wrong_about_tools_is_refused_in_openais_shape(
    endpoint: Any, body: Any, param: str | None
) -> None:
    async with endpoint(agent) as served:
        answer = await served.post("chat/completions", **{"messages": [QUESTION], **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert (await served.chat()).status_code == 200


@pytest.mark.asyncio
async def test_arguments_of_a_megabyte_go_through_unchanged(endpoint: Any) -> None:
    long = json.dumps({"a": 1, "text": "é" * 500_000})

    def write(request: GenerationRequest) -> Generation:
        return Generation("", "end", Usage(1, 1), calls=(ToolCall("", "add", long),))

    async with endpoint(write) as served:
        answer = (await served.post("chat/completions", messages=[QUESTION], tools=[ADD])).json()
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == long


@pytest.mark.asyncio
async def test_where_no_model_writes_a_valid_call_the_answer_is_an_error_that_says_so(endpoint: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation("", "end", Usage(1, 1), calls=(ToolCall("", "add", "{}"),))

    async with endpoint(write) as served:
        answer = await served.post("chat/completions", messages=[QUESTION], tools=[ADD])
    assert answer.status_code == 502
    assert "broke the rules of the answer in each of 3 tries: the arguments of add" in answer.json()["error"]["message"]
    assert msgspec.json.decode(answer.content)["error"]["code"] == "model_failed"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"messages": [QUESTION], "tools": [ADD]}, "tools"),
        ("responses", {"input": "q", "tools": [FLAT]}, "tools"),
        (
            "responses",
            {
                "input": [
                    QUESTION,
                    {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "2"},
                ]
            },
            None,
        ),
    ],
)
@pytest.mark.asyncio
async def test_a_model_that_cannot_be_offered_tools_is_an_error_of_the_field_tools(
    path: str, body: Any, param: str | None
) -> None:
    plain = CallingGenerator(ScriptedGenerator(lambda _: "text"), None, "models.target.prompt: set it")
    config = parse({"models": {}, "run_type": "target"}, "test")
    arbiter = Arbiter(config, models=Models(target=ModelHandle(plain)))
    gateway = Gateway(arbiter)
    async with arbiter, open_http_client(gateway.app, httpx2) as client:
        refused = await client.post(f"{BASE}/v1/{path}", json={"model": "arbiter", **body})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, param, "invalid_value")
    assert error["message"].endswith("but a model cannot be offered tools. models.target.prompt: set it")
