"""Models behind servers write calls: they are read from whole steps, and special tokens stay where calls need them."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.pocket import MODELS
from arbiter.protocols.model_traits import RefusesTools
from arbiter.protocols.ports import Generation
from arbiter.protocols.records import Step, Transcript
from arbiter.protocols.tools import AnswerRules, Tool

if TYPE_CHECKING:
    from conftest import AGenerator, Asked, FakeServer, Script

StepOf = Callable[..., Awaitable[Generation]]

TEMPLATES = Path(__file__).parents[1] / "chat_templates"
ADD = Tool("add", parameters='{"properties": {"a": {"type": "integer"}}}')
OFFERED = Transcript("1+1?", rules=AnswerRules((ADD,)))
HERMES = '<tool_call>\n{"name": "add", "arguments": {\n\n"a": 1}}\n</tool_call>'
MISTRAL = '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]'


@pytest.mark.parametrize("backend", ["http", "openai"])
@pytest.mark.parametrize("kind", ["sglang", "vllm", "llama.cpp", "plain"])
@pytest.mark.asyncio
async def test_a_call_with_a_separator_in_it_is_one_step(
    kind: str, server: FakeServer, step: StepOf, engine: Callable[..., Script]
) -> None:
    def rest(asked: Asked) -> str:
        _, _, written = asked.body["prompt"].partition("<think>\n\n</think>\n\n")
        return f"I add.\n\n{HERMES}".removeprefix(written)

    server.replies(engine(kind, rest))
    keys = {"prompt": "qwen3", **({} if kind == "plain" else {"engine": kind})}
    first = await step(keys, transcript=OFFERED, max_tokens=500)
    assert (first.text, first.stop_reason, first.calls) == ("I add.", "separator", ())
    assert "# Tools" in server.asked[-1].body["prompt"]
    call = await step(keys, transcript=OFFERED.extended(Step("I add.", "draft")), max_tokens=500)
    assert [(one.name, one.arguments) for one in call.calls] == [("add", '{\n\n"a": 1}')]
    assert (call.text, call.stop_reason) == ("", "end")


@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize(("kind", "kept"), [("sglang", False), ("vllm", False), ("llama.cpp", None)])
@pytest.mark.asyncio
async def test_special_tokens_are_requested_only_with_tools_whose_calls_need_them(
    kind: str, kept: bool | None, server: FakeServer, step: StepOf, engine: Callable[..., Script], tmp_path: Path
) -> None:
    shutil.copytree(MODELS / "draft", tmp_path, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    shutil.copy(TEMPLATES / "mistral-tools.jinja", tmp_path / "chat_template.jinja")

    def rest(asked: Asked) -> str:
        return MISTRAL

    server.replies(engine(kind, rest))
    keys: dict[str, Any] = {"prompt": "chat", "tokenizer": str(tmp_path), "calls": "mistral", "engine": kind}
    call = await step(keys, transcript=OFFERED, max_tokens=500)
    assert server.asked[0].body.get("skip_special_tokens") is kept
    assert [one.name for one in call.calls] == ["add"]
    plain = await step(keys, max_tokens=500)
    assert "skip_special_tokens" not in server.asked[-1].body
    assert (plain.text, plain.calls) == (MISTRAL, ())


@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize("form", ["mistral", "deepseek-v3", "llama-3", "hermes"])
@pytest.mark.parametrize("kind", ["sglang", "vllm", "llama.cpp", "plain"])
@pytest.mark.asyncio
async def test_a_model_whose_server_drops_the_marks_of_its_calls_is_not_offered_tools(
    kind: str, form: str, server: FakeServer, a_generator: AGenerator, engine: Callable[..., Script]
) -> None:
    def rest(asked: Asked) -> str:
        return "text"

    server.replies(engine(kind, rest))
    keys: dict[str, Any] = {"prompt": "chat", "tokenizer": "pocket:draft", "calls": form}
    async with a_generator(**keys, **({} if kind == "plain" else {"engine": kind})) as generator:
        assert isinstance(generator, RefusesTools)
        reason = generator.without_tools
    assert (reason is None) == (kind in ("sglang", "vllm") or form in ("llama-3", "hermes"))
    assert reason is None or "Serve the model with one of them, and name it with the key engine" in reason
