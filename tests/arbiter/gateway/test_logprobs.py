"""Log-probabilities and penalties at the endpoint: in each API, streamed or not, and what is refused."""

from typing import Any

import pytest

from arbiter.protocols.answer_tokens import TokenAlternative, WrittenToken
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage
from arbiter.protocols.tools import ToolCall

pytestmark = pytest.mark.asyncio

INCLUDE = ["message.output_text.logprobs"]
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": PARAMETERS}}


def tokens_of(request: GenerationRequest, *texts: str) -> tuple[WrittenToken, ...] | None:
    """Tokens with these texts and the requested alternatives, if tokens are requested."""
    if request.top_logprobs is None:
        return None
    others = tuple(TokenAlternative(name, -1.0) for name in ("世", "\ufffd", "c")[: request.top_logprobs])
    return tuple(WrittenToken(text, -0.5, others) for text in texts)


def written(request: GenerationRequest) -> Generation:
    """One of three steps. The last token of a step that ends at the separator has the separator, and text before it."""
    texts, ending = [request.author, f" {request.step}", " é."], "end" if request.step == 2 else "separator"
    text = "".join(texts)
    texts[-1] += request.separator if ending == "separator" else ""
    return Generation(text, ending, Usage(10, 3), tokens=tokens_of(request, *texts))


def calling(request: GenerationRequest) -> Generation:
    """A step of text, then one that calls a tool after some text."""
    if request.step == 0:
        return Generation("one", "separator", Usage(10, 1), tokens=tokens_of(request, "one", request.separator))
    calls = (ToolCall("1", "add", "{}"),)
    return Generation("I add", "end", Usage(10, 1), calls=calls, tokens=tokens_of(request, "I", " add"))


def joined(tokens: list[dict[str, Any]]) -> str:
    return "".join(token["token"] for token in tokens)


async def test_a_message_has_its_tokens_with_the_models_that_wrote_them(endpoint: Any) -> None:
    async with endpoint(written) as served:
        answer = (await served.chat(logprobs=True, top_logprobs=2)).json()
    (choice,) = answer["choices"]
    assert joined(choice["logprobs"]["content"]) == choice["message"]["content"]
    assert choice["logprobs"]["refusal"] is None
    authors = [token["arbiter"]["author"] for token in choice["logprobs"]["content"]]
    assert authors == ["draft"] * 3 + ["target"] * 3 + ["draft"] * 3
    assert choice["logprobs"]["content"][5] == {
        "token": " é.\n\n",
        "logprob": -0.5,
        "bytes": [32, 195, 169, 46, 10, 10],
        "top_logprobs": [
            {"token": "世", "logprob": -1.0, "bytes": [228, 184, 150]},
            {"token": "\ufffd", "logprob": -1.0, "bytes": None},
        ],
        "arbiter": {"author": "target"},
    }


@pytest.mark.parametrize("fields", [{}, {"logprobs": False}, {"logprobs": None, "top_logprobs": 0}])
async def test_an_answer_has_no_tokens_unless_they_are_requested(endpoint: Any, fields: dict[str, Any]) -> None:
    async with endpoint(written) as served:
        answer = (await served.chat(**fields)).json()
    assert answer["choices"][0]["logprobs"] is None
    assert "verification_off" not in answer["arbiter"]


@pytest.mark.parametrize("fields", [{}, {"stop": "1 é"}, {"max_tokens": 4}, {"n": 2, "temperature": 1.0}])
async def test_the_tokens_of_a_stream_are_those_of_the_whole_answer(endpoint: Any, fields: dict[str, Any]) -> None:
    fields = {"logprobs": True, "top_logprobs": 1, **fields}
    async with endpoint(written) as served:
        whole = (await served.chat(**fields)).json()["choices"]
        events = await served.chat_events(**fields)
    parts = [choice for event in events for choice in event.get("choices", ())]
    for choice in whole:
        own = [part for part in parts if part["index"] == choice["index"]]
        tokens = [token for part in own if part["logprobs"] for token in part["logprobs"]["content"]]
        assert tokens == choice["logprobs"]["content"]
        assert joined(tokens) == choice["message"]["content"] == "".join(one["delta"].get("content", "") for one in own)


async def test_a_chunk_has_the_tokens_that_end_in_its_text(endpoint: Any) -> None:
    async with endpoint(written) as served:
        events = await served.chat_events(logprobs=True)
    chunks = [event["choices"][0] for event in events if event.get("choices")]
    assert [joined(one["logprobs"]["content"]) if one["logprobs"] else None for one in chunks] == [
        None,
        "draft 0",
        " é.\n\ntarget 1",
        " é.\n\ndraft 2 é.",
        None,
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_has_no_tokens(endpoint: Any, stream: bool) -> None:
    async with endpoint(calling) as served:
        whole = (await served.chat(logprobs=True, tools=[TOOL])).json()["choices"][0]
        events = await served.chat_events(logprobs=True, tools=[TOOL])
    streamed = [event["choices"][0]["logprobs"] for event in events if event.get("choices")]
    tokens = [token for one in streamed if one for token in one["content"]] if stream else whole["logprobs"]["content"]
    assert whole["message"]["tool_calls"]
    assert joined(tokens) == whole["message"]["content"] == "one\n\nI add"


@pytest.mark.parametrize(("count", "tops"), [(0, None), (1, {"世": -1.0})])
async def test_a_completion_has_its_tokens_with_their_offsets(
    endpoint: Any, count: int, tops: dict[str, float] | None
) -> None:
    async with endpoint(written) as served:
        (choice,) = (await served.post("completions", prompt="q", logprobs=count)).json()["choices"]
        events = await served.events("completions", prompt="q", logprobs=count)
    text, found = choice["text"], choice["logprobs"]
    assert "".join(found["tokens"]) == text
    assert all(text[at:].startswith(token) for token, at in zip(found["tokens"], found["text_offset"], strict=True))
    assert found["token_logprobs"] == [-0.5] * 9
    assert found["arbiter"]["authors"] == ["draft"] * 3 + ["target"] * 3 + ["draft"] * 3
    expected = tops and [{**tops, token: -0.5} for token in found["tokens"]]
    assert found["top_logprobs"] == expected
    parts = [event["choices"][0]["logprobs"] for event in events if event.get("choices")]
    assert [at for part in parts if part for at in part["text_offset"]] == found["text_offset"]
    assert [token for part in parts if part for token in part["tokens"]] == found["tokens"]


async def test_a_response_has_its_tokens_in_its_text_and_in_each_event_of_it(endpoint: Any) -> None:
    async with endpoint(written) as served:
        answer = (await served.post("responses", input="q", include=INCLUDE, top_logprobs=1)).json()
        events = await served.events("responses", input="q", include=INCLUDE, top_logprobs=1)
    (part,) = answer["output"][0]["content"]
    assert joined(part["logprobs"]) == part["text"]
    assert (len(part["logprobs"][0]["top_logprobs"]), answer["top_logprobs"]) == (1, 1)
    deltas = [event["logprobs"] for event in events if event["type"] == "response.output_text.delta"]
    assert [token for delta in deltas for token in delta] == part["logprobs"]
    done = {event["type"]: event for event in events}
    assert done["response.output_text.done"]["logprobs"] == part["logprobs"]
    assert done["response.content_part.done"]["part"] == part
    assert done["response.completed"]["response"]["output"][0]["content"] == [part]


@pytest.mark.parametrize(
    "fields", [{}, {"include": ["reasoning.encrypted_content"]}, {"include": [], "top_logprobs": 0}]
)
async def test_a_response_has_no_tokens_unless_they_are_included(endpoint: Any, fields: dict[str, Any]) -> None:
    async with endpoint(written) as served:
        answer = (await served.post("responses", input="q", **fields)).json()
    assert answer["output"][0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        ("chat/completions", {"logprobs": True, "top_logprobs": 50}, "top_logprobs", "<= 20"),
        ("chat/completions", {"logprobs": True, "top_logprobs": -1}, "top_logprobs", ">= 0"),
        ("chat/completions", {"top_logprobs": 3}, "top_logprobs", "requires logprobs: true"),
        ("chat/completions", {"logprobs": False, "top_logprobs": 3}, "top_logprobs", "requires logprobs: true"),
        ("chat/completions", {"logprobs": 3}, "logprobs", "Expected `bool | null`"),
        ("chat/completions", {"presence_penalty": 2.01}, "presence_penalty", "<= 2"),
        ("chat/completions", {"frequency_penalty": -3}, "frequency_penalty", ">= -2"),
        ("chat/completions", {"frequency_penalty": "much"}, "frequency_penalty", "Expected `float | null`"),
        ("completions", {"logprobs": 21}, "logprobs", "<= 20"),
        ("completions", {"logprobs": True}, "logprobs", "Expected `int | null`"),
        ("completions", {"presence_penalty": 9}, "presence_penalty", "<= 2"),
        ("responses", {"top_logprobs": 2}, "top_logprobs", 'requires include: ["message.output_text.logprobs"]'),
        ("responses", {"include": INCLUDE, "top_logprobs": 21}, "top_logprobs", "<= 20"),
        ("responses", {"include": ["file_search_call.results"]}, "include[0]", "file_search_call.results"),
    ],
)
async def test_what_is_out_of_range_is_refused_by_name(
    endpoint: Any, path: str, body: dict[str, Any], param: str, message: str
) -> None:
    asked = {"chat/completions": {"messages": [{"role": "user", "content": "q"}]}, "completions": {"prompt": "q"}}
    async with endpoint(written) as served:
        refused = await served.post(path, **asked.get(path, {"input": "q"}), **body)
        assert served.models.asked("draft") == 0
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
    assert message in error["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_returns_no_tokens_is_an_error_and_no_null(endpoint: Any, stream: bool) -> None:
    async with endpoint() as served:  # its models write steps without tokens
        refused = await served.chat(logprobs=True, stream=stream)
        assert (await served.chat()).status_code == 200
    assert refused.status_code == 502
    assert "the draft model returned no log-probabilities" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [("chat/completions", {"messages": [{"role": "user", "content": "q"}]}), ("completions", {"prompt": "q"})],
)
async def test_penalties_go_to_the_models_and_switch_verification_off(
    endpoint: Any, path: str, fields: dict[str, Any]
) -> None:
    seen: list[GenerationRequest] = []

    def write(request: GenerationRequest) -> Generation:
        seen.append(request)
        return written(request)

    async with endpoint(write) as served:
        answer = (await served.post(path, **fields, presence_penalty=1, frequency_penalty=-0.5)).json()
    assert {(one.author, one.presence_penalty, one.frequency_penalty) for one in seen} == {
        ("draft", 1.0, -0.5),
        ("target", 1.0, -0.5),
    }
    report = answer.get("arbiter") or answer["choices"][0]["arbiter"]
    assert report["verification_off"] == ["presence_penalty", "frequency_penalty"]


@pytest.mark.parametrize(
    ("fields", "config", "off"),
    [
        ({"logprobs": True}, {}, ["logprobs"]),
        ({"logprobs": True, "presence_penalty": 0.5}, {}, ["presence_penalty", "logprobs"]),
        ({"presence_penalty": 0}, {}, None),
        ({"presence_penalty": 0.5}, {"verify": "off"}, None),  # no draft would be verified anyway
        ({"presence_penalty": 0.5, "temperature": 0.5}, {}, None),
        ({"presence_penalty": 0.5, "model": "arbiter:target"}, {}, None),
    ],
)
async def test_an_answer_says_what_switched_verification_off(
    endpoint: Any, fields: dict[str, Any], config: dict[str, Any], off: list[str] | None
) -> None:
    body = {"model": "arbiter", "messages": [{"role": "user", "content": "q"}], **fields}
    async with endpoint(written, config=config) as served:
        whole = (await served.client.post("http://arbiter/v1/chat/completions", json=body)).json()
    assert whole["arbiter"].get("verification_off") == off


def thinking(request: GenerationRequest) -> Generation:
    """A thought of two steps, and an answer that begins in the step in which the thought ends."""
    texts = [("<think>Hm", ".\n\n"), ("So", ".</think>\n", "\nI", " say"), (" two", ".")][request.step]
    text = "".join(texts)
    ending = "end" if request.step == 2 else "separator"
    if ending == "separator" and not text.endswith(request.separator):
        texts = (*texts, request.separator)
    text = "".join(texts).removesuffix(request.separator if ending == "separator" else "")
    return Generation(text, ending, Usage(10, 3), tokens=tokens_of(request, *texts))


@pytest.mark.parametrize(("chosen", "content"), [("separate", "I say\n\n two."), ("inline", None)])
async def test_tokens_are_those_of_the_content_without_its_thought(
    endpoint: Any, chosen: str, content: str | None
) -> None:
    fields: dict[str, Any] = {"arbiter": {"reasoning": chosen}}
    async with endpoint(thinking) as served:
        (choice,) = (await served.chat(logprobs=True, **fields)).json()["choices"]
        events = await served.chat_events(logprobs=True, **fields)
        answer = (await served.post("responses", input="q", include=INCLUDE, **fields)).json()
        response_events = await served.events("responses", input="q", include=INCLUDE, **fields)
    text = choice["message"]["content"]
    assert text == (content or "<think>Hm.\n\nSo.</think>\n\nI say\n\n two.")
    assert joined(choice["logprobs"]["content"]) == text
    streamed = [event["choices"][0]["logprobs"] for event in events if event.get("choices")]
    assert [token for part in streamed if part for token in part["content"]] == choice["logprobs"]["content"]
    (part,) = answer["output"][-1]["content"]
    assert joined(part["logprobs"]) == part["text"] == text
    deltas = [event["logprobs"] for event in response_events if event["type"] == "response.output_text.delta"]
    assert [token for delta in deltas for token in delta] == part["logprobs"]
