"""Loops over the steps of problems as a user would write them, with ``openai``, ``litellm`` or ``inspect_ai``.

    python benchmarks/peer_loops.py CLIENT PORT

``benchmarks/peers.py`` starts this file, in an environment that has the client; nothing of Arbiter is imported. Each
line of the standard input has a number of problems. For each, one line of JSON is printed: the seconds of CPU and of
wall time, and the number of steps.

A step is one request to the draft and one to the PRM. If the score is low, the target writes the step, too. All
problems run concurrently, at most ``AT_ONCE`` at a time. The requests are those of the ring. Two differ: ``inspect_ai``
has chats and no text completions, and no scores, for which that loop uses ``openai``.
"""

# pyright: basic, reportMissingImports=false
# litellm and inspect_ai are in another environment (just frameworks-env)

import asyncio
import json
import math
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from fixed_server import QUESTION

AT_ONCE = 64
THRESHOLD = 0.7
STEP_TOKENS = 512
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
KEY = "none"  # the server has no keys, but the clients require one

Write = Callable[[str, str, list[str]], Awaitable[str]]
"""Returns the next step: from the name of the model, the question and the steps."""

Rate = Callable[[str], Awaitable[float]]
"""Returns the logit of a text."""


class Client(NamedTuple):
    """What a loop calls."""

    write: Write
    rate: Rate


def prompt(question: str, steps: list[str]) -> str:
    """Return what the models read."""
    head = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return head + "".join(f"{step}\n\n" for step in steps)


async def solve(client: Client, question: str) -> list[str]:
    """Return the steps of a solution."""
    steps: list[str] = []
    while not steps or "\\boxed" not in steps[-1]:
        step = await client.write("draft", question, steps)
        logit = await client.rate(prompt(question, [*steps, step]))
        if 1 / (1 + math.exp(-logit)) < THRESHOLD:
            step = await client.write("target", question, steps)
        steps.append(step)
    return steps


async def solve_all(client: Client, problems: int) -> int:
    """Solve the problems, and return the number of steps."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> int:
        async with slots:
            return len(await solve(client, f"{QUESTION} {number}"))

    return sum(await asyncio.gather(*(one(number) for number in range(problems))))


@asynccontextmanager
async def open_openai(url: str) -> AsyncGenerator[Client]:
    """Yield the client of the ``openai`` package."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key=KEY) as client:

        async def write(model: str, question: str, steps: list[str]) -> str:
            made = await client.completions.create(
                model=model,
                prompt=prompt(question, steps),
                max_tokens=STEP_TOKENS,
                stop=["\n\n"],
                temperature=0,
            )
            return made.choices[0].text

        async def rate(text: str) -> float:
            rated = await client.embeddings.create(model="prm", input=text, encoding_format="float")
            return rated.data[0].embedding[0]

        yield Client(write, rate)


@asynccontextmanager
async def open_litellm(url: str) -> AsyncGenerator[Client]:
    """Yield ``litellm``'s functions."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it downloads a file
    import litellm

    async def write(model: str, question: str, steps: list[str]) -> str:
        made = await litellm.atext_completion(
            model=f"text-completion-openai/{model}",
            api_base=url,
            api_key=KEY,
            prompt=prompt(question, steps),
            max_tokens=STEP_TOKENS,
            stop=["\n\n"],
            temperature=0,
        )
        return made.choices[0].text

    async def rate(text: str) -> float:
        rated = await litellm.aembedding(
            model="openai/prm", api_base=url, api_key=KEY, input=[text], encoding_format="float"
        )
        return rated.data[0]["embedding"][0]

    yield Client(write, rate)


@asynccontextmanager
async def open_inspect_ai(url: str) -> AsyncGenerator[Client]:
    """Yield ``inspect_ai``'s models as writers, and ``openai`` for the scores."""
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model

    config = GenerateConfig(max_tokens=STEP_TOKENS, temperature=0, stop_seqs=["\n\n"], max_connections=AT_ONCE)
    models = {name: get_model(f"openai-api/fixed/{name}", base_url=url, api_key=KEY) for name in ("draft", "target")}

    async def write(model: str, question: str, steps: list[str]) -> str:
        written = [ChatMessageAssistant(content="".join(f"{step}\n\n" for step in steps))] if steps else []
        messages = [ChatMessageSystem(content=SYSTEM), ChatMessageUser(content=question), *written]
        return (await models[model].generate(messages, config=config)).completion

    async with open_openai(url) as client:
        yield Client(write, client.rate)


CLIENTS = {"openai": open_openai, "litellm": open_litellm, "inspect_ai": open_inspect_ai}


async def main(name: str, port: str) -> None:
    """Measure the client for each line of the standard input. Connections stay open between lines."""
    async with CLIENTS[name](f"http://127.0.0.1:{port}/v1") as client:
        for line in sys.stdin:
            wall, cpu = time.monotonic(), time.process_time()
            steps = await solve_all(client, int(line))
            measured = {"steps": steps, "cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}
            sys.stdout.write(json.dumps(measured) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
