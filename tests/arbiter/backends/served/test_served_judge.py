"""A served judge."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.backends.opening import open_scorer
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.ports import Scorer, ScoreRequest

if TYPE_CHECKING:
    from conftest import FakeServer

    from arbiter.config.model_tables import AnyModelTable

Answer = Callable[..., dict[str, Any]]
Requests = Callable[..., ScoreRequest]
AJudge = Callable[..., AbstractAsyncContextManager[Scorer]]

LOGPROBS = {"tokens": ["8"], "token_logprobs": [-0.7], "top_logprobs": [{"8": math.log(0.5), "5": math.log(0.5)}]}


@pytest.fixture
def a_judge(table: Callable[..., AnyModelTable]) -> AJudge:
    def opening(**keys: Any) -> AbstractAsyncContextManager[Scorer]:
        return open_scorer("judge", table("judge", prompt="{question}|{steps}|{step}:\n", **keys), None)

    return opening


@pytest.fixture
def answer(answer: Answer) -> Answer:
    """Return a completion of one token."""
    return partial(answer, tokens=1)


@pytest.mark.asyncio
@pytest.mark.parametrize(("choice", "score"), [({"logprobs": LOGPROBS}, 6.5 / 9), ({"text": " 8"}, 8 / 9)])
async def test_a_judge_is_asked_for_one_token_and_its_digit_is_the_score(
    choice: dict[str, Any], score: float, server: FakeServer, a_judge: AJudge, scoring: Requests, answer: Answer
) -> None:
    server.replies(answer(**{"text": "8", "finish_reason": "length", **choice}))
    async with a_judge() as judge:
        found = await judge.score(scoring(score_kind="judge"))
    assert found.value == pytest.approx(score)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (7, 1)
    asked = server.asked[0].body
    assert (asked["prompt"], asked["max_tokens"], asked["temperature"]) == ("1+1?||a step:\n", 1, 0)
    assert asked["logprobs"] == 20


@pytest.mark.asyncio
async def test_a_judge_that_answers_without_a_digit_scores_nothing(
    server: FakeServer, a_judge: AJudge, scoring: Requests, answer: Answer
) -> None:
    server.replies(answer("Well", finish_reason="length"))
    async with a_judge() as judge:
        with pytest.raises(BackendError, match="without a digit: it answered 'Well'"):
            await judge.score(scoring(score_kind="judge"))


@pytest.mark.asyncio
async def test_a_judge_that_has_no_digit_in_mind_is_found_out_before_any_work(
    server: FakeServer, a_judge: AJudge, answer: Answer
) -> None:
    server.trial = answer("Sure", finish_reason="length")
    with pytest.raises(BackendError, match=r"^models\.judge: .* without a digit"):
        async with a_judge():
            pass


@pytest.mark.asyncio
async def test_a_judges_prompt_without_the_step_is_refused_with_its_table(
    table: Callable[..., AnyModelTable],
) -> None:
    with pytest.raises(ConfigError, match=r"^models\.judge: the prompt"):
        async with open_scorer("judge", table("judge", prompt="{question}"), None):
            pass
