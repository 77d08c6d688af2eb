"""What a refusal means, wherever the server puts it, and what is requested again after it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from arbiter.backends.served.context_room import within_context
from arbiter.backends.served.refusals import refusal, stated_error
from arbiter.backends.served.transport import Address, NotServedError, TemporaryError, url_of
from arbiter.config.config import parse
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import Generation, Score
from arbiter.protocols.records import Step, Transcript, Usage
from arbiter.servers.doctor import examine

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Reply

Ask = Callable[..., Awaitable[Generation | Score]]
StepOf = Callable[..., Awaitable[Generation]]
Answer = Callable[..., dict[str, Any]]

HERE = Address("http://here", timeout=1, retries=0, connections=1)
CHOICE = {"text": "a step", "finish_reason": "stop", "matched_stop": "\n\n"}
BUSY = {"error": {"code": 429, "message": "slow down"}}
AFTER_FIRST = Transcript("1+1?", (Step("First.", "draft"),))
DEEP = "[" * 100_000


def read(body: object, status: int = 200) -> BackendError:
    return refusal(HERE, "/v1/completions", status, {}, json.dumps(body))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        BUSY,
        {**BUSY, "choices": [CHOICE], "embedding": [0.0], "data": [{"embedding": [0.0]}]},
        {"error": {"code": "429"}},
        {"error": {"type": "rate_limit_error", "message": "slow down"}},
        {"object": "error", "code": 503, "message": "overloaded"},
        [{"error": {"code": 503, "status": "UNAVAILABLE"}}],
        {"choices": [{**CHOICE, "error": {"code": 502}}], "embedding": [0.0], "data": [{"embedding": [0.0]}]},
    ],
)
@pytest.mark.slow
async def test_a_temporary_error_in_a_body_is_tried_again_whatever_stands_beside_it(
    body: Any, server: FakeServer, ask: Ask, answer: Answer, scored: Answer
) -> None:
    right = {"body": {**answer()["body"], **scored(0.0)["body"], "usage": {"prompt_tokens": 7}}}
    server.replies({"body": body}, right)
    await ask({"retries": 1})
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("body", "status", "kind", "busy"),
    [
        (BUSY, 200, TemporaryError, True),
        (BUSY, 400, TemporaryError, True),
        ({"error": {"type": "overloaded_error"}}, 200, TemporaryError, True),
        ({"error": {"code": 529}}, 500, TemporaryError, True),
        ({"error": {"code": 500}}, 200, TemporaryError, False),
        ({"error": {"code": 404}}, 200, NotServedError, False),
        ({"error": "no such thing"}, 200, BackendError, False),
        ({"error": {"code": 1211}}, 400, BackendError, False),  # a number of the host's own
        ({"error": {"message": "maximum context length is 10"}}, 200, ContextTooLongError, False),
        ({"error": {"code": 500, "message": "maximum context length is 10"}}, 200, ContextTooLongError, False),
    ],
)
def test_an_error_in_a_body_counts_before_the_status(
    body: object, status: int, kind: type[BackendError], busy: bool
) -> None:
    error = read(body, status)
    assert type(error) is kind
    assert getattr(error, "busy", False) == busy


@pytest.mark.parametrize(
    "body",
    [
        {"error": None, "choices": [CHOICE]},
        {"error": "", "choices": [CHOICE]},
        {"choices": [{**CHOICE, "text": '{"error": {"code": 429}}'}]},
        {"choices": [{**CHOICE, "logprobs": {"tokens": ["error"], "top_logprobs": [{"error": -0.1}]}}]},
    ],
)
def test_what_only_looks_like_an_error_is_none(body: object) -> None:
    assert stated_error(json.dumps(body).encode()) is None
    assert stated_error(msgspec.json.encode(body)) is None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Input length (246 tokens) exceeds the maximum allowed length (194 tokens). Use a shorter input"),
        (
            422,
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens",
        ),
        (422, "Input validation error: `inputs` must have less than 1024 tokens. Given: 2048"),
        (400, "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000, decrease input length"),
        (400, "prompt is too long: 210000 tokens > 200000 maximum"),
        (500, '{"error":{"code":500,"message":"the request","type":"exceed_context_size_error","n_ctx":512}}'),
        (400, '{"error":{"code":400,"type":"exceed_context_size_error","n_prompt_tokens":600,"n_ctx":512}}'),
        (400, "max_tokens must be at least 1, got 0.5"),
    ],
)
def test_a_context_that_is_too_long_is_one_in_every_engines_words_and_status(status: int, words: str) -> None:
    assert type(refusal(HERE, "/v1/completions", status, {}, words)) is ContextTooLongError


@pytest.mark.parametrize(
    "words",
    [
        "Unrecognized field: context_window_length",
        "Unknown parameter: context length",
        "Extra inputs are not permitted: max_model_len",
    ],
)
def test_a_complaint_about_a_field_is_no_context_that_is_too_long(words: str) -> None:
    assert type(refusal(HERE, "/v1/completions", 400, {}, words)) is BackendError


@pytest.mark.asyncio
@pytest.mark.parametrize("body", ['{"choices": [{"text": "a st', ""])
async def test_a_body_that_ends_early_is_requested_again(
    body: str, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.replies({"body": body}, answer())
    assert (await step({"retries": 1})).text == "a step"


@pytest.mark.asyncio
async def test_a_list_of_models_that_is_nested_deeply_is_refused_as_malformed(server: FakeServer, ask: Ask) -> None:
    server.models = {"body": DEEP}
    with pytest.raises(BackendError, match="something unexpected"):
        await ask()


@pytest.mark.asyncio
async def test_answers_about_a_server_that_are_nested_deeply_say_nothing(
    server: FakeServer, step: StepOf, answer: Answer
) -> None:
    server.about = lambda _: {"body": DEEP}
    server.replies(answer())
    assert (await step()).text == "a step"


@pytest.mark.asyncio
@pytest.mark.parametrize("body", ['{"a":' * 100_000, '{"choices": ' + DEEP, '{"error": ' + DEEP])
async def test_an_answer_that_is_nested_deeply_is_refused_as_malformed(body: str, server: FakeServer, ask: Ask) -> None:
    server.replies({"body": body})
    with pytest.raises(BackendError, match="something unexpected"):
        await ask()


@pytest.mark.asyncio
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.slow
async def test_a_body_over_its_bound_is_refused_by_name_packed_or_not(
    packed: bool, status: int, server: FakeServer, step: StepOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packed body is small; what counts is its size unpacked."""
    monkeypatch.setattr("arbiter.backends.served.served_models.Address", _small_bodies)
    text = json.dumps({"choices": [{**CHOICE, "text": "a" * 2000}]})
    reply: Reply = {"body": text, "status": status}
    if packed:
        reply |= {"body": gzip.compress(text.encode()), "headers": {"content-encoding": "gzip"}}
    server.replies(reply)
    with pytest.raises(BackendError, match=r"answered with more than 1,024 bytes"):
        await step()


def _small_bodies(**fields: Any) -> Address:
    return Address(largest_body=1024, **fields)


@pytest.mark.asyncio
async def test_a_packed_body_below_its_bound_is_unpacked(server: FakeServer, step: StepOf, answer: Answer) -> None:
    packed = gzip.compress(json.dumps(answer()["body"]).encode())
    server.replies({"body": packed, "headers": {"content-encoding": "gzip"}})
    assert (await step()).text == "a step"


@pytest.mark.parametrize(
    ("url", "completions", "own"),
    [
        ("http://h", "http://h/v1/completions", "http://h/classify"),
        ("http://h/api", "http://h/api/v1/completions", "http://h/api/classify"),
        ("http://h/v3", "http://h/v3/completions", "http://h/classify"),
        ("http://h/v1/openai", "http://h/v1/openai/completions", "http://h/classify"),
        ("http://h/api/v3", "http://h/api/v3/completions", "http://h/api/classify"),
        ("http://h/api/paas/v4", "http://h/api/paas/v4/completions", "http://h/api/paas/classify"),
        ("http://h/v1beta/openai", "http://h/v1beta/openai/completions", "http://h/classify"),
        ("http://h/beta", "http://h/beta/completions", "http://h/classify"),
        ("http://h/beta/v1", "http://h/beta/v1/completions", "http://h/beta/classify"),
        ("http://v1.host:80/x", "http://v1.host:80/x/v1/completions", "http://v1.host:80/x/classify"),
        ("http://h/vllm", "http://h/vllm/v1/completions", "http://h/vllm/classify"),
    ],
)
def test_an_address_with_a_version_of_its_own_is_used_as_it_is(url: str, completions: str, own: str) -> None:
    assert (url_of(url, "/v1/completions"), url_of(url, "/classify")) == (completions, own)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "behind", ["/v3", "/v1/openai", "/api/v3", "/api/paas/v4", "/v1beta/openai/", "/beta", "/beta/v1"]
)
@pytest.mark.slow
async def test_every_backend_reaches_an_address_with_a_version_of_its_own(
    behind: str, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    def reply(asked: Asked) -> Reply:
        return server.models if asked.path.endswith("/models") else answer()

    server.replies(reply)
    await step({"url": server.url + behind})
    paths = [asked.path for asked in server.asked]
    assert paths == [behind.rstrip("/") + path for path in ("/models", "/completions")]


@pytest.mark.asyncio
@pytest.mark.parametrize("shape", ["completion", "chat"])
async def test_a_missing_number_among_the_alternatives_is_left_out(
    shape: str, server: FakeServer, step: StepOf, answer: Answer
) -> None:
    one: Any = {"token": "a", "logprob": -0.1}
    found: Any = {
        "completion": {"top_logprobs": [{"a": -0.1, "b": None}]},
        "chat": {"content": [{**one, "top_logprobs": [one, None]}]},
    }[shape]
    server.replies(answer(logprobs=found))
    alone = answer(logprobs={"top_logprobs": [{"a": -0.1}]})
    made = await step(confidence="first")
    server.replies(alone)
    assert made.confidence == (await step(confidence="first")).confidence


VLLM = "This model's maximum context length is {} tokens. However, you requested {} output tokens and your prompt "
REFUSALS = {
    "sglang": "Requested token count exceeds the model's maximum context length of {context} tokens. You requested a "
    "total of {total} tokens: {prompt} tokens from the input messages and {most} tokens for the completion.",
    "openai": "This model's maximum context length is {context} tokens, however you requested {total} tokens "
    "({prompt} in your prompt; {most} for the completion).",
    "vllm": "This model's maximum context length is {context} tokens. However, you requested {most} output tokens and "
    "your prompt contains at least {least} input tokens, for a total of at least {over} tokens.",
    "vllm with counts": "'max_tokens' or 'max_completion_tokens' is too large: {most}. This model's maximum context "
    "length is {context} tokens and your request has {prompt} input tokens ({most} > {context} - {prompt}).",
    "tgi": "`inputs` tokens + `max_new_tokens` must be <= {context}. Given: {prompt} `inputs` tokens and {most} "
    "`max_new_tokens`",
    "anthropic": "input length and `max_tokens` exceed context limit: {prompt} + {most} > {context}",
    "terse": "the request exceeds the context size",
}


def strict(words: str, prompt: int, context: int, free: int = 0) -> Callable[[Asked], Any]:
    """Return a server that refuses what does not fit into its context, and else writes to the limit."""

    def script(asked: Asked) -> Any:
        most = asked.body["max_tokens"]
        if prompt + most > context - free:
            numbers = {"least": context - most + 1, "over": context + 1, "total": prompt + most}
            text = words.format(context=context, prompt=prompt, most=most, **numbers)
            return {"status": 400, "body": {"error": {"message": text}}}
        usage = {"prompt_tokens": prompt, "completion_tokens": most}
        return {"body": {"choices": [{"text": "a" * most, "finish_reason": "length"}], "usage": usage}}

    return script


@pytest.mark.asyncio
@pytest.mark.parametrize("words", REFUSALS)
@pytest.mark.parametrize("free", [0, 1])
@pytest.mark.slow
async def test_a_request_is_narrowed_to_what_the_context_leaves(
    words: str, free: int, server: FakeServer, step: StepOf
) -> None:
    server.models = {"body": {"data": [{"id": "m", "max_model_len": 512}]}}
    server.replies(strict(REFUSALS[words], 453, 512, free))
    found = await step(max_tokens=128)
    assert (found.stop_reason, found.usage.completion_tokens) == ("limit", 59 - free)
    assert len(server.asked) <= 4


@pytest.mark.asyncio
@pytest.mark.parametrize("number", ["{}", "{:,}"])
@pytest.mark.parametrize("words", [words for words in REFUSALS if words not in ("vllm", "terse")])
async def test_a_refusal_that_names_context_and_prompt_is_followed_by_one_request(words: str, number: str) -> None:
    requested: list[int] = []

    async def attempt(most: int) -> tuple[str, Usage]:
        requested.append(most)
        if 4000 + most > 4096:
            numbers = {"context": 4096, "prompt": 4000, "most": most, "total": 4000 + most}
            raise ContextTooLongError(REFUSALS[words].format(**{name: number.format(n) for name, n in numbers.items()}))
        return "a step", Usage(4000, most)

    assert await within_context(attempt, 1024, None) == ("a step", Usage(4000, 96), Usage())
    assert requested == [1024, 96]


@pytest.mark.asyncio
async def test_a_first_step_without_room_fails_and_a_later_one_ends_the_problem_by_its_limit(
    server: FakeServer, step: StepOf
) -> None:
    server.replies(strict(REFUSALS["vllm"], 1024, 1024))
    with pytest.raises(ContextTooLongError):
        await step(max_tokens=128)
    found = await step(max_tokens=128, transcript=AFTER_FIRST)
    assert (found.text, found.stop_reason) == ("", "limit")


@pytest.mark.asyncio
async def test_the_doctor_notices_a_first_step_that_ends_an_answer_that_goes_on(server: FakeServer) -> None:
    steps = "First.\n\nSecond."

    def script(asked: Asked) -> Any:
        stop = asked.body.get("stop", ["\x00"])[0]
        text = steps.partition(stop)[0] if asked.body["max_tokens"] > 4 else ""
        return {"body": {"choices": [{"text": text, "finish_reason": "eos_token"}], "usage": {"prompt_tokens": 9}}}

    server.replies(script)
    table = {"backend": "http", "url": server.url, "model": "m", "prompt": "plain", "retries": 0}
    [finding] = [found async for found in examine(parse({"models": {"draft": table}}, "test"))]
    [check] = [check for check in finding.checks if check.name == "first step"]
    assert check.state == "warning"
    assert "writes more than one step" in check.text
