"""Streams with thoughts, stop texts, several answers and log-probabilities at once are the same as whole answers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import accumulate
from typing import Any

import anyio
from hypothesis import example, given
from hypothesis import strategies as st

from arbiter.protocols.answer_tokens import WrittenToken
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage
from tests.arbiter.gateway.conftest import Served
from tests.hypothesis_profiles import examples

Open = Callable[..., AbstractAsyncContextManager[Served]]
Parts = tuple[str, str, list[dict[str, Any]]]

NO_TOKENS: dict[str, Any] = {"content": []}
INCLUDE = ["message.output_text.logprobs"]
PIECES = st.sampled_from(["<think>", "</think>", "</thi", "nk>", "\n", "a", "b c", "END", "EN", "D"])
STEPS = st.lists(
    st.lists(PIECES, min_size=1, max_size=5).filter(
        lambda pieces: "\n\n" not in "".join(pieces) and not pieces[-1].endswith("\n")
    ),
    min_size=1,
    max_size=4,
)


def whole_message(choice: dict[str, Any]) -> Parts:
    message, logprobs = choice["message"], choice["logprobs"] or NO_TOKENS
    return message.get("reasoning_content", ""), message["content"] or "", logprobs["content"]


def streamed_message(events: Sequence[dict[str, Any]], index: int) -> Parts:
    reasoning, content, tokens = "", "", list[dict[str, Any]]()
    for event in events:
        for choice in event.get("choices", ()):
            if choice["index"] == index:
                delta = choice["delta"]
                assert not (delta.get("content") and delta.get("reasoning_content"))
                reasoning += delta.get("reasoning_content", "")
                content += delta.get("content", "")
                tokens += (choice["logprobs"] or NO_TOKENS)["content"]
    return reasoning, content, tokens


def parts_of(output: Sequence[dict[str, Any]]) -> Parts:
    texts = {item["type"]: item["content"][0] for item in output}
    message = texts.get("message", {"text": "", "logprobs": []})
    return texts.get("reasoning", {"text": ""})["text"], message["text"], message["logprobs"]


def streamed_parts(events: Sequence[dict[str, Any]]) -> Parts:
    def joined(kind: str) -> str:
        return "".join(event["delta"] for event in events if event["type"] == kind)

    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    tokens = [token for event in deltas for token in event.get("logprobs", ())]
    return joined("response.reasoning_text.delta"), joined("response.output_text.delta"), tokens


@examples(0.2)
@given(
    steps=STEPS,
    chosen=st.sampled_from(["separate", "inline"]),
    unit=st.sampled_from(["steps", "tokens"]),
    model=st.sampled_from(["arbiter", "arbiter:target", "arbiter:draft"]),
    stop=st.sampled_from([None, ["END"], ["k>", "b"], ["\n\n"]]),
    number=st.sampled_from([1, 2]),
    logprobs=st.booleans(),
    records=st.booleans(),
)
@example(
    [["<think>", "a"], ["b c", "</think>", "\n", "a"], ["END"]],
    "separate",
    "tokens",
    "arbiter:target",
    None,
    2,
    False,
    True,
)
def test_every_stream_is_the_answer_that_is_not_streamed(
    endpoint: Open,
    steps: list[list[str]],
    chosen: str,
    unit: str,
    model: str,
    stop: list[str] | None,
    number: int,
    logprobs: bool,
    records: bool,
) -> None:
    def written(request: GenerationRequest) -> Generation:
        texts, is_last = [*steps[request.step]], request.step + 1 == len(steps)
        text = "".join(texts)
        texts[-1] += "" if is_last else request.separator
        tokens = tuple(WrittenToken(one, -0.5) for one in texts) if request.top_logprobs is not None else None
        return Generation(text, "end" if is_last else "separator", Usage(10, len(texts)), tokens=tokens)

    def so_far(request: GenerationRequest) -> Sequence[str]:
        return list(accumulate(steps[request.step]))[:-1]

    async def use() -> None:
        extras = {"reasoning": chosen, "stream": unit, "steps": records}
        fields: dict[str, Any] = {"arbiter": extras, "model": model}
        async with endpoint(written, texts=so_far) as served:
            chat: dict[str, Any] = {**fields, "n": number, "logprobs": logprobs, "stop": stop}
            choices = (await served.chat(**chat)).json()["choices"]
            chunks = await served.chat_events(**chat)
            assert [streamed_message(chunks, index) for index in range(number)] == [*map(whole_message, choices)]
            body = {**fields, "input": "q", "include": INCLUDE if logprobs else []}
            output = (await served.post("responses", **body)).json()["output"]
            events = await served.events("responses", **body)
            assert streamed_parts(events) == parts_of(output) == parts_of(events[-1]["response"]["output"])

    anyio.run(use)
