"""Failures of a server. Their messages have the address and how to fix them, but never the key."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.actors.actor import format_error
from arbiter.backends.served.refusals import refusal
from arbiter.backends.served.transport import Address
from arbiter.protocols.errors import ArbiterError, BackendError, ContextTooLongError
from arbiter.protocols.ports import Generation, Score

if TYPE_CHECKING:
    from conftest import FakeServer, Reply

Ask = Callable[..., Awaitable[Generation | Score]]
Answer = Callable[..., dict[str, Any]]

KEY = "sk-of-nobody"
PATIENCE = 20  # seconds, never waited for unless something hangs
HERE = Address("http://here", timeout=1, retries=0, connections=1)
PATHS = {"step": "/v1/completions", "http": "/classify", "openai": "/v1/embeddings"}
PAGE = "<!DOCTYPE html>\n<html><body>Welcome to nginx!</body></html>"
BUSY = "If the server is up and busy, lower in_flight or raise timeout (after 1 attempt)"
DOWN = "Is the server up, and the url right? (after 1 attempt)"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_A_TEST", KEY)


@pytest.fixture
def failure(server: FakeServer) -> Callable[..., Awaitable[ArbiterError]]:
    """Return the error of a request whose answer is ``reply``."""

    async def fail(ask: Ask, reply: Reply, **keys: Any) -> ArbiterError:
        server.replies(reply)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ArbiterError) as caught:
                await ask(keys)
        return caught.value

    return fail


Failure = Callable[..., Awaitable[ArbiterError]]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"status": 400, "body": "bad seed"}, "400: bad seed. The server does not accept this request; its log may"),
        ({"status": 401, "body": "who?"}, "401: who?. Set api_key_env to the name of the environment variable that"),
        ({"status": 403, "body": "no"}, "403: no. Set api_key_env to the name of the environment variable that holds"),
        ({"status": 404, "body": "no"}, "404: no. Is the url right, does it serve {path}, and does it have the model?"),
        ({"status": 405, "body": "no"}, "405: no. Is the url right, does it serve {path}, and does it have the model?"),
        ({"status": 429, "body": "slow"}, "429: slow. Lower in_flight, or raise retries (after 1 attempt)"),
        ({"status": 500, "body": "boom"}, "500: boom. The server's log may say why (after 1 attempt)"),
        (
            {"status": 502, "body": PAGE},
            "502: <!DOCTYPE html> <html><body>Welcome to nginx!</body></html>. The server'",
        ),
        ({"status": 503, "body": ""}, "503. The server's log may say why (after 1 attempt)"),
        (
            {"body": PAGE},
            "with HTML: <!DOCTYPE html> <html><body>Welcome to nginx!</body></html>. Is the url that of a ",
        ),
        ({"body": ""}, "with nothing. Is the url that of a model's server?"),
        ({"body": '{"choices": [{"te'}, 'with something unexpected (Input data was truncated): {"choices": [{'),
        ({"body": [1, 2]}, "with something unexpected (Expected `object`, got `"),
        ({"body": {"object": "list"}}, "with something unexpected (Object missing required field `"),
        ({"body": b"\xff\xfe"}, "with something unexpected ("),
    ],
)
@pytest.mark.slow
async def test_an_answer_that_is_none_is_told_with_its_address_and_a_way_out(
    reply: Reply, message: str, server: FakeServer, ask: Ask, failure: Failure
) -> None:
    error = await failure(ask, reply)
    path = server.asked[0].path
    assert str(error).startswith(f"{server.url}{path} answered {message.replace('{path}', path)}")
    assert len(server.asked) == 1


@pytest.mark.asyncio
async def test_a_key_that_is_refused_is_told_with_its_variable(server: FakeServer, ask: Ask, failure: Failure) -> None:
    error = await failure(ask, {"status": 401, "body": f"Incorrect API key: {KEY}"}, api_key_env="KEY_OF_A_TEST")
    path = server.asked[0].path
    way = "Is the key in the environment variable KEY_OF_A_TEST right?"
    assert str(error) == f"{server.url}{path} answered 401: Incorrect API key: ***. {way}"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply",
    [
        *({"status": status} for status in (400, 401, 404, 429)),
        {"status": 400, "headers": {"content-type": "text/html; charset=hex"}},
        {},
        {"fault": "half"},
    ],
)
@pytest.mark.slow
async def test_a_key_that_the_server_echoes_is_in_no_message_of_the_error_or_its_causes(
    reply: Reply, ask: Ask, failure: Failure
) -> None:
    body = {"error": {"message": f"Bearer {KEY} of context length", "at": [KEY] * 3}}
    error = await failure(ask, {"body": body, **reply}, api_key_env="KEY_OF_A_TEST")
    assert KEY not in str(error)
    assert KEY not in format_error(error)
    assert KEY not in "".join(traceback.format_exception(error))


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["half", "reset"])
@pytest.mark.slow
async def test_a_body_that_breaks_off_is_told_as_no_answer(
    fault: str, server: FakeServer, ask: Ask, failure: Failure
) -> None:
    error = await failure(ask, {"body": "x" * 1000, "fault": fault})
    assert str(error).startswith(f"{server.url}{server.asked[0].path} does not answer: ")
    assert str(error).endswith(DOWN)


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["silent", "drip"])
@pytest.mark.slow
async def test_an_answer_that_is_not_whole_in_time_is_none(
    fault: str, server: FakeServer, ask: Ask, failure: Failure
) -> None:
    error = await failure(ask, {"fault": fault}, timeout=0.2)
    address = server.url + server.asked[0].path
    assert str(error) == f"{address} does not answer: no complete answer within 0.2 s. {BUSY}"


@pytest.mark.parametrize(
    "words",
    [
        "The input (1300 tokens) is longer than the model's context length (1024 tokens).",  # sglang
        "Requested token count exceeds the model's maximum context length of 1024 tokens. You requested 1300.",
        "This model's maximum context length is 1024 tokens. However, you requested 1300 tokens (276 in the messages).",
        "You passed 1025 input tokens and requested 16 output tokens. However, the model's context length is only 1024",
        "The decoder prompt (length 1300) is longer than the maximum model length of 1024. Make sure that "
        "`max_model_len` is no smaller than the number of text tokens.",  # vLLM
        "This model's maximum context length is 1024 tokens. However, you requested 100 output tokens and your prompt "
        "contains at least 925 input tokens, for a total of at least 1025 tokens.",
        "max_tokens must be at least 1, got -186.",
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        "request (1300 tokens) exceeds the available context size (1024 tokens), try increasing it",  # llama.cpp
        "Requested tokens (1300) exceed context window of 1024",  # llama-cpp-python
        "This model's maximum context length is 4097 tokens, however you requested 5000 tokens (4900 in your prompt; "
        "100 for the completion). Please reduce your prompt; or completion length.",  # OpenAI
        "Input tokens exceed the configured limit of 1024 tokens. (code: context_length_exceeded)",
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_context_that_is_too_long_is_told_as_such_in_every_engines_words(status: int, words: str) -> None:
    error = refusal(HERE, "/v1/completions", status, {}, json.dumps({"error": {"message": words}}))
    assert isinstance(error, ContextTooLongError)


@pytest.mark.asyncio
async def test_a_context_that_is_too_long_is_told_with_the_limits_to_lower(
    server: FakeServer, ask: Ask, failure: Failure
) -> None:
    error = await failure(ask, {"status": 400, "body": "maximum context length is 10"})
    told = "answered 400: maximum context length is 10. Lower limits.max_tokens or limits.step_tokens, or shorten the"
    assert isinstance(error, ContextTooLongError)
    assert str(error) == f"{server.url}{server.asked[0].path} {told} question"


@pytest.mark.parametrize(
    "words", ["max_tokens is too large", "temperature must be 0 or more", "Invalid stop: must be a text or a list"]
)
def test_another_refusal_is_not_told_as_a_context_that_is_too_long(words: str) -> None:
    assert type(refusal(HERE, "/v1/completions", 400, {}, words)) is BackendError


@pytest.mark.asyncio
async def test_an_answer_without_a_choice_is_no_step(server: FakeServer, step: Ask, failure: Failure) -> None:
    error = await failure(step, {"body": {"choices": []}})
    address = f"{server.url}/v1/completions"
    assert str(error) == f"{address} answered without a choice. Is a language model served there?"


@pytest.mark.asyncio
async def test_an_answer_without_a_score_is_none(
    server: FakeServer, score: Ask, failure: Failure, backend: str
) -> None:
    error = await failure(score, {"body": {"http": [], "openai": {"data": []}}[backend]})
    address = server.url + PATHS[backend]
    assert str(error) == f"{address} answered without a score. Is a classifier served there?"


@pytest.mark.asyncio
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "null"])
@pytest.mark.slow
async def test_a_score_that_is_no_number_is_told_as_such(
    number: str, server: FakeServer, score: Ask, failure: Failure, backend: str
) -> None:
    one = f'{{"embedding": [{number}]}}'
    error = await failure(score, {"body": {"http": one, "openai": f'{{"data": [{one}]}}'}[backend]})
    why = "answered with a score that is not a number: [None]. Does the model overflow in its dtype?"
    assert str(error).startswith(f"{server.url}{PATHS[backend]} {why}")


@pytest.mark.asyncio
@pytest.mark.parametrize("count", [0, 3, 1024])
async def test_what_has_not_one_or_two_numbers_is_told_as_no_scorer(
    count: int, server: FakeServer, score: Ask, failure: Failure, scored: Answer, backend: str
) -> None:
    error = await failure(score, scored(*[0.5] * count))
    way = "a scorer has one (a value) or two (classes). Is a language model or an embedding model served there?"
    assert str(error) == f"{server.url}{PATHS[backend]} answered with {count} numbers; {way}"


@pytest.mark.asyncio
async def test_a_text_that_cannot_be_sent_is_told_and_not_tried_again(server: FakeServer, step: Ask) -> None:
    with pytest.raises(BackendError, match="the text is not valid Unicode and cannot be sent"):
        await step({"retries": 5, "prompt": "\ud800 {question}"})
    assert server.asked == []


@pytest.mark.asyncio
async def test_the_prompt_is_in_no_message(server: FakeServer, ask: Ask, failure: Failure) -> None:
    error = await failure(ask, {"status": 500, "body": "boom"})
    assert "1+1?" not in format_error(error)
    assert server.asked


@pytest.mark.asyncio
@pytest.mark.parametrize("length", [299, 300, 301, 100_000])
@pytest.mark.slow
async def test_a_long_answer_is_told_by_its_beginning(length: int, step: Ask, failure: Failure) -> None:
    error = await failure(step, {"status": 500, "body": "x" * length})
    assert f"500: {'x' * min(length, 300)}{'…' if length > 300 else ''}. The" in str(error)
