"""Tools and structured answers through a real sglang server, whose engine constrains what it writes.

After a colon, as at the end of the prompt of ``tools.jinja``, the model with hand-set weights ends its answer at once.
So only its engine can make its text fit a schema.
"""

import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from openai import AsyncOpenAI, InternalServerError

from arbiter.config.config import parse
from arbiter.gateway.app import Gateway
from arbiter.gateway.inprocess_client import BASE, open_http_client
from arbiter.library.arbiter import Arbiter
from arbiter.structured.validation import violation_of
from tests.servers.asking import Model, asked, at_once
from tests.servers.engines import POCKET, SGLANG, WRITER


def _without_white_space(model: str, folder: Path, port: int) -> list[str]:
    """Return the arguments of a server whose constraints allow no white space, which the model would not end."""
    return [*SGLANG.arguments(model, folder, port), "--constrained-json-disable-any-whitespace"]


ENGINE = msgspec.structs.replace(SGLANG, models=(WRITER,), keys={"engine": "sglang"}, arguments=_without_white_space)
pytestmark = [pytest.mark.servers, pytest.mark.asyncio]

ADD: dict[str, Any] = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
ADD["additionalProperties"] = False
TOOL = {"type": "function", "function": {"name": "add", "parameters": ADD}}
ANSWER = json.dumps(
    {
        "type": "object",
        "properties": {"sum": {"enum": [3, 4]}, "sure": {"type": "boolean"}},
        "required": ["sum", "sure"],
        "additionalProperties": False,
    }
)
QUESTION = "Compute 1+1."
TEMPLATE = Path(__file__).parent / "tools.jinja"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tokenizer of the model, with a chat template that has a place for tools."""
    folder = tmp_path_factory.mktemp("tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(POCKET / "draft" / name, folder)
    shutil.copy(TEMPLATE, folder / "chat_template.jinja")
    return str(folder)


def opened(model: Model, tokenizer: str, **keys: Any) -> Arbiter:
    """Return an Arbiter to open, whose target alone answers: the served model, with a chat template."""
    table = {**model.table, "prompt": "chat", "tokenizer": tokenizer, "calls": "hermes", **keys}
    limits = {"max_steps": 8, "step_tokens": 60}
    return Arbiter(parse({"run_type": "target", "limits": limits, "models": {"target": table}}, "test"))


@asynccontextmanager
async def endpoint(model: Model, tokenizer: str, **keys: Any) -> AsyncGenerator[AsyncOpenAI]:
    arbiter = opened(model, tokenizer, **keys)
    gateway = Gateway(arbiter)
    async with (
        arbiter,
        open_http_client(gateway.app, httpx2) as client,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=client, max_retries=0) as openai,
    ):
        yield openai


async def test_the_engine_writes_what_fits_the_schema_of_a_request(models: dict[str, Model]) -> None:
    schemas = [ANSWER, '{"enum": ["yes", "no"]}', '{"type": "array", "items": {"type": "null"}, "maxItems": 3}']
    async with models[WRITER].writing() as generator:
        requests = [
            asked(QUESTION, constraint=schema, temperature=temperature, seed=seed)
            for schema in schemas
            for temperature, seed in ((0.0, 0), (1.0, 1), (1.0, 2))
        ]
        answers = await at_once(generator, requests)
        plain = await generator.generate(asked(QUESTION))
    assert [
        violation_of(request.constraint, answer.text) for request, answer in zip(requests, answers, strict=True)
    ] == [None] * len(answers)
    assert violation_of(ANSWER, plain.text) is not None


async def test_a_loop_of_two_calls_ends_with_a_structured_answer(models: dict[str, Model], tokenizer: str) -> None:
    async with opened(models[WRITER], tokenizer) as arbiter:
        messages: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
        for _ in range(2):
            solution = await arbiter.solve(messages, tools=[TOOL], tool_choice="required", seed=5)
            assert solution.finish_reason == "tool_calls"
            (call,) = solution.tool_calls
            assert (call.name, violation_of(ADD, call.arguments)) == ("add", None)
            called = {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
            messages.append({"role": "assistant", "content": solution.text, "tool_calls": [called]})
            result = str(json.loads(call.arguments)["a"] + 1)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        solution = await arbiter.solve(messages, schema=json.loads(ANSWER))
    assert solution.finish_reason == "answered"
    assert violation_of(ANSWER, solution.text) is None


async def test_the_answers_of_the_endpoint_fit_the_schema_of_the_request(
    models: dict[str, Model], tokenizer: str
) -> None:
    schema = {"name": "answer", "schema": json.loads(ANSWER), "strict": True}
    form: Any = {"type": "json_schema", "json_schema": schema}
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    async with endpoint(models[WRITER], tokenizer) as openai:
        whole = await openai.chat.completions.create(model="arbiter", messages=messages, response_format=form, seed=3)
        stream = await openai.chat.completions.create(
            model="arbiter", messages=messages, response_format=form, seed=3, stream=True
        )
        streamed = "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])
        text: Any = {"format": {"type": "json_schema", **schema}}
        response = await openai.responses.create(model="arbiter", input=QUESTION, text=text)
    assert violation_of(ANSWER, streamed) is None
    assert whole.choices[0].message.content == streamed
    assert violation_of(ANSWER, response.output_text) is None


async def test_behind_an_engine_of_another_kind_nothing_constrains_and_the_answer_is_an_error(
    models: dict[str, Model], tokenizer: str
) -> None:
    reason = "broke the rules of the answer in each of 3 tries"
    async with opened(models[WRITER], tokenizer, engine="other") as arbiter:
        solution = await arbiter.solve(QUESTION, schema=json.loads(ANSWER))
    assert solution.finish_reason == "failed"
    assert reason in (solution.error or "")
    async with endpoint(models[WRITER], tokenizer, engine="other") as openai:
        form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(ANSWER)}}
        with pytest.raises(InternalServerError, match=reason):
            await openai.chat.completions.create(
                model="arbiter", messages=[{"role": "user", "content": QUESTION}], response_format=form
            )


async def test_plain_questions_have_the_answers_that_they_have_without_constraints(
    models: dict[str, Model], tokenizer: str
) -> None:
    plain_prompt: dict[str, Any] = {"prompt": "{question}", "calls": None}
    async with (
        opened(models[WRITER], tokenizer, **plain_prompt) as plain,
        opened(models[WRITER], tokenizer) as arbiter,
    ):
        for _ in range(2):
            solution = await plain.solve("2")
            assert (solution.text, solution.finish_reason) == ("def", "answered")
            await arbiter.solve(QUESTION, tools=[TOOL], tool_choice="required", seed=5)
