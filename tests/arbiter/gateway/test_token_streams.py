"""Streams of tokens: what arrives when, and that the answer is the same."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import anyio
import httpx2
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import parse
from arbiter.gateway.app import Gateway
from arbiter.gateway.inprocess_client import BASE, open_http_client
from arbiter.gateway.response_schemas import TextSoFar
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Candidate, Solution, StepPiece, StepRecord, Usage

Open = Callable[..., AbstractAsyncContextManager[Any]]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

STEPS = 3
WHOLE = "draft 0 of q\n\ntarget 1 of q\n\ndraft 2 of q"
TOKENS = {"stream": "tokens"}


def written(request: GenerationRequest) -> Generation:
    text = f"{request.author} {request.step} of {request.transcript.question}"
    return Generation(text, "end" if request.step + 1 == STEPS else "separator", Usage(10, 4))


def thinking(request: GenerationRequest) -> Generation:
    text = ["<think>one two three", "four five six</think>\n\nseven", "eight nine ten"][request.step]
    return Generation(text, "end" if request.step + 1 == STEPS else "separator", Usage(10, 4))


def words(write: Callable[[GenerationRequest], Generation], request: GenerationRequest) -> Sequence[str]:
    """The texts so far of a step: after its first word, and after its second one."""
    parts = write(request).text.split()
    return [parts[0], " ".join(parts[:2])]


def second_step(request: ScoreRequest) -> float:
    return 0.9 if request.step == 1 else 0.1


class Endpoint:
    """An endpoint in process with a draft and a target whose texts come in two pieces and a rest."""

    def __init__(
        self, seconds: float = 0.0, write: Callable[[GenerationRequest], Generation] = written, **serve: Any
    ) -> None:
        self.draft = ScriptedGenerator(write, seconds, partial(words, write))
        self.target = ScriptedGenerator(write, seconds, partial(words, write))
        models = Models(
            draft=ModelHandle[Generator](self.draft, 100),
            target=ModelHandle[Generator](self.target, 100),
            scorers={"router": ModelHandle[Scorer](ScriptedScorer(second_step), 100)},
        )
        tables = {"models": {}, "run_type": "router", "thresholds": {"router": 0.5}, "serve": serve}
        self.arbiter = Arbiter(parse(tables, "test"), models=models)
        self.gateway = Gateway(self.arbiter)

    async def post(self, path: str, **body: Any) -> httpx2.Response:
        async with self.arbiter, open_http_client(self.gateway.app, httpx2) as client:
            self.answer = await client.post(f"{BASE}/v1/{path}", json={"model": "arbiter", "stream": True, **body})
            self.metrics = (await client.get(f"{BASE}/metrics")).text
        return self.answer

    def events(self, path: str, **body: Any) -> list[dict[str, Any]]:
        answer = anyio.run(lambda: self.post(path, **body))
        assert answer.status_code == 200, answer.text
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return [httpx2.Response(200, text=line).json() for line in lines if line != "[DONE]"]

    def texts(self, **body: Any) -> list[str]:
        """The texts of the chunks of a chat."""
        events = self.events("chat/completions", messages=[{"role": "user", "content": "q"}], **body)
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        assert [delta.get("role") for delta in deltas].count("assistant") == 1
        return [text for delta in deltas if (text := delta.get("content"))]


def test_a_chat_streams_the_target_while_it_writes_and_accepted_drafts_whole() -> None:
    assert Endpoint().texts(arbiter=TOKENS) == ["draft 0 of q", "\n\ntarget", " 1", " of q", "\n\ndraft 2 of q"]


def test_a_chat_streams_steps_unless_tokens_are_requested() -> None:
    assert Endpoint().texts() == ["draft 0 of q", "\n\ntarget 1 of q", "\n\ndraft 2 of q"]


def test_a_step_that_ends_within_a_thought_adds_no_content() -> None:
    asked: dict[str, Any] = {"model": "arbiter:target", "messages": [{"role": "user", "content": "q"}]}
    for extras in (TOKENS, {"stream": "steps"}):
        events = Endpoint(write=thinking).events(
            "chat/completions", **asked, arbiter={**extras, "reasoning": "separate"}
        )
        first, *deltas = [choice["delta"] for event in events for choice in event["choices"]]
        assert first == {"role": "assistant", "content": ""}
        assert "" not in [delta.get("content") for delta in deltas]
        assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "one two three\n\nfour five six"
        assert "".join(delta.get("content", "") for delta in deltas) == "seven\n\neight nine ten"


def test_the_configuration_sets_what_is_streamed_and_a_request_may_choose_otherwise() -> None:
    assert len(Endpoint(stream="tokens").texts()) == 5
    assert len(Endpoint(stream="tokens").texts(arbiter={"stream": "steps"})) == 3


def test_the_target_alone_is_streamed_from_its_first_token_on() -> None:
    texts = Endpoint().texts(model="arbiter:target", arbiter=TOKENS)
    assert texts[:4] == ["target", " 0", " of q", "\n\ntarget"]
    assert "".join(texts) == WHOLE.replace("draft", "target")


def test_a_stop_text_ends_the_answer_within_a_piece() -> None:
    assert "".join(Endpoint().texts(model="arbiter:target", arbiter=TOKENS, stop="get 1")) == "target 0 of q\n\ntar"


def test_a_completion_streams_pieces() -> None:
    events = Endpoint().events("completions", prompt="q", arbiter=TOKENS)
    assert "".join(event["choices"][0]["text"] for event in events) == WHOLE
    assert [event["choices"][0]["text"] for event in events][1:3] == ["\n\ntarget", " 1"]
    assert "" not in [event["choices"][0]["text"] for event in events if not event["choices"][0]["finish_reason"]]


def test_a_response_has_a_delta_for_each_piece() -> None:
    events = Endpoint().events("responses", input="q", arbiter=TOKENS)
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert deltas == ["draft 0 of q", "\n\ntarget", " 1", " of q", "\n\ndraft 2 of q"]
    assert [event["text"] for event in events if event["type"] == "response.output_text.done"] == [WHOLE]


def test_the_records_of_steps_come_with_their_last_text() -> None:
    endpoint = Endpoint()
    messages = [{"role": "user", "content": "q"}]
    events = endpoint.events("chat/completions", messages=messages, arbiter={**TOKENS, "steps": True})
    steps = [event["arbiter"]["step"] for event in events if event.get("arbiter", {}).get("step")]
    assert [step["candidates"][step["chosen"]]["text"] for step in steps] == WHOLE.split("\n\n")


def test_the_time_to_the_first_text_is_counted_by_run_type_and_kind_of_stream() -> None:
    endpoint = Endpoint()
    endpoint.texts(model="arbiter:target", arbiter=TOKENS)
    assert 'arbiter_first_chunk_seconds_count{run_type="target",stream="tokens"} 1.0' in endpoint.metrics
    again = Endpoint()
    again.texts()
    assert 'arbiter_first_chunk_seconds_count{run_type="router",stream="steps"} 1.0' in again.metrics


def test_an_answer_that_is_not_streamed_has_no_first_chunk() -> None:
    endpoint = Endpoint()
    anyio.run(lambda: endpoint.post("chat/completions", messages=[{"role": "user", "content": "q"}], stream=False))
    assert endpoint.answer.json()["choices"][0]["message"]["content"] == WHOLE
    assert "arbiter_first_chunk_seconds_count" not in endpoint.metrics


def test_an_unknown_kind_of_stream_is_refused_by_name() -> None:
    endpoint = Endpoint()
    messages = [{"role": "user", "content": "q"}]
    anyio.run(lambda: endpoint.post("chat/completions", messages=messages, arbiter={"stream": "words"}))
    assert endpoint.answer.status_code == 400
    assert endpoint.answer.json()["error"]["param"] == "arbiter.stream"


def test_a_client_that_leaves_in_the_middle_of_a_step_frees_both_models(listening: Open, until: Until) -> None:
    asked: list[GenerationRequest | ScoreRequest] = []

    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        """The second step takes an hour after its first word."""
        asked.append(request)
        return 3600.0 if [one.step for one in asked].count(1) > 1 else 0.0

    async def body() -> None:
        async with listening(write=written, seconds=seconds, texts=partial(words, written)) as (served, address):
            sent = {"model": "arbiter:target", "messages": [{"role": "user", "content": "q"}], "stream": True}
            async with httpx2.AsyncClient() as client:
                call = client.stream("POST", f"{address}/v1/chat/completions", json={**sent, "arbiter": TOKENS})
                async with call as answer:
                    lines = answer.aiter_lines()
                    while r'"\n\ntarget"' not in await anext(lines):
                        pass
                    assert served.models.running == 1
            await until(lambda: served.models.running == 0)
            assert served.models.target.cancelled == 1

    anyio.run(body)


def a_step(text: str, ends: bool) -> StepRecord:
    return StepRecord((Candidate("target", text, "end" if ends else "separator", Usage(1, 1), 0.0),), 0)


STEP_TEXTS = st.lists(st.text("ab\n", max_size=8), min_size=1, max_size=4)
SEPARATORS = st.sampled_from(["\n\n", "b", "ab"])
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=2)


@given(STEP_TEXTS, SEPARATORS, STOPS, st.lists(st.lists(st.integers(0, 8), max_size=3), min_size=4, max_size=4))
def test_pieces_and_rests_joined_are_the_answer_for_any_division(
    texts: list[str], separator: str, stop: list[str], cuts: list[list[int]]
) -> None:
    steps = tuple(a_step(text, index + 1 == len(texts)) for index, text in enumerate(texts))
    solution = Solution("p", "q", steps, "answered", 0.0, {}, separator=separator, stop=tuple(stop))
    divided, whole, sent = TextSoFar(separator, stop), TextSoFar(separator, stop), ""
    for index, step in enumerate(steps):
        text, done = step.kept.text, 0
        for end in sorted(cuts[index]):
            if done < min(end, len(text)):
                sent += divided.add_piece(StepPiece(index, "target", text[done:end]))
                done = min(end, len(text))
                assert solution.text.startswith(sent)
        sent += divided.add(step)
        assert solution.text.startswith(sent)
        whole.add(step)
    assert sent + divided.end(solution) == solution.text
