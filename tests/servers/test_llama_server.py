"""Tests with llama.cpp's own HTTP server, and what its answers mean."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.chat_hosts import ChatRequests, Continued
from arbiter.backends.served.completion_answers import PATH, EndSigns
from arbiter.backends.served.generator import ServedGenerator
from arbiter.backends.served.served_models import open_transport
from arbiter.config.config import parse
from arbiter.config.model_tables import ServedTable
from arbiter.data import load_problems
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.records import Solution
from tests.servers.asking import Model, asked
from tests.servers.engines import LLAMA_SERVER, WRITER
from tests.servers.rules import GenerationRules
from tests.servers.test_sglang_chat import solved
from tests.servers.token_rules import StepTokenRules

pytestmark = pytest.mark.servers
QUESTION, PROMPT = PromptTemplate("{question}"), PromptTemplate("Problem: {question}\nSolution:\n")
PROBLEMS = 8


def _with_template(model: str, file: Path, port: int) -> list[str]:
    return [*LLAMA_SERVER.arguments(model, file, port), str(Path(__file__).parent / "question.jinja")]


ENGINE = msgspec.structs.replace(LLAMA_SERVER, arguments=_with_template)


class TestGenerationBehindLlamaServer(GenerationRules):
    pass


class TestStepTokensBehindLlamaServer(StepTokenRules):
    pass


async def answered(model: Model, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of the server to a completion request."""
    async with open_transport("target", served(model)) as transport:
        return json.loads(await transport.post(PATH, {"model": WRITER, "temperature": 0, **body}, ""))


def served(model: Model) -> ServedTable:
    table = model.seen("target")
    assert isinstance(table, ServedTable)
    return table


@pytest.mark.asyncio
async def test_every_token_can_be_drawn_and_not_the_40_most_likely_alone(writer: Model) -> None:
    drawn: set[str] = set()
    async with writer.writing() as generator:
        for seed in range(150):
            request = asked("1", max_tokens=1, temperature=1000.0, seed=seed)
            drawn.add((await generator.generate(request)).text)
    assert len(drawn) > 45


@pytest.mark.asyncio
async def test_a_host_that_repeats_the_partial_answer_writes_the_steps_that_it_writes_without_chat(
    models: dict[str, Model],
) -> None:
    table, signs = served(models["draft"]), EndSigns(frozenset(), "llama.cpp")
    async with open_transport("target", table) as transport:
        continued = ChatRequests(transport, QUESTION, Continued("prefill", repeats=True))
        chat = ServedGenerator(transport, table.model, QUESTION, signs=signs, chats=continued)
        plain = ServedGenerator(transport, table.model, PROMPT, signs=signs)
        for problem in load_problems("pocket:1", PROBLEMS):
            assert await solved(chat, problem.question, None) == await solved(plain, problem.question, None)


@pytest.mark.asyncio
@pytest.mark.parametrize("model", ["draft", "target"])
async def test_the_run_type_target_writes_in_steps_what_it_writes_in_one_go(
    models: dict[str, Model], model: str
) -> None:
    table = {**models[model].table, "prompt": PROMPT.before_steps}

    async def written(**keys: Any) -> list[Solution]:
        config = parse({"run_type": "target", "models": {"target": table}, **keys}, "test")
        async with Arbiter(config) as arbiter:
            return [await arbiter.solve(problem.question) for problem in load_problems("pocket:1", PROBLEMS)]

    whole, steps = await written(separator="\0none\0"), await written()
    assert [_numbers(one) for one in steps] == [_numbers(one) for one in whole]
    assert all(_numbers(one) for one in steps)
    assert any(len(one.steps) > 1 for one in steps)


def _numbers(solution: Solution) -> list[int]:
    return [token for step in solution.steps for token in step.kept.token_ids]


@pytest.mark.asyncio
async def test_a_request_for_no_token_gets_one(writer: Model) -> None:
    """So a request must ask for one at least, as all requests for steps do (``within_context``)."""
    answer = await answered(writer, {"prompt": "1", "max_tokens": 0})
    assert (answer["choices"][0]["text"], answer["usage"]["completion_tokens"]) == ("a", 1)


@pytest.mark.asyncio
async def test_the_usage_of_several_prompts_is_that_of_the_first(writer: Model) -> None:
    """So a request must have one prompt, as all requests for steps have."""
    answer = await answered(writer, {"prompt": ["1", "1" * 50], "max_tokens": 2})
    assert [choice["text"] for choice in answer["choices"]] == ["ab", "ab"]
    assert answer["usage"]["prompt_tokens"] == 1
