"""Steps from llama.cpp's own server, on its own path."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.backends.token_texts import TransformersTokenTexts
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest

if TYPE_CHECKING:
    from conftest import AGenerator, Asked, FakeServer, Reply

StepOf = Callable[..., Awaitable[Generation]]
TOKENIZER = "pocket:draft"
LISTED: dict[str, Any] = {"body": {"object": "list", "data": [{"id": "m", "owned_by": "llamacpp"}]}}


def numbers(text: str) -> list[int]:
    texts = TransformersTokenTexts(read_tokenizer(TOKENIZER, "a test", "do without"))
    return texts.encode(text, special=False)


def streamed(*parts: tuple[str, list[int], int], **last: Any) -> Reply:
    """Return a stream of texts, each with numbers and the count of all tokens so far, and a chunk with the reason."""
    chunks: list[dict[str, Any]] = [
        {"index": 0, "content": text, "tokens": ids, "stop": False, "tokens_predicted": count, "tokens_evaluated": 7}
        for text, ids, count in parts
    ]
    end = {"stop_type": "word", "stopping_word": "\n\n", "tokens_predicted": parts[-1][2] if parts else 0}
    timings = {"timings": {"cache_n": 4, "prompt_n": 3}}
    chunks.append({"content": "", "tokens": [], "stop": True, "tokens_evaluated": 7, **end, **timings, **last})
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return {"body": body, "headers": {"content-type": "text/event-stream"}}


def whole(text: str, ids: list[int], **fields: Any) -> Reply:
    end = {"stop_type": "word", "stopping_word": "\n\n", "timings": {"cache_n": 4}}
    return {"body": {"content": text, "tokens": ids, "stop": True, "tokens_predicted": len(ids), **end, **fields}}


def trial(asked: Asked) -> Reply:
    """Return the answer to a small request at the start, whose prompt is a text or its numbers."""
    read = len(numbers("Compute 1+1.\n"))
    return streamed(("2", numbers("2"), 1), stop_type="limit", stopping_word="", tokens_evaluated=read)


def serves(server: FakeServer, reply: Reply) -> None:
    """Let the server name itself as llama.cpp's, and answer all but the small requests at the start with ``reply``."""
    server.models, server.trial = LISTED, trial
    server.replies(lambda asked: trial(asked) if asked.body["max_tokens"] == 1 else reply)


STEP = streamed(("4", numbers("4"), 1), ("2", numbers("2"), 2), ("", numbers("\n"), 3), ("", numbers("\n"), 4))


@pytest.mark.asyncio
async def test_the_server_is_told_to_leave_the_models_distribution_as_it_is(server: FakeServer, step: StepOf) -> None:
    serves(server, STEP)
    await step({})
    neutral = {"repeat_penalty": 1.0, "min_p": 0.0, "top_k": 0}
    assert {name: server.asked[-1].body.get(name) for name in neutral} == neutral


@pytest.mark.asyncio
async def test_a_step_is_a_stream_with_its_ending_its_numbers_and_its_counts(server: FakeServer, step: StepOf) -> None:
    serves(server, STEP)
    found = await step({"tokenizer": TOKENIZER}, token_exact=True)
    asked = server.asked[-1]
    assert (found.text, found.stop_reason) == ("42", "separator")
    assert found.token_ids == (*numbers("42"), *numbers("\n"), *numbers("\n"))
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.cached_tokens) == (7, 4, 4)
    assert (asked.path, asked.body["stream"], asked.body["return_tokens"]) == ("/completion", True, True)
    assert asked.body["prompt"] == numbers("1+1?\n")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("last", "text", "ending"),
    [
        ({"stop_type": "eos", "stopping_word": ""}, "42", "end"),
        ({"stop_type": "limit", "stopping_word": ""}, "42", "limit"),
        ({"stop_type": "word"}, "42", "separator"),
    ],
)
async def test_its_reason_needs_no_second_request(
    last: dict[str, Any], text: str, ending: str, server: FakeServer, step: StepOf
) -> None:
    serves(server, streamed(("4", [5], 1), ("2", [6], 2), **last))
    found = await step()
    assert (found.text, found.stop_reason, found.overhead.prompt_tokens) == (text, ending, 0)
    assert [asked.path for asked in server.asked] == ["/completion"] * len(server.asked)


@pytest.mark.asyncio
async def test_numbers_that_a_stream_leaves_out_of_a_character_are_those_of_the_tokenizer(
    server: FakeServer, step: StepOf
) -> None:
    ids = numbers("世")
    assert len(ids) == 3
    serves(server, streamed(("世", ids[-1:], 3), ("", numbers("\n"), 4), ("", numbers("\n"), 5)))
    found = await step({"tokenizer": TOKENIZER}, token_exact=True)
    assert found.token_ids == (*ids, *numbers("\n"), *numbers("\n"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "parts",
    [
        [("世", "2", 3)],  # another number than the tokenizer's
        [("世", "世", 4)],  # another count
        [("4", "4", 1), ("", "", 3)],  # the limit within a character
    ],
)
async def test_numbers_that_cannot_be_known_leave_the_step_without_any(
    parts: list[tuple[str, str, int]], server: FakeServer, step: StepOf
) -> None:
    given = [(text, numbers(written)[-1:], count) for text, written, count in parts]
    serves(server, streamed(*given, stop_type="limit", stopping_word=""))
    found = await step({"tokenizer": TOKENIZER}, token_exact=True)
    assert (found.text, found.token_ids) == ("".join(text for text, _, _ in parts), ())


@pytest.mark.asyncio
async def test_log_probabilities_come_with_a_whole_answer(server: FakeServer, step: StepOf) -> None:
    named: list[dict[str, Any]] = [{"id": 5, "token": each, "logprob": -0.5, "top_logprobs": []} for each in "42"]
    serves(server, whole("42", [5, 6, 7, 7], completion_probabilities=named))
    found = await step(confidence="mean")
    assert server.asked[-1].body["stream"] is False
    assert found.confidence == pytest.approx(0.6065, abs=1e-3)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (streamed(("4", [5], 1), stop=False), "did not complete its answer"),
        (streamed(("4", [5], 1), stop_type="none"), "did not complete its answer"),
        ({"body": 'data: {"error":{"code":500,"message":"out of slots"}}\n\n'}, "out of slots"),
        ({"status": 400, "body": {"error": {"code": 400, "message": "no such field"}}}, "no such field"),
        ({"body": ""}, "did not complete its answer"),
        (whole("4", [5], tokens_predicted=99999), "tokens_predicted|completion_tokens"),
    ],
)
async def test_an_answer_that_is_broken_off_or_wrong_is_an_error(
    reply: Reply, reason: str, server: FakeServer, step: StepOf
) -> None:
    serves(server, reply)
    with pytest.raises(BackendError, match=reason):
        await step()


@pytest.mark.asyncio
async def test_where_a_gateway_lacks_the_path_steps_are_completions(
    server: FakeServer, step: StepOf, answer: Callable[..., Reply]
) -> None:
    def script(asked: Asked) -> Reply:
        return answer() if asked.path == "/v1/completions" else {"status": 404}

    server.models, server.trial = LISTED, script
    server.replies(script)
    found = await step()
    assert (found.text, server.asked[-1].path) == ("a step", "/v1/completions")


@pytest.mark.asyncio
async def test_a_connection_that_carried_a_stream_is_not_used_again(
    server: FakeServer, a_generator: AGenerator, generation: Callable[..., GenerationRequest]
) -> None:
    serves(server, STEP)
    async with a_generator() as generator:
        before = len(server.connections)
        for _ in range(3):
            await generator.generate(generation())
        assert len(server.connections) == before + 3
