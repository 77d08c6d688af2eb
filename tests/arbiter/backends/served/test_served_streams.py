"""Answers that arrive as streams: the step is the same, and its text is passed on as it arrives."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.step_pieces import StreamedGenerator
from arbiter.backends.served.completion_streams import hearing_of, joined
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, StreamsText
from arbiter.protocols.records import Step, StepPiece, Transcript

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Reply, Script

AGenerator = Callable[..., AbstractAsyncContextManager[Generator]]
EngineOf = Callable[[str, Callable[..., str]], "Script"]
Request = Callable[..., GenerationRequest]

PROMPT, ANSWER = "1+1?\n", "First of all.\n\nSecond.\n\nThird."
EVERY_ENGINE = ["sglang", "vllm", "vllm with an end token", "llama.cpp", "plain", "untrimmed", "careless"]
DONE = b"data: [DONE]\n\n"


def rest(asked: Asked) -> str:
    """Return what a model that writes ``ANSWER`` has left to write."""
    return (PROMPT + ANSWER).removeprefix(asked.body["prompt"])


def another(_asked: Asked) -> str:
    return "Another.\n\nText."


def events(answer: dict[str, Any], size: int = 3) -> list[bytes]:
    """Return a plain answer as the events of a stream, with ``size`` characters in each, and its usage in the last."""
    (choice,) = answer["choices"]
    text, empty = choice["text"], {**choice, "text": "", "finish_reason": None}
    empty |= {name: None for name in ("matched_stop", "stop_reason", "stopping_word") if name in choice}
    parts = [{**empty, "text": text[at : at + size]} for at in range(0, len(text), size)]
    last = {**choice, "text": ""}
    chunks = [{"choices": [one]} for one in (*parts, last)] + [{"choices": [], "usage": answer["usage"]}]
    return [*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), DONE]


def streaming(script: Script, size: int = 3, cut: int | None = None) -> Script:
    """Return the script of a server that streams where it is requested to. ``cut``: it breaks after so many events."""

    def reply(asked: Asked) -> Reply:
        plain = script(asked)
        if not asked.body.get("stream"):
            return plain
        assert asked.body["stream_options"] == {"include_usage": True}
        sent = events(plain["body"], size)
        return {"parts": sent if cut is None else [*sent[:cut], "reset"]}

    return reply


async def streamed(generator: Generator, request: GenerationRequest) -> tuple[Generation, list[str]]:
    """Return a step, and the pieces of it that were passed on."""
    assert isinstance(generator, StreamsText)
    pieces: list[StepPiece] = []
    step = await StreamedGenerator(generator, pieces.append).generate(request)
    return step, [piece.text for piece in pieces]


CONTEXTS = [Transcript("1+1?"), Transcript("1+1?", (Step("First of all.", "draft"), Step("Second.", "draft")))]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", EVERY_ENGINE)
@pytest.mark.parametrize("transcript", CONTEXTS, ids=["first", "last"])
@pytest.mark.parametrize("most", [50, 4], ids=["whole", "cut"])
@pytest.mark.slow
async def test_a_streamed_step_is_the_plain_one(
    kind: str,
    transcript: Transcript,
    most: int,
    server: FakeServer,
    a_generator: AGenerator,
    generation: Request,
    engine: EngineOf,
) -> None:
    server.replies(streaming(engine(kind, rest)))
    request = generation(transcript=transcript, max_tokens=most)
    async with a_generator() as generator:
        plain = await generator.generate(request)
        step, pieces = await streamed(generator, request)
    assert step == plain
    assert plain.text.startswith("".join(pieces))
    assert pieces


@pytest.mark.asyncio
async def test_text_is_passed_on_before_the_answer_is_complete(
    server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf
) -> None:
    plain = engine("sglang", rest)

    def half(asked: Asked) -> Reply:
        first, *more = events(plain(asked)["body"])
        return {"parts": [first, "gate", *more]}

    server.replies(half)
    async with a_generator() as generator:
        assert isinstance(generator, StreamsText)
        heard = asyncio.Event()
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            heard.set()

        writing = asyncio.create_task(generator.stream(generation(), say))
        await heard.wait()
        assert (said, writing.done()) == (["Fir"], False)
        server.gate.set()
        assert (await writing).text == "First of all."


@pytest.mark.asyncio
async def test_a_cancelled_stream_ends_the_request_at_the_server(
    server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf
) -> None:
    plain = engine("sglang", rest)
    server.replies(lambda asked: {"parts": [*events(plain(asked)["body"])[:2], "gate"]})
    async with a_generator() as generator:
        assert isinstance(generator, StreamsText)
        heard = asyncio.Event()
        writing = asyncio.create_task(generator.stream(generation(), lambda _: heard.set()))
        await heard.wait()
        writing.cancel()
        await asyncio.wait_for(server.left.wait(), 20)


@pytest.mark.asyncio
async def test_a_stream_that_breaks_is_requested_again_and_continues_where_it_ended(
    server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf
) -> None:
    plain = engine("sglang", rest)
    server.replies(streaming(plain, cut=2), streaming(plain, size=4))
    async with a_generator(retries=1) as generator:
        step, pieces = await streamed(generator, generation())
    assert (step.text, "".join(pieces), len(server.asked)) == ("First of all.", "First of all.", 2)


@pytest.mark.asyncio
async def test_a_broken_stream_that_is_not_repeated_fails_and_no_other_text_is_passed_on(
    server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf
) -> None:
    server.replies(streaming(engine("sglang", rest), cut=2), streaming(engine("sglang", another)))
    pieces: list[StepPiece] = []
    async with a_generator(retries=1) as generator:
        assert isinstance(generator, StreamsText)
        with pytest.raises(BackendError, match="wrote another text when its request was made again"):
            await StreamedGenerator(generator, pieces.append).generate(generation())
    assert "".join(piece.text for piece in pieces) == "First "


@pytest.mark.asyncio
async def test_a_stream_that_ends_without_a_reason_is_not_a_step(
    server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf
) -> None:
    plain = engine("sglang", rest)
    server.replies(lambda asked: {"parts": events(plain(asked)["body"])[:2]})
    async with a_generator() as generator:
        with pytest.raises(BackendError, match=r"did not complete its answer \(no reason\)"):
            await streamed(generator, generation())


@pytest.mark.asyncio
@pytest.mark.parametrize("kept", [0, 2])
async def test_an_error_in_a_stream_is_the_error_of_the_answer(
    kept: int, server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf
) -> None:
    plain, error = engine("sglang", rest), b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    server.replies(lambda asked: {"parts": [*events(plain(asked)["body"])[:kept], error, DONE]})
    async with a_generator() as generator:
        with pytest.raises(BackendError, match=r"with the error 500: .*out of memory"):
            await streamed(generator, generation())


@pytest.mark.asyncio
async def test_a_server_that_refuses_streams_writes_whole_steps_and_is_not_asked_for_one_again(
    server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf, caplog: pytest.LogCaptureFixture
) -> None:
    plain = engine("sglang", rest)
    server.replies(lambda asked: {"status": 400, "body": "no stream"} if asked.body.get("stream") else plain(asked))
    async with a_generator() as generator:
        for _ in range(2):
            assert await streamed(generator, generation()) == (await generator.generate(generation()), [])
    assert [bool(asked.body.get("stream")) for asked in server.asked] == [True, False, False, False, False]
    assert [record.message for record in caplog.records if "does not stream" in record.message][1:] == []


@pytest.mark.asyncio
async def test_an_answer_that_is_no_stream_is_read_as_it_is(
    server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf
) -> None:
    server.replies(engine("sglang", rest))
    async with a_generator() as generator:
        assert await streamed(generator, generation()) == (await generator.generate(generation()), [])


@pytest.mark.asyncio
async def test_a_packed_stream_is_read_when_it_is_complete(
    server: FakeServer, a_generator: AGenerator, generation: Request, engine: EngineOf
) -> None:
    plain, packed = engine("sglang", rest), {"content-encoding": "gzip"}

    def reply(asked: Asked) -> Reply:
        return {"parts": [gzip.compress(b"".join(events(plain(asked)["body"])))], "headers": packed}

    server.replies(reply)
    async with a_generator() as generator:
        step, pieces = await streamed(generator, generation())
    assert (step.text, step.stop_reason, pieces) == ("First of all.", "separator", [])


@pytest.mark.asyncio
async def test_a_confidence_is_measured_in_a_plain_answer(
    server: FakeServer, a_generator: AGenerator, generation: Request, answer: Callable[..., Reply]
) -> None:
    logprobs = {"tokens": ["a", " step", "\n\n"], "token_logprobs": [-0.1, -0.1, -0.1]}
    server.replies(answer(logprobs=logprobs))
    async with a_generator() as generator:
        step, pieces = await streamed(generator, generation(confidence="mean"))
    assert step.confidence is not None
    assert pieces == []
    assert "stream" not in server.asked[0].body


TEXTS = st.text("ab\n é\u2028\x85", max_size=20)


def parted(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(ends)]


@given(
    TEXTS, st.integers(1, 4), st.sampled_from(["\n\n", "b", "a\n", "aba"]), st.lists(st.integers(0, 10_000), max_size=6)
)
def test_a_body_is_heard_alike_however_it_is_divided(text: str, size: int, separator: str, cuts: list[int]) -> None:
    choice = {"index": 0, "text": text, "finish_reason": "stop", "matched_stop": separator}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    body = b": ping\r\n\r\n" + b"".join(events({"choices": [choice], "usage": usage}, size)).replace(b"\n", b"\r\n")
    assert msgspec.json.decode(joined(body)) == {"choices": [choice], "usage": usage}
    said: list[str] = []
    hearing = hearing_of(separator, said.append)
    assert hearing is not None
    hear = hearing()
    for part in parted(body, cuts):
        hear(part)
    step = (text + separator).partition(separator)[0]
    assert all(step.startswith(one) for one in said)
    assert not text or said


@given(st.binary(max_size=60) | TEXTS.map(lambda text: b"data: " + text.encode()))
def test_a_body_of_any_bytes_is_joined_without_an_error(body: bytes) -> None:
    hearing = hearing_of("\n\n", list[str]().append)
    assert hearing is not None
    hearing()(body)
    assert joined(body) in (b"", body) or joined(body).startswith((b"{", b" {"))
