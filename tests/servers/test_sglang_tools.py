"""Tools and structured answers through a real sglang server, whose engine constrains what it writes.

The model with hand-set weights ends each answer at once, so only its engine can make its text fit a schema.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.config.config import parse
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ProblemError
from arbiter.protocols.records import Solution, Transcript
from arbiter.protocols.tools import AnswerRules
from arbiter.structured.validation import violation_of
from tests.servers.asking import Model, asked, at_once
from tests.servers.engines import SGLANG, WRITER


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


@asynccontextmanager
async def opened(model: Model, **keys: Any) -> AsyncGenerator[Arbiter]:
    """Open an Arbiter whose target alone answers: the served model, with the prompt of Qwen3."""
    table = {**model.table, "prompt": "qwen3", **keys}
    limits = {"max_steps": 8, "step_tokens": 60}
    async with Arbiter(parse({"run_type": "target", "limits": limits, "models": {"target": table}}, "test")) as arbiter:
        yield arbiter


async def structured(arbiter: Arbiter) -> Solution:
    task = arbiter.task(QUESTION)
    rules = AnswerRules(schema=ANSWER)
    return await arbiter.run(msgspec.structs.replace(task, transcript=Transcript(QUESTION, rules=rules)))


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


async def test_a_loop_of_two_calls_ends_with_a_structured_answer(models: dict[str, Model]) -> None:
    async with opened(models[WRITER]) as arbiter:
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
        solution = await structured(arbiter)
    assert solution.finish_reason == "answered"
    assert violation_of(ANSWER, solution.text) is None


async def test_without_a_known_engine_nothing_constrains_and_the_answer_is_an_error(models: dict[str, Model]) -> None:
    async with opened(models[WRITER], engine=None) as arbiter:
        with pytest.raises(ProblemError, match="broke the rules of the answer in each of 3 tries"):
            await structured(arbiter)


async def test_plain_questions_have_the_answers_that_they_have_without_constraints(models: dict[str, Model]) -> None:
    async with opened(models[WRITER], prompt="{question}") as plain, opened(models[WRITER]) as arbiter:
        for _ in range(2):
            solution = await plain.solve("2")
            assert (solution.text, solution.finish_reason) == ("def", "answered")
            await arbiter.solve(QUESTION, tools=[TOOL], tool_choice="required", seed=5)
