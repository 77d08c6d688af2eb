"""The draft's confidence from a server's log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation

if TYPE_CHECKING:
    from conftest import FakeServer

StepOf = Callable[..., Awaitable[Generation]]
Answer = Callable[..., dict[str, Any]]

HALF, QUARTER = math.log(0.5), math.log(0.25)
TOKENS = ["a", " step", "\n\n"]
FORMS: dict[str, dict[str, Any]] = {
    "completions": {
        "tokens": TOKENS,
        "token_logprobs": [HALF, HALF, QUARTER],
        "top_logprobs": [{"a": HALF, "b": QUARTER, "c": QUARTER}, {" step": HALF}, {"\n\n": QUARTER}],
    },
    "llama.cpp": {
        "content": [
            {
                "token": "a",
                "logprob": HALF,
                "top_logprobs": [
                    {"token": name, "logprob": chance}
                    for name, chance in zip("abc", [HALF, QUARTER, QUARTER], strict=True)
                ],
            },
            {"token": " step", "logprob": HALF},
            {"token": "\n\n", "logprob": QUARTER},
        ]
    },
}


@pytest.mark.asyncio
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.slow
async def test_a_confidence_is_computed_from_either_form_of_log_probabilities(
    form: str, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer(logprobs=FORMS[form]))
    mean, first = await step(confidence="mean"), await step(confidence="first")
    assert mean.confidence == pytest.approx((0.5 * 0.5 * 0.25) ** (1 / 3))
    assert first.confidence == pytest.approx(math.exp(-1.5 * math.log(2)))


@pytest.mark.asyncio
@pytest.mark.parametrize(("measure", "count"), [("mean", 1), ("first", 20)])
async def test_a_server_is_asked_for_as_many_alternatives_as_the_measure_needs(
    measure: str, count: int, backend: str, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer(logprobs=FORMS["completions"]))
    await step(confidence=measure)
    names = {"logprobs"} if backend == "openai" else {"logprobs", "n_probs"}
    assert {key: server.asked[0].body.get(key) for key in names} == dict.fromkeys(names, count)
    assert ("n_probs" in server.asked[0].body) == (backend == "http")


@pytest.mark.asyncio
async def test_nothing_is_asked_for_where_nobody_wants_it(server: FakeServer, step: StepOf, answer: Answer) -> None:
    server.replies(answer())
    found = await step()
    assert found.confidence is None
    assert server.asked[0].body.keys() & {"logprobs", "n_probs"} == set()


@pytest.mark.asyncio
@pytest.mark.parametrize("told", [None, {}, {"tokens": TOKENS}, {"content": []}, {"token_logprobs": [None, None]}])
@pytest.mark.parametrize("measure", ["mean", "first"])
@pytest.mark.slow
async def test_a_server_that_shows_none_is_refused_with_the_way_out(
    told: Any, measure: str, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer(logprobs=told))
    with pytest.raises(BackendError, match=r"without log-probabilities.*in process"):
        await step(confidence=measure)


@pytest.mark.asyncio
async def test_what_a_server_wrote_behind_the_separator_counts_for_nothing(
    server: FakeServer, step: StepOf, answer: Answer
) -> None:
    told = {"tokens": ["a", "\n\n", "b"], "token_logprobs": [HALF, HALF, -50.0]}
    server.replies(answer("a\n\nb", logprobs=told))
    assert (await step(confidence="mean")).confidence == pytest.approx(0.5)
