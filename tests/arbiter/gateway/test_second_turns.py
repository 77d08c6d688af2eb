"""The second turn of a conversation, with the first answer as each framework appends it to the history."""

from typing import Any

import pytest

from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage

pytestmark = pytest.mark.asyncio

CHAT_TURNS: dict[str, dict[str, Any]] = {
    "openai, the fields of the answer": {"role": "assistant", "content": "yes", "refusal": None},
    "openai, model_dump": {
        "content": "yes",
        "refusal": None,
        "role": "assistant",
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    },
    "openai, model_dump of parse": {
        "content": "yes",
        "refusal": None,
        "role": "assistant",
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "parsed": None,
    },
    "langchain-openai": {"content": "yes", "role": "assistant"},
    "langchain-openai, a named agent": {"content": "yes", "role": "assistant", "name": "solver"},
    "langchain-openai, blocks": {
        "role": "assistant",
        "content": [{"type": "text", "text": "yes", "annotations": [], "index": 0, "id": "msg_1"}],
    },
    "litellm, Message.model_dump": {
        "content": "yes",
        "role": "assistant",
        "tool_calls": None,
        "function_call": None,
        "annotations": [],
        "images": [],
        "reasoning_content": "I think so",
        "thinking_blocks": [{"type": "thinking", "thinking": "I think so", "signature": "s"}],
        "provider_specific_fields": {"refusal": None, "reasoning_content": "I think so"},
    },
    "pydantic-ai": {"role": "assistant", "content": "yes", "reasoning_content": "I think so"},
    "openai-agents": {"role": "assistant", "content": "yes", "tool_calls": []},
    "smolagents": {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
    "smolagents, ChatMessage": {
        "role": "assistant",
        "content": "yes",
        "tool_calls": None,
        "raw": {"id": "chatcmpl-1"},
        "token_usage": {"input_tokens": 1, "output_tokens": 1},
    },
    "inspect_ai": {"role": "assistant", "content": "yes"},
    "inspect_ai, ChatMessageAssistant.model_dump": {
        "id": "4Gy",
        "content": "yes",
        "source": "generate",
        "metadata": None,
        "role": "assistant",
        "tool_calls": None,
        "model": "arbiter",
    },
    "a refusal": {"role": "assistant", "content": None, "refusal": "yes"},
}
OUTPUT: dict[str, Any] = {"annotations": [], "text": "yes", "type": "output_text", "logprobs": []}
MESSAGE: dict[str, Any] = {"type": "message", "role": "assistant", "content": "yes"}
RESPONSE_TURNS: dict[str, dict[str, Any]] = {
    "openai, model_dump": {
        "id": "msg_1",
        "content": [OUTPUT],
        "role": "assistant",
        "status": "completed",
        "type": "message",
        "phase": None,
    },
    "openai, model_dump of parse": {
        "id": "msg_1",
        "content": [{**OUTPUT, "parsed": None}],
        "role": "assistant",
        "status": "completed",
        "type": "message",
        "phase": "final_answer",
    },
    "langchain-openai": {
        "type": "message",
        "content": [{"type": "output_text", "text": "yes", "annotations": []}],
        "role": "assistant",
        "id": "msg_1",
    },
    "litellm, model_dump": {
        "id": "msg_1",
        "content": [{**OUTPUT, "logprobs": None}],
        "role": "assistant",
        "status": "completed",
        "type": "message",
        "provider_specific_fields": {"refusal": None},
    },
    "pydantic-ai": {"role": "assistant", "content": "yes"},
    "openai-agents": {
        "id": "msg_1",
        "content": [OUTPUT],
        "role": "assistant",
        "status": "completed",
        "type": "message",
    },
    "openai-agents, a response that a chat was converted to": {
        "id": "__fake_id__",
        "content": [{**OUTPUT, "logprobs": None}],
        "role": "assistant",
        "status": "completed",
        "type": "message",
        "provider_data": {"model": "arbiter", "response_id": "chatcmpl-1"},
    },
    "inspect_ai": {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "content": [{"type": "output_text", "text": "yes", "annotations": [], "logprobs": []}],
        "status": "completed",
    },
    "a refusal": {"role": "assistant", "content": [{"type": "refusal", "refusal": "yes"}]},
}


class Readings:
    """Records the conversation of each request; every answer is ``yes``."""

    def __init__(self) -> None:
        self.turns: list[list[tuple[str, str]]] = []

    def write(self, request: GenerationRequest) -> Generation:
        transcript = request.transcript
        self.turns.append([*((turn.role, turn.text) for turn in transcript.turns), ("user", transcript.question)])
        return Generation("yes", "end", Usage(0, 1))

    @property
    def last(self) -> list[tuple[str, str]]:
        return self.turns[-1]


READ = [("user", "one"), ("assistant", "yes"), ("user", "two")]


@pytest.mark.parametrize("turn", CHAT_TURNS.values(), ids=CHAT_TURNS)
async def test_an_earlier_answer_is_read_as_it_is_appended_to_a_chat(endpoint: Any, turn: dict[str, Any]) -> None:
    readings = Readings()
    messages = [{"role": "user", "content": "one"}, turn, {"role": "user", "content": "two"}]
    async with endpoint(readings.write) as served:
        answer = await served.post("chat/completions", messages=messages)
    assert answer.status_code == 200, answer.text
    assert readings.last == READ


@pytest.mark.parametrize("turn", RESPONSE_TURNS.values(), ids=RESPONSE_TURNS)
async def test_an_earlier_answer_is_read_as_it_is_appended_to_an_input(endpoint: Any, turn: dict[str, Any]) -> None:
    readings = Readings()
    thought: dict[str, Any] = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "encrypted_content": "gAAA",
        "content": [OUTPUT],
    }
    items = [{"role": "user", "content": "one"}, thought, turn, {"role": "user", "content": "two"}]
    async with endpoint(readings.write) as served:
        answer = await served.post("responses", input=items)
    assert answer.status_code == 200, answer.text
    assert readings.last == READ


@pytest.mark.parametrize("form", ["object", "model_dump", "to_dict", "stream"])
async def test_the_chat_answer_of_openais_package_can_be_appended_in_every_form(endpoint: Any, form: str) -> None:
    readings = Readings()
    async with endpoint(readings.write) as served, served.gateway.client() as client:
        messages: list[Any] = [{"role": "user", "content": "one"}]
        if form == "stream":
            async with client.chat.completions.stream(model="arbiter", messages=messages) as stream:
                message = (await stream.get_final_completion()).choices[0].message.model_dump()
        else:
            answered = (await client.chat.completions.create(model="arbiter", messages=messages)).choices[0].message
            message = answered if form == "object" else getattr(answered, form)()
        messages += [message, {"role": "user", "content": "two"}]
        await client.chat.completions.create(model="arbiter", messages=messages)
    assert readings.last == READ


@pytest.mark.parametrize("form", ["object", "model_dump", "to_dict", "stream"])
async def test_the_output_of_openais_package_can_be_appended_in_every_form(endpoint: Any, form: str) -> None:
    readings = Readings()
    async with endpoint(readings.write) as served, served.gateway.client() as client:
        if form == "stream":
            async with client.responses.stream(model="arbiter", input="one") as stream:
                output: list[Any] = [item.model_dump() for item in (await stream.get_final_response()).output]
        else:
            answered = (await client.responses.create(model="arbiter", input="one")).output
            output = [item if form == "object" else getattr(item, form)() for item in answered]
        items: Any = [{"role": "user", "content": "one"}, *output, {"role": "user", "content": "two"}]
        await client.responses.create(model="arbiter", input=items)
    assert readings.last == READ


async def test_every_field_of_openais_own_answer_types_can_be_null_or_empty(endpoint: Any) -> None:
    from openai.types.chat import ChatCompletionMessage
    from openai.types.responses import ResponseOutputMessage

    nothings: list[Any] = [None, "", [], {}]
    last = {"role": "user", "content": "two"}
    async with endpoint(Readings().write) as served:
        for nothing in nothings:
            refusal = nothing or None
            chat = dict.fromkeys(ChatCompletionMessage.model_fields, nothing)
            output = dict.fromkeys(ResponseOutputMessage.model_fields, nothing)
            turns = ({**chat, "role": "assistant", "content": "yes", "refusal": refusal}, {**output, **MESSAGE})
            chatted = await served.post("chat/completions", messages=[turns[0], last])
            responded = await served.post("responses", input=[turns[1], last])
            assert (chatted.status_code, responded.status_code) == (200, 200), (chatted.text, responded.text)


@pytest.mark.parametrize("content", [None, "", []])
async def test_an_answer_without_text_is_an_empty_turn(endpoint: Any, content: Any) -> None:
    readings = Readings()
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": content}]
    last = {"role": "user", "content": "two"}
    async with endpoint(readings.write) as served:
        assert (await served.post("chat/completions", messages=[*turns, last])).status_code == 200
    assert readings.last == [("user", "one"), ("assistant", ""), ("user", "two")]


@pytest.mark.parametrize(
    ("turn", "param"),
    [
        ({"function_call": {"name": "f", "arguments": ""}}, "function_call"),
        ({"audio": {"id": "audio_1"}}, "audio"),
        ({"images": [{"type": "image_url", "image_url": {"url": "data:"}}]}, "images"),
    ],
)
async def test_what_a_text_cannot_hold_of_an_earlier_answer_is_refused(
    endpoint: Any, turn: dict[str, Any], param: str
) -> None:
    messages = [{"role": "assistant", "content": "yes", **turn}, {"role": "user", "content": "two"}]
    async with endpoint() as served:
        refused = await served.post("chat/completions", messages=messages)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, f"messages[0].{param}")


@pytest.mark.parametrize("nothing", [None, "", [], {}])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
async def test_an_unknown_field_that_is_null_or_empty_asks_for_nothing(endpoint: Any, path: str, nothing: Any) -> None:
    body = {
        "chat/completions": {"messages": [{"role": "user", "content": "q", "later": nothing}]},
        "completions": {"prompt": "q"},
        "responses": {"input": [{"role": "user", "content": [{"type": "input_text", "text": "q", "later": nothing}]}]},
    }[path]
    async with endpoint() as served:
        taken = await served.post(path, **body, later=nothing, arbiter={"later": nothing, "steps": None})
    assert taken.status_code == 200, taken.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"later": False}, "later"),
        ({"later": 0}, "later"),
        ({"messages": [{"role": "user", "content": "q", "later": "x"}]}, "messages[0].later"),
        ({"arbiter": {"later": 1}}, "arbiter.later"),
        ({"web_search_options": {}}, "web_search_options"),
    ],
)
async def test_a_field_that_asks_for_something_is_refused(endpoint: Any, body: dict[str, Any], param: str) -> None:
    async with endpoint() as served:
        refused = await served.post("chat/completions", **{"messages": [{"role": "user", "content": "q"}], **body})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_null_and_empty_settings_inside_a_refused_field_ask_for_nothing(endpoint: Any) -> None:
    async with endpoint() as served:
        taken = await served.post(
            "responses",
            input="q",
            text={"format": {"type": "text"}, "verbosity": None},
            reasoning={"effort": None, "summary": None},
            tools=[],
        )
        refused = await served.post("responses", input="q", prompt={"id": "p", "version": None})
    assert (taken.status_code, refused.status_code) == (200, 400)


async def test_the_error_names_only_values_that_someone_would_send(endpoint: Any) -> None:
    async with endpoint() as served:
        expected = (await served.chat(prediction={"type": "content"})).json()["error"]["message"]
        probable = (await served.chat(logprobs=True)).json()["error"]["message"]
    assert (expected, probable) == (
        "prediction cannot be honoured: leave it out",
        "logprobs cannot be honoured: leave it out, or send false",
    )
