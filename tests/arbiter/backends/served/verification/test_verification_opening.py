"""Opening a target that checks proposals: the checks before any work, and the doctor's findings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from transformers import AutoTokenizer

import arbiter.pocket
from arbiter.backends.opening import open_generator
from arbiter.config.config import parse
from arbiter.protocols.errors import BackendError, ConfigError, ContextTooLongError
from arbiter.protocols.ports import GenerationRequest, Generator, Proposal
from arbiter.protocols.records import PrefixMatch
from arbiter.servers.doctor import Check, examine

if TYPE_CHECKING:
    from conftest import ScriptedServer

pytestmark = pytest.mark.asyncio

POCKET = str(Path(arbiter.pocket.__file__).parent / "models" / "target")
STEP = "12+30: 2+0=2,1+3=4: 42."
Opening = Callable[..., AbstractAsyncContextManager[Generator]]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    reader: Any = AutoTokenizer  # typed in part
    return reader.from_pretrained(POCKET)


@pytest.fixture
def scripted(tokenizer: Any, server: Any, scripted_server: type[ScriptedServer]) -> ScriptedServer:
    """Return a server whose model begins each answer with ``STEP``."""
    step: list[int] = tokenizer(f"{STEP}\n\n")["input_ids"]

    def following(ids: Any) -> int:
        text = tokenizer.decode(ids)
        begun = next((n for n in range(len(step), -1, -1) if text.endswith(tokenizer.decode(step[:n]))), 0)
        return step[begun] if begun < len(step) else 0

    model = scripted_server(following, tokenizer, len(tokenizer))

    def script(asked: Any) -> dict[str, Any]:
        return {"body": model.answer(asked.path, asked.body)}

    server.replies(script)
    server.trial = script
    return model


@pytest.fixture
def opened(table: Callable[..., Any]) -> Opening:
    def opening(**keys: Any) -> AbstractAsyncContextManager[Generator]:
        given = {"verifies": "sglang", "tokenizer": POCKET, **keys}
        return open_generator("target", table("target", **given), None)

    return opening


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("engine", ["sglang", "vllm"])
async def test_a_target_checks_proposals_over_http(
    engine: str, opened: Opening, generation: Callable[..., GenerationRequest]
) -> None:
    request = generation(author="target")
    async with opened(verifies=engine) as generator:
        own = await generator.generate(request)
        made = await generator.generate(msgspec.structs.replace(request, proposal=Proposal(STEP, "separator")))
    assert (made.text, made.stop_reason, made.usage.completion_tokens) == (
        STEP,
        "separator",
        own.usage.completion_tokens,
    )
    assert made.prefix_match == PrefixMatch(own.usage.completion_tokens, own.usage.completion_tokens)


async def test_a_server_of_another_engine_is_refused_at_the_start(server: Any, opened: Opening) -> None:
    server.replies({"status": 404, "body": "no such path"})
    with pytest.raises(BackendError, match=r"^models\.target: .* Set verifies to the engine that is served there"):
        async with opened():
            raise AssertionError


async def test_a_tokenizer_that_is_not_the_servers_is_refused_at_the_start(
    scripted: ScriptedServer, opened: Opening
) -> None:
    def changed(path: str, answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "usage": {"prompt_tokens": 1}} if path == "/v1/completions" else answer

    scripted.change = changed
    with pytest.raises(BackendError, match=r"counts 1 tokens where the tokenizer '.*' counts \d+\."):
        async with opened():
            raise AssertionError


@pytest.mark.usefixtures("scripted")
async def test_a_tokenizer_that_cannot_be_read_is_refused_with_the_way_out(tmp_path: Path, opened: Opening) -> None:
    with pytest.raises(ConfigError, match=r"^models\.target\.verifies: cannot read the tokenizer .*leave verifies out"):
        async with opened(tokenizer=str(tmp_path)):
            raise AssertionError


@pytest.mark.parametrize("refused", ["the check", "the rest"])
async def test_a_context_that_is_too_long_is_told_as_such(
    refused: str,
    scripted: ScriptedServer,
    server: Any,
    opened: Opening,
    generation: Callable[..., GenerationRequest],
) -> None:
    too_long = {"status": 400, "body": {"error": {"message": "exceeds the model's maximum context length of 9"}}}
    async with opened() as generator:
        server.replies(*([{"body": scripted_check(scripted)}] if refused == "the rest" else []), too_long)
        with pytest.raises(ContextTooLongError):
            await generator.generate(generation(proposal=Proposal("5", "end")))


def scripted_check(scripted: ScriptedServer) -> dict[str, Any]:
    """Return the answer to a check of one token that the model would not have written."""
    body = {"input_ids": [17, 18], "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 1}
    return scripted.answer("/generate", {**body, "sampling_params": {"max_new_tokens": 1}})


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize(
    ("priority", "order", "ahead", "said"),
    [
        ("sglang", 0, False, 0),
        ("sglang", 3, False, -3),
        ("sglang", 3, True, -(2**20) - 3),
        ("vllm", 3, False, 3),
        ("vllm", 3, True, 2**20 + 3),
        (None, 3, True, None),
    ],
)
async def test_older_problems_come_first_and_what_nobody_waits_for_yet_after_all_others(
    priority: str | None,
    order: int,
    ahead: bool,
    said: int | None,
    server: Any,
    opened: Opening,
    generation: Callable[..., GenerationRequest],
) -> None:
    async with opened(priority=priority) as generator:
        server.asked.clear()
        await generator.generate(generation(order=order, ahead=ahead))
        await generator.generate(generation(order=order, ahead=ahead, proposal=Proposal("5", "end")))
    assert [asked.path for asked in server.asked] == ["/v1/completions", "/generate", "/generate"]
    assert [asked.body.get("priority") for asked in server.asked] == [said] * 3


async def proposals(url: str, **keys: Any) -> Check:
    """Return the doctor's check of how the target handles proposals."""
    table = {"backend": "http", "url": url, "model": "m", "prompt": "plain", "retries": 0, "timeout": 20, **keys}
    [finding] = [finding async for finding in examine(parse({"models": {"target": table}}, "test"))]
    [check] = [check for check in finding.checks if check.name == "proposals"]
    return check


@pytest.mark.usefixtures("scripted")
async def test_the_doctor_shows_that_a_target_checks_proposals(server: Any) -> None:
    check = await proposals(server.url, verifies="sglang", tokenizer=POCKET, api_key_env="")
    assert check.state == "ok"
    assert check.text == "checks proposals: kept 11 of 24 tokens, and wrote the same step"


async def test_the_doctor_warns_of_a_target_that_writes_another_step_with_a_proposal(
    scripted: ScriptedServer, server: Any
) -> None:
    def wrong(path: str, answer: dict[str, Any]) -> dict[str, Any]:
        if path == "/generate" and "input_top_logprobs" not in answer["meta_info"]:
            answer["output_ids"][0] += 1
        return answer

    scripted.change = wrong
    check = await proposals(server.url, verifies="sglang", tokenizer=POCKET)
    assert check.state == "warning"
    advice = "unless the steps differ only by one close choice of a token, leave out verifies"
    assert f"without a proposal: {advice}" in check.text


async def test_the_doctor_warns_of_a_check_that_fails(scripted: ScriptedServer, server: Any) -> None:
    def failing(path: str, answer: dict[str, Any]) -> dict[str, Any]:
        shown = len(answer["meta_info"].get("input_top_logprobs", [])) if path == "/generate" else 0
        return {} if shown > 2 else answer  # more than the small request at the start

    scripted.change = failing
    check = await proposals(server.url, verifies="sglang", tokenizer=POCKET)
    assert check.state == "warning"
    assert check.text.startswith(f"cannot check a proposal: {server.url}/generate answered with")


@pytest.mark.parametrize("keys", [{}, {"backend": "openai", "api_key_env": ""}])
async def test_the_doctor_says_which_key_would_have_a_target_check_proposals(
    keys: dict[str, Any], server: Any, answer: Callable[..., Any]
) -> None:
    server.replies(answer(STEP))
    check = await proposals(server.url, **keys)
    assert check.state == "ok"
    fix = "use the http backend" if keys else 'set verifies = "sglang" or "vllm"'
    assert check.text.endswith(f"to keep the right prefix of a rejected draft, {fix}")
