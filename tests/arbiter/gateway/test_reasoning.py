"""Thoughts at the endpoint: in fields and items of their own, streamed and not, and back in histories."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle
from arbiter.protocols.records import StopReason, Usage
from arbiter.protocols.tools import Effort, ToolCall

pytestmark = pytest.mark.asyncio

SEPARATE: dict[str, Any] = {"serve": {"reasoning": "separate"}}
ADD: dict[str, Any] = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
THOUGHT = ("<think>\n12+30", "is 42\n</think>", "It is 42.", "Really.")
IN_ITEMS = [("reasoning", "12+30\n\nis 42"), ("message", "It is 42.\n\nReally.")]

Write = Callable[[GenerationRequest], Generation]


def steps(*texts: str, last: StopReason = "end", calls: tuple[ToolCall, ...] = ()) -> Write:
    """Models whose answer has these steps, each with as many tokens as words. ``last`` says why it ends."""

    def write(request: GenerationRequest) -> Generation:
        text, is_last = texts[request.step], request.step + 1 == len(texts)
        usage = Usage(10, len(text.split()))
        return Generation(text, last if is_last else "separator", usage, calls=calls if is_last else ())

    return write


class Thinker:
    """A model that says that it thinks."""

    opens_thought = False
    thinks = True
    efforts: Mapping[Effort, bool] | None = {"none": False, "medium": False}

    def __init__(self, inner: Generator) -> None:
        self._inner = inner

    async def generate(self, request: GenerationRequest) -> Generation:
        return await self._inner.generate(request)


class Opened(Thinker):
    """A model whose prompt opens a thought, unless none is requested."""

    opens_thought = True
    efforts = {"none": False, "high": True}  # noqa: RUF012 - never changed


class Plain(Thinker):
    """A model that says that it does not think."""

    thinks = False
    efforts = {}  # noqa: RUF012 - never changed


def of_kinds(draft: type[Thinker], target: type[Thinker]) -> Callable[..., Arbiter]:
    """An Arbiter whose models say how they think."""

    def opened(config: Config, *, models: Models, out: Any) -> Arbiter:
        handles = [
            ModelHandle(kind(handle.port))
            for kind, handle in ((draft, models.draft), (target, models.target))
            if handle
        ]
        return Arbiter(config, models=msgspec.structs.replace(models, draft=handles[0], target=handles[1]), out=out)

    return opened


def message_of(answer: Any) -> tuple[str | None, str | None, str]:
    """The thought, the content and the finish reason of an answer."""
    (choice,) = answer.json()["choices"]
    return choice["message"].get("reasoning_content"), choice["message"]["content"], choice["finish_reason"]


def streamed(events: list[dict[str, Any]], index: int = 0) -> tuple[str, str, str]:
    """The same, joined from the chunks of one choice. No chunk has both a thought and content."""
    choices = [choice for event in events for choice in event.get("choices", ()) if choice["index"] == index]
    deltas = [choice["delta"] for choice in choices]
    assert not any(delta.get("reasoning_content") and delta.get("content") for delta in deltas)
    reasoning, content = (
        "".join(delta.get(name) or "" for delta in deltas) for name in ("reasoning_content", "content")
    )
    return reasoning, content, choices[-1]["finish_reason"]


def texts_of(response: dict[str, Any]) -> list[tuple[str, str]]:
    """The items of an output, with their texts."""
    return [
        (item["type"], item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])
        for item in response["output"]
    ]


@pytest.mark.parametrize(
    ("write", "reasoning", "content", "reason"),
    [
        (steps(*THOUGHT), "12+30\n\nis 42", "It is 42.\n\nReally.", "stop"),
        (steps("<think>12+30 is 42</think>It is 42."), "12+30 is 42", "It is 42.", "stop"),
        (steps("<think>", "</think>", "It is 42."), None, "It is 42.", "stop"),
        (steps("It is <think>.", "</think>"), None, "It is <think>.\n\n</think>", "stop"),
        (steps("<think>a", "</think>b", "</think>c"), "a", "b\n\n</think>c", "stop"),
        (steps("<think>12+30", "is </thi", last="limit"), "12+30\n\nis </thi", None, "length"),
        (steps("<think>12+30 is 42"), "12+30 is 42", None, "stop"),
    ],
)
async def test_a_thought_is_no_content(
    endpoint: Any, write: Write, reasoning: str | None, content: str | None, reason: str
) -> None:
    async with endpoint(write, config=SEPARATE) as served:
        whole = await served.chat()
        events = await served.chat_events()
    assert message_of(whole) == (reasoning, content, reason)
    assert streamed(events) == (reasoning or "", content or "", reason)


async def test_each_of_several_answers_has_its_own_thought(endpoint: Any) -> None:
    async with endpoint(steps(*THOUGHT), config=SEPARATE) as served:
        whole = await served.chat(n=2, temperature=1)
        events = await served.chat_events(n=2, temperature=1)
    messages = [choice["message"] for choice in whole.json()["choices"]]
    assert [(one["reasoning_content"], one["content"]) for one in messages] == [
        ("12+30\n\nis 42", "It is 42.\n\nReally.")
    ] * 2
    assert [streamed(events, index) for index in (0, 1)] == [("12+30\n\nis 42", "It is 42.\n\nReally.", "stop")] * 2


@pytest.mark.parametrize(
    ("stop", "reasoning", "content"),
    [("30", "12+", None), ("42\n</", "12+30\n\nis ", None), ("It", "12+30\n\nis 42", "")],
)
async def test_a_stop_text_ends_an_answer_within_its_thought_too(
    endpoint: Any, stop: str, reasoning: str, content: str | None
) -> None:
    async with endpoint(steps(*THOUGHT), config=SEPARATE) as served:
        whole = await served.chat(stop=stop)
        events = await served.chat_events(stop=stop)
    assert message_of(whole) == (reasoning, content, "stop")
    assert streamed(events) == (reasoning, content or "", "stop")


async def test_a_call_follows_the_thought(endpoint: Any) -> None:
    write = steps("<think>I add.", "</think>\n\n", calls=(ToolCall("c1", "add", '{"a": 1}'),))
    async with endpoint(write, config=SEPARATE) as served:
        tools = [{"type": "function", "function": ADD}]
        whole = await served.chat(tools=tools)
        events = await served.chat_events(tools=tools)
        response = await served.post("responses", input="q", tools=[{"type": "function", **ADD}])
        stream = await served.events("responses", input="q", tools=[{"type": "function", **ADD}])
    assert message_of(whole) == ("I add.", None, "tool_calls")
    assert streamed(events) == ("I add.", "", "tool_calls")
    calls = [
        call
        for event in events
        for choice in event.get("choices", ())
        for call in choice["delta"].get("tool_calls", ())
    ]
    assert [(call["index"], call["function"]["arguments"]) for call in calls] == [(0, '{"a": 1}')]
    assert texts_of(response.json()) == [("reasoning", "I add."), ("function_call", '{"a": 1}')]
    assert texts_of(stream[-1]["response"]) == texts_of(response.json())


async def test_a_response_has_the_thought_as_an_item_of_its_own(endpoint: Any) -> None:
    async with endpoint(steps(*THOUGHT), config=SEPARATE) as served:
        response = (await served.post("responses", input="q", reasoning={"summary": "auto"})).json()
    assert texts_of(response) == IN_ITEMS
    item = response["output"][0]
    assert (item["id"][:3], item["status"], item["summary"], item["encrypted_content"]) == (
        "rs_",
        "completed",
        [],
        None,
    )
    assert response["reasoning"]["summary"] == "auto"


@pytest.mark.parametrize("steps_wanted", [None, True])
async def test_the_events_of_a_thought_precede_those_of_the_message(endpoint: Any, steps_wanted: bool | None) -> None:
    async with endpoint(steps("<think>", *THOUGHT[1:]), config=SEPARATE) as served:
        events = await served.events("responses", input="q", arbiter={"steps": steps_wanted})
    kinds = [event["type"].removeprefix("response.") for event in events]
    shown = [kind for at, kind in enumerate(kinds) if kind != (kinds[at - 1] if at else "")]
    assert shown == [
        *("created", "in_progress"),
        *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done"),
        *("content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done", "completed"),
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for name, text, index in (("reasoning", "is 42", 0), ("output", "It is 42.\n\nReally.", 1)):
        told = [event for event in events if event["type"].startswith(f"response.{name}_text")]
        assert {event["output_index"] for event in told} == {index}
        assert "".join(event.get("delta", "") for event in told) == told[-1]["text"] == text
    assert sum("step" in event.get("arbiter", {}) for event in events) == (4 if steps_wanted else 0)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]


async def test_a_response_that_is_cut_within_its_thought_has_nothing_else(endpoint: Any) -> None:
    async with endpoint(steps("<think>12+30", "is", last="limit"), config=SEPARATE) as served:
        response = (await served.post("responses", input="q")).json()
        events = await served.events("responses", input="q")
    assert (response["status"], texts_of(response)) == ("incomplete", [("reasoning", "12+30\n\nis")])
    assert response["output"][0]["status"] == "incomplete"
    assert texts_of(events[-1]["response"]) == texts_of(response)
    assert not any("output_text" in event["type"] for event in events)


async def test_without_a_thought_the_message_is_the_first_item(endpoint: Any) -> None:
    async with endpoint(steps("It is 42."), config=SEPARATE) as served:
        events = await served.events("responses", input="q", arbiter={"steps": True})
    assert texts_of(events[-1]["response"]) == [("message", "It is 42.")]
    assert {event.get("output_index", 0) for event in events} == {0}


INLINE = "<think>\n12+30\n\nis 42\n</think>\n\nIt is 42.\n\nReally."


@pytest.mark.parametrize(
    ("configured", "requested", "models", "separate"),
    [
        (None, None, (Plain, Plain), False),
        (None, None, (Thinker, Thinker), True),
        (None, None, (Plain, Thinker), True),
        (None, "inline", (Thinker, Thinker), False),
        ("inline", None, (Thinker, Thinker), False),
        ("inline", "separate", (Plain, Plain), True),
        ("separate", None, (Plain, Plain), True),
        ("separate", "inline", (Plain, Plain), False),
    ],
)
async def test_the_request_decides_then_the_configuration_then_the_family(
    endpoint: Any, configured: str | None, requested: str | None, models: Any, separate: bool
) -> None:
    config = {"serve": {"reasoning": configured} if configured else {}}
    async with endpoint(steps(*THOUGHT), config=config, kind=of_kinds(*models)) as served:
        answer = await served.chat(arbiter={"reasoning": requested})
    expected = ("12+30\n\nis 42", "It is 42.\n\nReally.") if separate else (None, INLINE)
    assert message_of(answer)[:2] == expected


@pytest.mark.parametrize(
    ("effort", "reasoning", "content"),
    [(None, "12+30", "42"), ("high", "12+30", "42"), ("none", None, "12+30\n</think>\n\n42")],
)
async def test_a_prompt_that_opens_the_thought_has_the_answer_begin_within_it(
    endpoint: Any, effort: str | None, reasoning: str | None, content: str
) -> None:
    async with endpoint(steps("12+30\n</think>", "42"), kind=of_kinds(Opened, Opened)) as served:
        whole = await served.chat(reasoning_effort=effort)
        events = await served.chat_events(reasoning_effort=effort)
    assert message_of(whole)[:2] == (reasoning, content)
    assert streamed(events)[:2] == (reasoning or "", content)


async def test_the_effort_reaches_the_models(endpoint: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        rules = request.transcript.rules
        return Generation(str(rules and rules.effort), "end", Usage(1, 1))

    async with endpoint(write, kind=of_kinds(Thinker, Thinker)) as served:
        chat = await served.chat(reasoning_effort="medium")
        response = await served.post("responses", input="q", reasoning={"effort": "none"})
        plain = await served.chat()
    assert message_of(chat)[1] == "medium"
    assert texts_of(response.json()) == [("message", "none")]
    assert response.json()["reasoning"]["effort"] == "none"
    assert message_of(plain)[1] == "None"


@pytest.mark.parametrize(
    ("models", "effort", "way"),
    [
        ((Thinker, Thinker), "low", "can request only none, medium: send one of these, or leave it out"),
        ((Thinker, Opened), "medium", "can request only none: send one of these, or leave it out"),
        ((Plain, Thinker), "none", "request no effort: leave it out"),
    ],
)
async def test_an_effort_that_no_prompt_can_request_is_refused_with_those_that_can(
    endpoint: Any, models: Any, effort: str, way: str
) -> None:
    async with endpoint(kind=of_kinds(*models)) as served:
        chat = await served.chat(reasoning_effort=effort)
        response = await served.post("responses", input="q", reasoning={"effort": effort})
    for answer, param in ((chat, "reasoning_effort"), (response, "reasoning.effort")):
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param)
        assert error["message"].startswith(f"{param}: {effort!r} cannot be honoured")
        assert error["message"].endswith(way)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"reasoning_effort": "enormous"}, "reasoning_effort"),
        ("chat/completions", {"reasoning": {"effort": "low"}}, "reasoning"),
        ("responses", {"reasoning": {"effort": 3}}, "reasoning.effort"),
        ("responses", {"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ("responses", {"reasoning": {"generate_summary": "concise"}}, "reasoning.generate_summary"),
        ("responses", {"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ("responses", {"reasoning": "high"}, "reasoning"),
        ("responses", {"arbiter": {"reasoning": "apart"}}, "arbiter.reasoning"),
    ],
)
async def test_a_wish_that_nothing_honours_is_refused_by_name(endpoint: Any, path: str, body: Any, param: str) -> None:
    async with endpoint(kind=of_kinds(Thinker, Thinker)) as served:
        question = {"input": "q"} if path == "responses" else {"messages": [{"role": "user", "content": "q"}]}
        answer = await served.post(path, **question, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "I add."}],
}
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "1"}


@pytest.mark.parametrize(
    ("items", "thoughts"),
    [
        ([REASONING, CALL, RESULT], ["I add.", ""]),
        (
            [{**REASONING, "content": None, "summary": [{"type": "summary_text", "text": "Adds."}]}, CALL, RESULT],
            ["Adds.", ""],
        ),
        ([{**REASONING, "content": [], "encrypted_content": "x"}, CALL, RESULT], ["", ""]),
        (
            [REASONING, {"role": "assistant", "content": "Wait."}, {**REASONING, "id": "rs_2"}, CALL, RESULT],
            ["I add.\n\nI add.", ""],
        ),
        ([REASONING, {**REASONING, "id": "rs_2"}, CALL, RESULT], ["I add.\n\nI add.", ""]),
        ([REASONING, {"role": "user", "content": "Go on."}], []),
    ],
)
async def test_a_reasoning_item_of_a_history_is_the_thought_of_its_turn(
    endpoint: Any, items: list[Any], thoughts: list[str]
) -> None:
    seen: list[list[str]] = []

    def write(request: GenerationRequest) -> Generation:
        seen.append([turn.thought for turn in request.transcript.after])
        return Generation("done", "end", Usage(1, 1))

    async with endpoint(write) as served:
        answer = await served.post("responses", input=[{"role": "user", "content": "q"}, *items])
    assert (answer.status_code, seen[0]) == (200, thoughts)


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [
        (("<think> a b", "c d </think>", "e f g"), 6),
        (("<think> a b", "c </think> d", "e"), 3),
        (("<think> a b", "c d"), 5),
        (("a b", "<think> c"), 0),
        (("", "a"), 0),
    ],
)
async def test_tokens_of_thought_are_those_of_steps_that_are_wholly_thought(
    endpoint: Any, texts: tuple[str, ...], tokens: int
) -> None:
    async with endpoint(steps(*texts), kind=of_kinds(Thinker, Thinker)) as served:
        chat = (await served.chat()).json()["usage"]["completion_tokens_details"]
        inline = (await served.chat(arbiter={"reasoning": "inline"})).json()["usage"]["completion_tokens_details"]
        response = (await served.post("responses", input="q")).json()["usage"]["output_tokens_details"]
        text = (await served.post("completions", prompt="q")).json()["usage"]["completion_tokens_details"]
    assert {usage["reasoning_tokens"] for usage in (chat, inline, response, text)} == {tokens}


async def test_the_limit_of_completion_tokens_includes_the_thought(endpoint: Any) -> None:
    async with endpoint(steps("<think>a b c", "d e f", "g </think> h"), config=SEPARATE) as served:
        answer = await served.chat(max_completion_tokens=6)
    assert message_of(answer) == ("a b c\n\nd e f", None, "length")


async def test_a_plain_completion_keeps_the_thought_in_its_text(endpoint: Any) -> None:
    async with endpoint(steps(*THOUGHT), config=SEPARATE) as served:
        answer = await served.post("completions", prompt="q")
    assert answer.json()["choices"][0]["text"] == INLINE
