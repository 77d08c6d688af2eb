"""Ratings by the probabilities of levels, which an sglang returns without writing a token."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.backends.judge_prompts import LEVEL_TEXTS, judge_prompt
from arbiter.backends.opening import open_scorer
from arbiter.backends.served.judge import ServedJudge
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.protocols.errors import ConfigError, ContextTooLongError
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import Transcript

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Reply

    from arbiter.config.model_tables import AnyModelTable

Table = Callable[..., "AnyModelTable"]
Requests = Callable[..., ScoreRequest]
Answer = Callable[..., dict[str, Any]]

TEMPLATES = Path(__file__).parents[1] / "chat_templates"
PATH = "/v1/decisions"
LIKELY = [0.0, 0.05, 0.05, 0.0, 0.1, 0.0, 0.1, 0.2, 0.2, 0.3]
EXPECTED = sum(level * chance for level, chance in enumerate(LIKELY)) / 9


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    """Return the folder of a tokenizer with the chat template of Qwen3."""
    read_tokenizer("pocket:draft", "test", "-").save_pretrained(tmp_path)
    shutil.copy(TEMPLATES / "qwen3.jinja", tmp_path / "chat_template.jinja")
    return str(tmp_path)


def decisions(chances: list[float], tokens: int = 7) -> Reply:
    answer = {"type": "score", "probabilities": {str(n): each for n, each in enumerate(chances)}, "label_mass": 0.9}
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    return {"body": {"object": "decisions", "model": "m", "answers": {"step": answer}, "usage": usage}}


def digits(answer: Answer, chances: list[float]) -> Reply:
    top = {str(n): math.log(each) for n, each in enumerate(chances) if each}
    logprobs = {"tokens": ["9"], "token_logprobs": [-0.7], "top_logprobs": [top]}
    return answer("9", tokens=1, finish_reason="length", logprobs=logprobs)


def serves(server: FakeServer, written: Reply, decided: Reply) -> None:
    """Let the server answer each path with the reply for it, at the start and later."""

    def script(asked: Asked) -> Reply:
        return decided if asked.path == PATH else written

    server.trial = script
    server.replies(script)


@pytest.mark.asyncio
async def test_an_sglang_is_asked_for_levels_if_they_rate_the_trial_as_a_written_token_does(
    server: FakeServer, table: Table, tokenizer: str, scoring: Requests, answer: Answer
) -> None:
    serves(server, digits(answer, LIKELY), decisions(LIKELY))
    given = table("judge", prompt="levels", tokenizer=tokenizer, engine="sglang")
    async with open_scorer("judge", given, None) as judge:
        found = await judge.score(scoring(score_kind="judge"))
        assert isinstance(judge, ServedJudge)
        assert judge.without_levels is None
    [asked] = server.asked
    assert asked.path == PATH
    assert found.value == pytest.approx(EXPECTED)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (7, 0)
    assert asked.body["input"] == "Problem:\n1+1?\n\nSteps before it:\n\n\nStep to rate:\na step"
    assert asked.body["questions"][0]["levels"] == [*LEVEL_TEXTS]
    assert asked.body["prompt_format_version"] == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("decided", "reason"),
    [
        ({"status": 404}, "gives no levels: .*404"),
        ({"status": 400, "body": {"message": "a built-in chat template"}}, "gives no levels: .*a built-in"),
        (decisions(LIKELY, tokens=8), "reads 8 tokens where the prompt has 7"),
        (decisions([*LIKELY[1:], 0.0]), r"rates a step 0\.\d+ that the written token rates 0\.\d+"),
        (decisions(LIKELY[:9]), "something other than the probabilities of ten levels"),
        (decisions([0.5] * 10), "something other than the probabilities of ten levels"),
        ({"body": {"answers": {}}}, "something other than the probabilities of ten levels"),
    ],
)
async def test_a_server_whose_levels_rate_otherwise_is_asked_for_a_token(
    decided: Reply,
    reason: str,
    server: FakeServer,
    table: Table,
    tokenizer: str,
    scoring: Requests,
    answer: Answer,
) -> None:
    serves(server, digits(answer, LIKELY), decided)
    given = table("judge", prompt="levels", tokenizer=tokenizer, engine="sglang")
    async with open_scorer("judge", given, None) as judge:
        await judge.score(scoring(score_kind="judge"))
        assert isinstance(judge, ServedJudge)
        assert re.search(reason, judge.without_levels or "")
    assert [asked.path for asked in server.asked] == ["/v1/completions"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("prompt", "engine"), [("chat", "sglang"), ("levels", "vllm"), ("levels", "llama.cpp")])
async def test_no_other_engine_and_no_other_prompt_is_tried(
    prompt: str, engine: str, server: FakeServer, table: Table, tokenizer: str, answer: Answer
) -> None:
    serves(server, digits(answer, LIKELY), decisions(LIKELY))
    server.models["body"]["data"][0]["owned_by"] = engine.replace(".", "")
    async with open_scorer("judge", table("judge", prompt=prompt, tokenizer=tokenizer), None):
        pass
    assert {asked.path for asked in server.trials} == {"/v1/completions"}


@pytest.mark.asyncio
async def test_a_step_that_does_not_fit_is_told_as_such(
    server: FakeServer, table: Table, tokenizer: str, scoring: Requests, answer: Answer
) -> None:
    serves(server, digits(answer, LIKELY), decisions(LIKELY))
    message = "question 'step': the prompt has 9 tokens, which does not fit the context length of 8 tokens"
    async with open_scorer("judge", table("judge", prompt="levels", tokenizer=tokenizer, engine="sglang"), None) as j:
        server.replies({"status": 400, "body": {"object": "error", "message": message}})
        with pytest.raises(ContextTooLongError, match="does not fit"):
            await j.score(scoring(score_kind="judge"))


def test_the_prompt_has_the_words_of_sglang_and_no_open_thought(tokenizer: str) -> None:
    text = judge_prompt("levels", tokenizer).render(Transcript("1+1?"), "2", "\n\n")
    levels = "\n".join(f"{n}: {each}" for n, each in enumerate(LEVEL_TEXTS))
    assert "Step to rate:\n2\n\nQuestion: How good is the step" in text
    assert f"\n{levels}\nAnswer with the number of one level only." in text
    assert text.endswith("<think>\n\n</think>\n\n")


def test_a_tokenizer_that_cannot_be_read_is_refused_with_the_prompt() -> None:
    with pytest.raises(ConfigError, match='prompt = "levels": cannot read the tokenizer'):
        judge_prompt("levels", "./nowhere")
