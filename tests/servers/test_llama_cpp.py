"""Tests with real llama.cpp servers and GGUF files."""

import pytest

from arbiter.backends.opening import open_generator
from arbiter.config.config import load_config
from tests.servers.asking import Model, asked
from tests.servers.engines import LLAMA_CPP
from tests.servers.rules import GenerationRules

ENGINE = LLAMA_CPP
pytestmark = pytest.mark.servers


class TestGenerationBehindLlamaCpp(GenerationRules):
    pass


@pytest.mark.asyncio
async def test_a_draft_in_a_gguf_file_writes_the_steps_that_it_writes_in_process(models: dict[str, Model]) -> None:
    table = load_config("pocket").models.draft
    assert table is not None
    requests = [asked(f"Compute {left} + {right} * 2.", max_tokens=100) for left in range(4) for right in range(4)]
    async with open_generator("draft", table, 1) as generator:
        here = [await generator.generate(request) for request in requests]
    async with models["draft"].writing(prompt=table.prompt) as generator:
        there = [await generator.generate(request) for request in requests]
    assert [(one.text, one.stop_reason) for one in there] == [(one.text, one.stop_reason) for one in here]
    assert len({one.text for one in here}) > 1
