"""A constraint goes to each engine in its own words. A server that cannot keep one writes freely, said once."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.backends.served.constraints import constraint_fields
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import Generation, GenerationRequest

if TYPE_CHECKING:
    from conftest import AGenerator, Asked, FakeServer, Reply, Script

    from arbiter.config.model_tables import ServedEngine

    Engine = Callable[[str, Callable[[Asked], str]], Script]

StepOf = Callable[..., Awaitable[Generation]]
Requests = Callable[..., GenerationRequest]

SCHEMA = '{"type": "object", "properties": {"a": {"const": 9007199254740993}}}'
DATA = json.loads(SCHEMA)
JSON = '{\n\n"a": 9007199254740993\n\n}'
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": DATA, "strict": True}}
REFUSED = {"status": 400, "body": {"error": {"message": "the schema is not supported"}}}


@pytest.fixture
def written(engine: Engine) -> Script:
    return engine("plain", lambda _: JSON)


@pytest.mark.parametrize(
    ("served", "fields"),
    [
        ("sglang", {"json_schema": SCHEMA}),
        ("vllm", {"structured_outputs": {"json": SCHEMA}}),
        ("llama.cpp", {"json_schema": DATA}),
    ],
)
@pytest.mark.parametrize("backend", ["http", "openai"])
@pytest.mark.asyncio
async def test_each_engine_gets_the_schema_in_its_own_field_and_no_stop(
    served: ServedEngine, fields: dict[str, Any], server: FakeServer, step: StepOf, written: Script
) -> None:
    server.replies(written)
    found = await step({"engine": served}, constraint=SCHEMA)
    (asked,) = server.asked
    assert {key: asked.body.get(key) for key in fields} == fields
    assert "stop" not in asked.body
    assert (found.text, found.stop_reason) == (JSON, "end")


@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.asyncio
async def test_a_constrained_answer_that_is_cut_ends_by_its_limit(
    server: FakeServer, step: StepOf, written: Script
) -> None:
    server.replies(written)
    found = await step({"engine": "sglang"}, constraint=SCHEMA, max_tokens=5)
    assert (found.text, found.stop_reason) == (JSON[:5], "limit")


@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.asyncio
async def test_a_request_without_a_constraint_has_no_field_of_one(
    server: FakeServer, step: StepOf, written: Script
) -> None:
    server.replies(written)
    await step({"engine": "sglang"})
    assert "json_schema" not in server.asked[0].body
    assert server.asked[0].body["stop"] == ["\n\n"]


@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.asyncio
async def test_without_a_known_engine_the_step_is_written_freely_and_this_is_said_once(
    server: FakeServer,
    a_generator: AGenerator,
    generation: Requests,
    written: Script,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.replies(written)
    with caplog.at_level(logging.WARNING, "arbiter.backends"):
        async with a_generator() as generator:
            steps = [await generator.generate(generation(constraint=SCHEMA)) for _ in range(2)]
            free = await generator.generate(generation())
    assert steps == [free, free]
    (record,) = caplog.records
    assert "Set engine to the engine that is served there" in record.getMessage()


def refusing(then: Script) -> Callable[[Asked], Reply]:
    return lambda asked: REFUSED if "json_schema" in asked.body else then(asked)


@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.asyncio
async def test_a_refused_constraint_is_left_out_and_this_is_said_once(
    server: FakeServer,
    a_generator: AGenerator,
    generation: Requests,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.replies(refusing(engine("sglang", lambda _: "First.\n\nSecond.")))
    with caplog.at_level(logging.WARNING, "arbiter.backends"):
        async with a_generator(engine="sglang") as generator:
            steps = [await generator.generate(generation(constraint=SCHEMA)) for _ in range(2)]
    assert [(found.text, found.stop_reason) for found in steps] == [("First.", "separator")] * 2
    (record,) = caplog.records
    assert "the schema is not supported" in record.getMessage()


@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"status": 503, "body": {"error": {"message": "busy"}}}, BackendError),
        (
            {"status": 400, "body": {"error": {"message": "This model's maximum context length is 9 tokens."}}},
            ContextTooLongError,
        ),
    ],
)
@pytest.mark.asyncio
async def test_other_failures_under_a_constraint_are_failures(
    reply: Reply, error: type[Exception], server: FakeServer, step: StepOf, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies(reply)
    with caplog.at_level(logging.WARNING, "arbiter.backends"), pytest.raises(error):
        await step({"engine": "sglang"}, constraint=SCHEMA)
    assert caplog.records == []
    assert all("json_schema" in asked.body for asked in server.asked)


def test_a_chat_completion_gets_a_response_format_whatever_the_engine() -> None:
    for engine in ("sglang", "vllm", "llama.cpp", "other", None):
        assert constraint_fields(SCHEMA, engine, is_chat=True) == {"response_format": RESPONSE_FORMAT}


def test_integers_of_more_than_64_bits_become_floats_where_bodies_cannot_hold_them() -> None:
    schema = f'{{"maximum": {2**70}, "minimum": {2**62 + 1}}}'
    assert constraint_fields(schema, "llama.cpp", is_chat=False) == {
        "json_schema": {"maximum": float(2**70), "minimum": 2**62 + 1}
    }
    assert constraint_fields(schema, "sglang", is_chat=False) == {"json_schema": schema}
