"""A real transformers server with continuous batching. It ignores ``stop``, so the client ends each step."""

import pytest

from tests.servers.asking import Model, asked
from tests.servers.engines import CONTINUOUS
from tests.servers.rules import GenerationRules

ENGINE = CONTINUOUS
pytestmark = pytest.mark.servers


class TestGenerationBehindContinuousBatching(GenerationRules):
    pass


@pytest.mark.asyncio
async def test_what_a_server_that_ignores_stop_writes_behind_a_step_is_counted_apart(writer: Model) -> None:
    async with writer.writing() as generator:
        found = await generator.generate(asked("1", max_tokens=50))
    assert (found.text, found.usage.completion_tokens, found.overhead.completion_tokens) == ("abc", 5, 45)
