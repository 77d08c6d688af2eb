"""The tokens of a step from a server, in each form of its answers, and the penalties that it is sent."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.backends.served.logprobs import Logprobs, NamedToken
from arbiter.backends.served.written_tokens import written_tokens_of
from arbiter.protocols.answer_tokens import TokenAlternative, WrittenToken
from arbiter.protocols.errors import BackendError
from arbiter.protocols.model_traits import RefusesLogprobs
from arbiter.protocols.ports import Generation, Generator

if TYPE_CHECKING:
    from conftest import FakeServer

StepOf = Callable[..., Awaitable[Generation]]
Answer = Callable[..., dict[str, Any]]
AGenerator = Callable[..., AbstractAsyncContextManager[Generator]]

HALF, QUARTER = math.log(0.5), math.log(0.25)
TOKENS = ["a", " step", ".\n\n"]
TOPS = [{"b": QUARTER, "a": HALF}, {" step": HALF, " b": QUARTER}, {".\n\n": QUARTER, "!": HALF}]
COMPLETIONS = {"tokens": TOKENS, "token_logprobs": [HALF, HALF, QUARTER], "top_logprobs": TOPS}
CHAT = {
    "content": [
        {
            "token": token,
            "logprob": chance,
            "bytes": list(token.encode()),
            "top_logprobs": [{"token": name, "logprob": other} for name, other in top.items()],
        }
        for token, chance, top in zip(TOKENS, [HALF, HALF, QUARTER], TOPS, strict=True)
    ]
}
WITHOUT = "without a log-probability for each token of its text"


@pytest.mark.asyncio
@pytest.mark.parametrize("form", [COMPLETIONS, CHAT], ids=["completions", "chat"])
async def test_either_form_has_the_tokens_of_the_step_and_its_separator(
    form: dict[str, Any], server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer("a step.", logprobs=form))
    found = await step(top_logprobs=1)
    assert found.text == "a step."
    assert found.tokens == (
        WrittenToken("a", HALF, (TokenAlternative("a", HALF),)),
        WrittenToken(" step", HALF, (TokenAlternative(" step", HALF),)),
        WrittenToken(".\n\n", QUARTER, (TokenAlternative("!", HALF),)),
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(("top", "measure", "count"), [(0, None, 1), (5, None, 5), (2, "first", 20), (3, "mean", 3)])
async def test_a_server_is_asked_for_as_many_alternatives_as_any_use_needs(
    top: int, measure: Any, count: int, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer("a step.", logprobs=COMPLETIONS))
    found = await step(top_logprobs=top, confidence=measure)
    assert server.asked[0].body["logprobs"] == count
    assert [len(token.top) for token in found.tokens or ()] == [min(top, 2)] * 3


@pytest.mark.asyncio
async def test_a_step_whose_tokens_are_not_requested_has_none(server: FakeServer, step: StepOf, answer: Answer) -> None:
    server.replies(answer("a step.", logprobs=COMPLETIONS))
    assert (await step()).tokens is None
    assert "logprobs" not in server.asked[0].body


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"tokens": TOKENS},
        {"content": []},
        {**COMPLETIONS, "token_logprobs": [HALF, None, HALF]},
        {**COMPLETIONS, "top_logprobs": None},
        {"tokens": ["a", " step."], "token_logprobs": [HALF, HALF], "top_logprobs": TOPS},  # without the separator
        {"tokens": ["an", "other"], "token_logprobs": [HALF, HALF], "top_logprobs": TOPS},
    ],
)
@pytest.mark.slow
async def test_a_server_that_leaves_any_out_is_refused_with_the_way_out(
    told: Any, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer("a step.", logprobs=told))
    with pytest.raises(BackendError, match=rf"{WITHOUT}.*sglang or vLLM"):
        await step(top_logprobs=1)


@pytest.mark.asyncio
async def test_missing_tokens_are_no_refusal_of_a_constraint(server: FakeServer, step: StepOf, answer: Answer) -> None:
    server.replies(answer("{}", logprobs=None))
    with pytest.raises(BackendError, match=WITHOUT):
        await step({"engine": "sglang"}, top_logprobs=0, constraint="{}")
    assert len(server.asked) == 1


@pytest.mark.asyncio
async def test_an_empty_step_that_ends_the_answer_has_no_tokens(
    server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer("", finish_reason="length", logprobs=None))
    assert (await step(top_logprobs=2)).tokens == ()


@pytest.mark.asyncio
async def test_what_a_server_wrote_behind_the_separator_has_no_token(
    server: FakeServer, step: StepOf, answer: Answer
) -> None:
    told = {"tokens": ["a", "\n\n", "b"], "token_logprobs": [HALF, HALF, -50.0]}
    server.replies(answer("a\n\nb", logprobs=told))
    found = await step(top_logprobs=0)
    assert [token.text for token in found.tokens or ()] == ["a", "\n\n"]


@pytest.mark.asyncio
async def test_llama_cpp_leaves_out_tokens_at_the_separator_and_is_known_to(
    a_generator: AGenerator, server: FakeServer, answer: Answer
) -> None:
    server.replies(answer())
    async with a_generator(engine="llama.cpp") as generator:
        assert isinstance(generator, RefusesLogprobs)
        reason = generator.without_logprobs or ""
    async with a_generator(engine="vllm") as generator:
        assert isinstance(generator, RefusesLogprobs)
        assert generator.without_logprobs is None
    assert "served by llama.cpp" in reason


def test_bytes_say_which_token_completes_a_character() -> None:
    parts = [b"\xe4", b"\xb8\x96", b"!"]
    content = [NamedToken("\ufffd", HALF, None, list(part)) for part in parts]
    found = written_tokens_of(Logprobs(content=content), "世!", 0)
    assert found is not None
    assert [token.text for token in found] == ["", "世", "!"]


def test_a_log_probability_is_at_most_0_and_finite() -> None:
    told = Logprobs(tokens=["a", "b"], token_logprobs=[1e-7, -1e300])
    found = written_tokens_of(told, "ab", 0)
    assert found == (WrittenToken("a", 0.0), WrittenToken("b", -9999.0))


@pytest.mark.asyncio
@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_penalties_are_sent_with_a_request_that_has_some(
    temperature: float, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies(answer(), answer())
    await step(temperature=temperature)
    await step(temperature=temperature, presence_penalty=-0.5, frequency_penalty=1.5)
    plain, penalized = (request.body for request in server.asked)
    assert not plain.keys() & {"presence_penalty", "frequency_penalty"}
    assert (penalized["presence_penalty"], penalized["frequency_penalty"]) == (-0.5, 1.5)
