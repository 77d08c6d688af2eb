"""What a server says about itself is enough for a configuration."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from arbiter.config.config import load_config
from arbiter.pocket import MODELS
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.servers.named_models import Role, named_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import FakeServer

pytestmark = pytest.mark.asyncio


def about(**info: Any) -> Callable[[Any], dict[str, Any]]:
    """Answer as sglang about its model, and 404 to the other paths."""
    return lambda asked: {"body": info} if asked.path == "/model_info" else {"status": 404}


async def found(role: Role, text: str, prompt: str | None = None, key: str | None = None) -> dict[str, Any]:
    return (await named_model(role, text, prompt, key)).table


async def test_sglang_is_asked_for_model_context_and_tokenizer(server: FakeServer) -> None:
    folder = str(MODELS / "draft")
    server.models = {"body": {"data": [{"id": "small", "owned_by": "sglang", "max_model_len": 512, "root": folder}]}}
    server.about = about(is_generation=True, model_path=folder, tokenizer_path=folder)
    model = await named_model("draft", server.url, None)
    assert model.context == 512
    assert model.table == {
        "backend": "http",
        "url": server.url,
        "model": "small",
        "engine": "sglang",
        "tokenizer": folder,
        "prompt": "Problem: {question}\nSolution:\n",
    }


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("Qwen3-1.7B", "qwen3"),
        ("Qwen3.5-2B", "qwen3.5"),
        ("Qwen3.6-27B-FP8", "qwen3.5"),
        ("Qwen3.6-35B-A3B", "qwen3.5"),
    ],
)
async def test_the_prompt_of_a_served_model_is_that_of_its_family(name: str, prompt: str, server: FakeServer) -> None:
    server.models = {"body": {"data": [{"id": "x", "owned_by": "vllm", "root": f"Qwen/{name}"}]}}
    table = await found("target", server.url)
    assert (table["prompt"], table["engine"], table["tokenizer"]) == (prompt, "vllm", f"Qwen/{name}")


async def test_a_prompt_that_is_not_known_is_asked_for_by_its_option(server: FakeServer, offline: None) -> None:
    with pytest.raises(ConfigError, match=r"--draft: the prompt of 'm' is not known .*give --prompt: one of chat, "):
        await named_model("draft", server.url, None)
    with pytest.raises(ConfigError, match=r"--prm: .*give --scorer-prompt: one of chat, "):
        await named_model("prm", server.url, None)
    with pytest.raises(ConfigError, match=r"^--prompt: the prompt 'nothing' is not the name of a template"):
        await named_model("draft", server.url, "nothing")


async def test_a_server_without_a_model_says_so(server: FakeServer) -> None:
    server.models = {"body": []}
    with pytest.raises(ConfigError, match=rf"--draft: {server.url} lists no model: load one there"):
        await named_model("draft", server.url, "plain")


async def test_of_several_models_one_is_named_behind_the_address(server: FakeServer) -> None:
    server.models = {"body": [{"id": "a/one"}, {"id": "two"}]}
    with pytest.raises(ConfigError, match=rf"serves several models \(a/one, two\): name one, as in {server.url}#MODEL"):
        await named_model("draft", server.url, "plain")
    assert (await found("draft", f"{server.url}#a/one", "plain"))["model"] == "a/one"
    with pytest.raises(ConfigError, match="does not serve 'three'; it serves: a/one, two"):
        await named_model("draft", f"{server.url}#three", "plain")


async def test_a_host_without_completions_is_called_through_chat(server: FakeServer) -> None:
    server.trial = {"status": 404}
    table = await found("target", server.url)
    assert {key: table[key] for key in ("backend", "api", "prompt")} == {
        "backend": "openai",
        "api": "chat",
        "prompt": "chat",
    }
    assert [asked.path for asked in server.trials] == ["/v1/completions"]


async def test_a_scorer_and_a_known_engine_get_no_completion_request(server: FakeServer) -> None:
    server.models = {"body": {"data": [{"id": "prm", "owned_by": "vllm"}]}}
    assert (await found("prm", server.url, "plain"))["scores"] == "vllm-classify"
    server.about = about(is_generation=False, model_path=str(MODELS / "router"))
    server.models = {"body": {"data": [{"id": "router", "owned_by": "sglang"}]}}
    table = await found("router", server.url)
    assert (table["scores"], table["annotate"], table["prompt"]) == (
        "classify",
        True,
        "Problem: {question}\nSolution:\n",
    )
    assert server.trials == []


async def test_the_key_comes_from_the_environment_and_its_variable_is_kept(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ConfigError, match=r"^--server-key-env: the environment variable TEST_KEY is not set; set it to th"
    ):
        await named_model("draft", server.url, "plain", "TEST_KEY")
    monkeypatch.setenv("TEST_KEY", "secret")
    assert (await found("draft", server.url, "plain", "TEST_KEY"))["api_key_env"] == "TEST_KEY"
    assert {asked.headers["authorization"] for asked in server.looks} == {"Bearer secret"}


async def test_a_refused_key_names_the_option(server: FakeServer) -> None:
    server.models = {"status": 401, "body": {"error": "no key"}}
    with pytest.raises(BackendError, match=r"answered 401.*Set --server-key-env to the name of the environment var"):
        await named_model("draft", server.url, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost:30000", "--draft: 'localhost:30000' must begin with http:// or https://"),
        ("http:/localhost", "--draft: 'http:/localhost' must begin with http:// or https://"),
        ("http://me:word@localhost", "--draft: its url contains a password or key"),
        ("http://localhost:port", "--draft: 'http://localhost:port' is not an address"),
    ],
)
async def test_a_wrong_address_names_the_option(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        await named_model("draft", text, None)
    assert str(error.value).startswith(message)


@pytest.mark.slow
async def test_a_run_with_served_models_leaves_a_whole_configuration(server: FakeServer, tmp_path: Path) -> None:
    server.models = {"body": {"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 1024}]}}
    answer = {"choices": [{"text": "\\boxed{5}", "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}
    server.replies({"body": answer})
    (tmp_path / "mine.jsonl").write_text('{"question": "Compute 2+3.", "answer": "5"}\n')
    models = ("--draft", server.url, "--target", server.url, "--prompt", "plain", "--run-type", "draft")
    command = [sys.executable, "-m", "arbiter", "bench"]
    run = partial(anyio.run_process, cwd=tmp_path, check=False)
    ended = await run([*command, *models, "--data", "mine.jsonl", "--out", "run"])
    assert ended.returncode == 0, ended.stderr
    config = load_config(str(tmp_path / "run" / "config.toml"))
    assert (config.run_type, config.limits.max_tokens) == ("draft", 768)
    again = await run([*command, "--resume", "run"])
    assert again.returncode == 0, again.stderr
