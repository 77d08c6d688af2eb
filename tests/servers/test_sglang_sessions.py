"""Sessions of a real sglang whose cache is smaller than the traffic."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from arbiter.backends.wrapped_generator import WrappedGenerator
from arbiter.protocols.model_traits import HoldsProblems
from arbiter.protocols.ports import Generator
from arbiter.protocols.records import Transcript
from tests.servers.asking import Model, asked
from tests.servers.engines import SGLANG

pytestmark = [pytest.mark.servers, pytest.mark.asyncio]

POOL = 2048
_OTHER_TOKENS = 200
QUESTION = "Compute " + "12+30*7-" * 20 + "5."


def _with_a_small_pool(model: str, folder: Path, port: int) -> list[str]:
    return [*SGLANG.arguments(model, folder, port), "--max-total-tokens", str(POOL)]


ENGINE = msgspec.structs.replace(SGLANG, models=("target",), arguments=_with_a_small_pool)

KILLED = """
import json, os, signal, sys
import anyio
from tests.servers.asking import Model, asked

async def main():
    async with Model(json.loads(sys.argv[1])).writing() as generator:
        await generator.generate(asked(sys.argv[2], problem="p"))
        print("written", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def killed(models: dict[str, Model], state: None) -> None:
    """A process that was killed while its problem was in progress."""
    command = [sys.executable, "-c", KILLED, json.dumps(models["target"].table), QUESTION]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=300)
    assert (ended.stdout, ended.returncode) == ("written\n", -signal.SIGKILL), ended.stderr


async def fill(generator: Generator, seed: int) -> None:
    """Have the server read twice what its cache holds, for no problem."""
    draws = random.Random(seed)
    for _ in range(2 * POOL // _OTHER_TOKENS):
        other = " ".join(draws.choices("0123456789", k=_OTHER_TOKENS))
        await generator.generate(asked(other, problem="", max_tokens=1))


async def cached(generator: Generator, problem: str = "") -> float:
    """Return the share of the prompt that comes from the cache."""
    usage = (await generator.generate(asked("", problem=problem, transcript=Transcript(QUESTION)))).usage
    return usage.cached_tokens / usage.prompt_tokens


async def test_a_full_cache_keeps_a_problem_until_it_ends(models: dict[str, Model]) -> None:
    async with models["target"].writing() as generator:
        assert isinstance(generator, WrappedGenerator)
        assert isinstance(generator, HoldsProblems)
        await cached(generator, "p")
        await fill(generator, 1)
        assert await cached(generator, "p") > 0.9
        generator.release("p")
    async with models["target"].writing() as generator:  # the block before waited until the session was closed
        await fill(generator, 2)
        assert await cached(generator) < 0.1


async def test_a_full_cache_keeps_nothing_that_is_of_no_problem(models: dict[str, Model]) -> None:
    async with models["target"].writing() as generator:
        await cached(generator)
        await fill(generator, 3)
        assert await cached(generator) < 0.1


async def test_the_next_start_has_the_server_forget_the_problems_of_a_killed_process(
    models: dict[str, Model], killed: None
) -> None:
    plain = Model({**models["target"].table, "server": {"engine": "vllm"}})  # which uses no sessions
    async with plain.writing() as generator:
        await fill(generator, 4)
        assert await cached(generator) > 0.9
    async with models["target"].writing() as generator:
        await fill(generator, 5)
        assert await cached(generator) < 0.1
