"""Tokens per CPU second: the engine, ``generate`` of transformers, and an sglang server."""

import itertools
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import msgspec
import torch
from fleets import POCKET, behind_servers, say, serving

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import open_model
from arbiter.backends.opening import open_generator
from arbiter.backends.prompts import PromptTemplate
from arbiter.config.config import load_config
from arbiter.pocket import resolved, world
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import GenerationRequest, Generator
from arbiter.protocols.records import Transcript

BATCHES = (1, 16, 64)
TOKENS = 40
TARGET = "pocket:target"


class SpeedRow(msgspec.Struct, frozen=True):
    """Tokens per CPU second at a batch size. None: not measured here."""

    batch: int
    engine: float
    transformers: float
    sglang: float | None


def questions(count: int) -> list[str]:
    """Return the questions of the first test problems."""
    return [problem.question for problem in itertools.islice(world.problems(1, "test"), count)]


def request(question: str) -> GenerationRequest:
    """Return a request for ``TOKENS`` tokens: the separator does not occur."""
    return GenerationRequest(question, 0, 0, "target", Transcript(question), "####", TOKENS, 0.0, 1.0, 0)


def measure_speed(batch: int, rounds: int, served: float | None) -> SpeedRow:
    """Write the answers to a few batches of questions, in this process, in turn with the engine and transformers."""
    engine, plain = engine_writer(batch), transformers_writer(batch)
    asked = questions(max(2 * batch, 8))
    rates: dict[str, list[float]] = {"engine": [], "plain": []}
    for number in range(rounds + 1):
        for name, write in (("engine", engine), ("plain", plain)):
            started = time.process_time()
            tokens = write(asked)
            if number:
                rates[name].append(tokens / (time.process_time() - started))
    return SpeedRow(batch, round(median(rates["engine"])), round(median(rates["plain"])), served)


def engine_writer(batch: int) -> Callable[[list[str]], int]:
    """Return a function that writes with the engine, and returns the number of tokens."""
    loaded = open_model(TARGET, "generator", device="cpu")

    def write(asked: list[str]) -> int:
        generator = InProcessGenerator(loaded, PromptTemplate(world.PROMPT), batch)
        return anyio.run(partial(written, generator, asked, generator.engine.worker.run))

    return write


async def written(generator: Generator, asked: list[str], serve: Callable[..., Any] | None = None) -> int:
    """Have a generator write the answers, all of them at once, and return the number of tokens."""
    tokens = 0

    async def one(question: str) -> None:
        nonlocal tokens
        answer = await generator.generate(request(question))
        tokens += answer.usage.completion_tokens

    async with anyio.create_task_group() as services:
        if serve is not None:
            await services.start(serve)
        async with anyio.create_task_group() as tasks:
            for question in asked:
                tasks.start_soon(one, question)
        services.cancel_scope.cancel()
    return tokens


def transformers_writer(batch: int) -> Callable[[list[str]], int]:
    """Return a function that writes with ``generate`` of transformers, batch by batch."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    readers: tuple[Any, Any] = (AutoTokenizer, AutoModelForCausalLM)  # typed in part
    tokenizer = readers[0].from_pretrained(resolved(TARGET), padding_side="left")
    model = readers[1].from_pretrained(resolved(TARGET), dtype=torch.float32).eval()
    limits = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False}

    def write(asked: list[str]) -> int:
        with torch.inference_mode():
            for start in range(0, len(asked), batch):
                texts = [world.PROMPT.format(question=question) for question in asked[start : start + batch]]
                model.generate(**tokenizer(texts, padding=True, return_tensors="pt"), **limits)
        return TOKENS * len(asked)

    return write


def sglang_speeds() -> dict[int, float]:
    """Return the tokens per CPU second of an sglang server by batch size; empty if sglang is not installed."""
    config = behind_servers(load_config(POCKET), 31400, {})

    async def measure() -> dict[int, float]:
        table = config.models.target
        assert table is not None  # noqa: S101 - the pocket configuration has a target
        rates: dict[int, float] = {}
        with tempfile.TemporaryDirectory() as logs:
            async with serving(config, POCKET, Path(logs), only=["target"]) as fleet:
                guard = fleet.servers[0].process
                assert guard is not None  # noqa: S101 - it is ready, so it runs
                async with open_generator("target", table, None) as generator:
                    await written(generator, questions(4))
                    for batch in BATCHES:
                        started = cpu_of(guard.pid)
                        tokens = 0
                        asked = questions(max(2 * batch, 8))
                        for start in range(0, len(asked), batch):
                            tokens += await written(generator, asked[start : start + batch])
                        rates[batch] = round(tokens / (cpu_of(guard.pid) - started))
        return rates

    try:
        return anyio.run(measure)
    except ConfigError as error:
        say(f"without sglang: {error}")
        return {}


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process and of its living descendants."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return own + sum(cpu_of(int(child)) for file in children for child in file.read_text(encoding="ascii").split())


def render_speeds(rows: list[SpeedRow]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| batch | tokens per CPU s | transformers | sglang |",
        "|---|---|---|---|",
        *(
            f"| {row.batch} | {row.engine:,.0f} | {row.transformers:,.0f} | "
            f"{'–' if row.sglang is None else f'{row.sglang:,.0f}'} |"
            for row in rows
        ),
    ]
    return "\n".join(lines)
