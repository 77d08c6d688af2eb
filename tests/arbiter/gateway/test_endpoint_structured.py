"""Structured answers at the endpoint: of both APIs, streamed and not, with the openai package."""

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from arbiter.backends.calling import CallingGenerator
from arbiter.gateway.inprocess_client import BASE
from arbiter.protocols.ports import Generation, GenerationRequest, Generator
from arbiter.protocols.records import Usage
from arbiter.protocols.tools import ToolCall

QUESTION: Any = {"role": "user", "content": "1+1?"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "total", "schema": SCHEMA, "strict": True}}
FLAT: Any = {"format": {"type": "json_schema", "name": "total", "schema": SCHEMA}}
GOOD, BAD = '{"sum": 2}', '{"sum": "two"}'
USAGE = Usage(10, 5)
Write = Callable[[GenerationRequest], Generation]


class Total(BaseModel):
    sum: int


def adder(request: GenerationRequest) -> Generation:
    """Think, then answer: the draft with a wrong type."""
    if not request.transcript.steps:
        return Generation("<think>One and one.", "separator", USAGE)
    return Generation(f"So it is two.</think>\n\n{BAD if request.author == 'draft' else GOOD}", "end", USAGE)


class Lacking(CallingGenerator):
    """A model that fails under a constraint."""

    @property
    def without_constraints(self) -> str | None:
        return "constrained decoding needs llguidance: pip install it"


def always(text: str) -> Write:
    return lambda request: Generation(text, "end", USAGE)


def client(served: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=served.client)


@pytest.mark.asyncio
async def test_a_chat_is_parsed_and_the_content_is_the_json_alone(endpoint: Any) -> None:
    async with endpoint(adder) as served, client(served) as openai:
        parsed = await openai.chat.completions.parse(model="arbiter", messages=[QUESTION], response_format=Total)
        async with openai.chat.completions.stream(
            model="arbiter", messages=[QUESTION], response_format=Total
        ) as stream:
            streamed = await stream.get_final_completion()
        assert served.models.router.calls == 2  # for the thoughts: what breaks the schema costs no score
    for completion in (parsed, streamed):
        (choice,) = completion.choices
        assert (choice.message.content, choice.message.parsed, choice.finish_reason) == (GOOD, Total(sum=2), "stop")


@pytest.mark.asyncio
async def test_a_response_is_parsed_and_repeats_its_format(endpoint: Any) -> None:
    async with endpoint(adder) as served, client(served) as openai:
        parsed = await openai.responses.parse(model="arbiter", input="1+1?", text_format=Total)
        async with openai.responses.stream(model="arbiter", input="1+1?", text_format=Total) as stream:
            streamed = await stream.get_final_response()
        plain = await openai.responses.create(model="arbiter", input="1+1?", text=FLAT)
    for response in (parsed, streamed):
        assert (response.output_text, response.output_parsed, response.status) == (GOOD, Total(sum=2), "completed")
    assert plain.output_text == GOOD
    assert plain.text is not None
    assert plain.text.format is not None
    assert (plain.text.format.type, plain.text.format.to_dict()["schema"]) == ("json_schema", SCHEMA)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("strict", [True, False, None])
@pytest.mark.asyncio
async def test_an_answer_is_verified_with_strict_and_without(endpoint: Any, strict: bool | None, n: int) -> None:
    chosen = {"type": "json_schema", "json_schema": {**FORMAT["json_schema"], "strict": strict}}
    async with endpoint(adder) as served:
        answer = await served.chat(response_format=chosen, n=n)
    assert [choice["message"]["content"] for choice in answer.json()["choices"]] == [GOOD] * n


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": [QUESTION], "response_format": {"type": "json_object"}}),
        ("responses", {"input": "1+1?", "text": {"format": {"type": "json_object"}}}),
    ],
)
@pytest.mark.asyncio
async def test_any_object_is_a_format(endpoint: Any, path: str, body: dict[str, Any]) -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation("[2]" if request.author == "draft" else '{"two": 2}', "end", USAGE)

    async with endpoint(write) as served:
        answer = (await served.post(path, **body)).json()
    message = answer["output"][0]["content"][0]["text"] if "output" in answer else _content(answer)
    assert json.loads(message) == {"two": 2}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": [QUESTION], "response_format": {"type": "text"}}),
        ("chat/completions", {"messages": [QUESTION], "response_format": None}),
        ("responses", {"input": "1+1?", "text": {"format": {"type": "text"}}}),
        ("responses", {"input": "1+1?", "text": {}}),
    ],
)
@pytest.mark.asyncio
async def test_a_format_of_text_changes_nothing(endpoint: Any, path: str, body: dict[str, Any]) -> None:
    seen: list[Any] = []

    def write(request: GenerationRequest) -> Generation:
        seen.append(request.transcript.rules)
        return Generation("Two.", "end", USAGE)

    async with endpoint(write) as served:
        assert (await served.post(path, **body)).status_code == 200
    assert set(seen) == {None}


@pytest.mark.asyncio
async def test_name_and_description_of_a_format_reach_the_models(endpoint: Any) -> None:
    seen: list[str] = []

    def write(request: GenerationRequest) -> Generation:
        assert request.transcript.rules is not None
        seen.append(request.transcript.rules.schema or "")
        return Generation(GOOD, "end", USAGE)

    described = {"type": "json_schema", "json_schema": {**FORMAT["json_schema"], "description": "A total."}}
    async with endpoint(write) as served:
        assert _content((await served.chat(response_format=described)).json()) == GOOD
    assert json.loads(seen[0]) == {"title": "total", "description": "A total.", **SCHEMA}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.asyncio
async def test_where_no_model_fits_the_schema_the_answer_is_an_error(endpoint: Any, stream: bool) -> None:
    async with endpoint(always(BAD)) as served:
        for path, body in (
            ("chat/completions", {"messages": [QUESTION], "response_format": FORMAT}),
            ("responses", {"input": "1+1?", "text": FLAT}),
        ):
            answer = await served.post(path, stream=stream, **body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["type"]) == (502, "model_failed", "server_error")
            assert "in each of 3 tries: the answer does not fit its schema: at /sum: " in error["message"]


@pytest.mark.asyncio
async def test_json_that_a_limit_cuts_is_sent_with_length_and_with_no_other_reason(endpoint: Any) -> None:
    def cut(request: GenerationRequest) -> Generation:
        return Generation('<think>So</think>{"sum": ', "limit", USAGE)

    async with endpoint(cut) as served:
        chat = (await served.chat(response_format=FORMAT)).json()
        response = (await served.post("responses", input="1+1?", text=FLAT)).json()
    assert (_content(chat), chat["choices"][0]["finish_reason"]) == ('{"sum": ', "length")
    assert (response["status"], response["incomplete_details"]["reason"]) == ("incomplete", "max_output_tokens")


@pytest.mark.asyncio
async def test_json_that_a_stop_text_cuts_is_an_error(endpoint: Any) -> None:
    async with endpoint(always(GOOD)) as served:
        answer = await served.chat(response_format=FORMAT, stop=["}"])
    assert answer.status_code == 502
    assert "does not fit its schema" in answer.json()["error"]["message"]


@pytest.mark.asyncio
async def test_with_tools_the_answer_calls_one_or_fits(endpoint: Any) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}

    def write(request: GenerationRequest) -> Generation:
        if any(turn.role == "tool" for turn in request.transcript.after):
            return Generation("It is 2." if request.author == "draft" else GOOD, "end", USAGE)
        return Generation("", "end", USAGE, calls=(ToolCall("", "add", "{}"),))

    async with endpoint(write) as served:
        first = (await served.chat(tools=[tool], response_format=FORMAT)).json()
        message = first["choices"][0]["message"]
        (call,) = message["tool_calls"]
        messages = [QUESTION, message, {"role": "tool", "tool_call_id": call["id"], "content": "2"}]
        second = (await served.post("chat/completions", messages=messages, tools=[tool], response_format=FORMAT)).json()
    assert (first["choices"][0]["finish_reason"], message["content"]) == ("tool_calls", None)
    assert _content(second) == GOOD


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.asyncio
async def test_a_thought_that_the_prompt_opens_is_no_part_of_the_content(endpoint: Any, inline: bool) -> None:
    def write(request: GenerationRequest) -> Generation:
        return Generation(BAD if request.author == "draft" else f"One and one.</think>{GOOD}", "end", USAGE)

    def thinking(model: Generator) -> Generator:
        return CallingGenerator(model, None, opens_thought=True)

    async with endpoint(write, wrap=thinking) as served:
        extras = {"arbiter": {"reasoning": "inline"}} if inline else {}
        chat = (await served.chat(response_format=FORMAT, **extras)).json()
    assert _content(chat) == GOOD
    assert chat["choices"][0]["message"]["reasoning_content"] == "One and one."


SCHEMA_FIELD = "response_format.json_schema"
RECURSIVE = {"properties": {"more": {"$ref": "#"}}, "type": "object"}
NOT_SCHEMAS: list[Any] = [
    3,
    [],
    {"type": "nothing"},
    {"properties": 3},
    {"pattern": "("},
    {"$ref": "https://example.org/schema"},
    {"enum": ["x" * 600_000]},
    functools.reduce(lambda inner, _: {"properties": {"a": inner}}, range(300), dict[str, Any]()),
]
FAULTY: list[Any] = [
    ({"type": "grammar"}, "response_format.type"),
    ({"type": "json_schema"}, SCHEMA_FIELD),
    ({"json_schema": FORMAT["json_schema"]}, "response_format.type"),
    ({"type": "json_object", "json_schema": FORMAT["json_schema"]}, SCHEMA_FIELD),
    ({"type": "json_schema", "json_schema": {"schema": SCHEMA}}, f"{SCHEMA_FIELD}.name"),
    ({"type": "json_schema", "json_schema": {"name": "total"}}, f"{SCHEMA_FIELD}.schema"),
    ({"type": "json_schema", "json_schema": {"name": "two words", "schema": SCHEMA}}, f"{SCHEMA_FIELD}.name"),
    ({"type": "json_schema", "json_schema": {**FORMAT["json_schema"], "grammar": "x"}}, f"{SCHEMA_FIELD}.grammar"),
    *(
        ({"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}, f"{SCHEMA_FIELD}.schema")
        for schema in NOT_SCHEMAS
    ),
    ("json", "response_format"),
]


@pytest.mark.parametrize(("format_", "param"), FAULTY)
@pytest.mark.asyncio
async def test_a_format_that_is_none_is_refused_by_its_field(endpoint: Any, format_: Any, param: str) -> None:
    async with endpoint() as served:
        refused = await served.chat(response_format=format_)
        error = refused.json()["error"]
        assert (refused.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
        assert len(error["message"]) < 1000
        assert (await served.chat()).status_code == 200


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ({"format": {"type": "grammar"}}, "text.format.type"),
        ({"format": {"type": "json_schema", "name": "t"}}, "text.format.schema"),
        ({"format": {"type": "json_schema", "schema": SCHEMA}}, "text.format.name"),
        ({"format": {"type": "json_object", "schema": SCHEMA}}, "text.format.schema"),
        ({"format": {"type": "json_schema", "name": "t", "schema": {"type": 3}}}, "text.format.schema"),
        ({"verbosity": "low"}, "text.verbosity"),
        ({"colour": "red"}, "text.colour"),
    ],
)
@pytest.mark.asyncio
async def test_a_format_of_a_response_that_is_none_is_refused_by_its_field(
    endpoint: Any, text: Any, param: str
) -> None:
    async with endpoint() as served:
        refused = await served.post("responses", input="q", text=text)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


@pytest.mark.asyncio
async def test_a_schema_may_refer_to_itself(endpoint: Any) -> None:
    chosen = {"type": "json_schema", "json_schema": {"name": "t", "schema": RECURSIVE}}
    async with endpoint(always('{"more": {"more": {}}}')) as served:
        answer = await served.chat(response_format=chosen)
    assert answer.status_code == 200


@pytest.mark.asyncio
async def test_a_model_that_cannot_be_constrained_is_refused_before_the_problem_begins(endpoint: Any) -> None:
    def lacking(model: Generator) -> Generator:
        return Lacking(model, None)

    async with endpoint(wrap=lacking) as served:
        refused = await served.chat(response_format=FORMAT)
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "response_format.json_schema.schema")
        assert "pip install it" in error["message"]
        assert served.models.draft.calls == 0


def _content(answer: dict[str, Any]) -> Any:
    return answer["choices"][0]["message"]["content"]
