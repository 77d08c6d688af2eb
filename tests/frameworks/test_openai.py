"""The SDK of OpenAI, of whichever version is installed, at an endpoint over the pocket models."""

import asyncio
from collections.abc import Generator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI


@pytest.fixture
def client(base_url: str) -> Generator[Any]:
    with OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


def an_async_client(base_url: str) -> Any:
    return AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)


@pytest.fixture
def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def test_a_chat_completion_tells_its_text_its_end_and_its_tokens(client: Any, messages: Any, the_answer: str) -> None:
    answer = client.chat.completions.create(model="arbiter", messages=messages)
    (choice,), usage = answer.choices, answer.usage
    assert the_answer in choice.message.content
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


@pytest.mark.parametrize("model", ["arbiter", "arbiter:target", "arbiter:router@0.4"])
def test_the_chunks_of_a_chat_are_its_steps_and_together_its_text(client: Any, messages: Any, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=messages)
    stream = client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(texts) == 3
    assert "".join(texts) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage == whole.usage


def test_the_helper_for_streams_puts_the_chunks_together(client: Any, messages: Any, the_answer: str) -> None:
    with client.chat.completions.stream(model="arbiter", messages=messages) as stream:
        assert the_answer in stream.get_final_completion().choices[0].message.content


def test_completions_answer_each_of_several_prompts(client: Any, question: str, the_answer: str) -> None:
    answer = client.completions.create(model="arbiter", prompt=[question, "Compute 12+30."])
    assert [the_answer in choice.text for choice in answer.choices] == [True, False]
    assert r"\boxed{42}" in answer.choices[1].text


def test_the_chunks_of_a_completion_are_its_text(client: Any, question: str) -> None:
    whole = client.completions.create(model="arbiter", prompt=question)
    chunks = list(client.completions.create(model="arbiter", prompt=question, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


def test_a_response_tells_its_text_and_its_tokens(client: Any, question: str, the_answer: str) -> None:
    answer = client.responses.create(model="arbiter", instructions=None, input=question)
    assert the_answer in answer.output_text
    assert answer.status == "completed"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0


def test_the_events_of_a_response_come_in_the_order_that_the_sdk_expects(
    client: Any, question: str, the_answer: str
) -> None:
    with client.responses.stream(model="arbiter:router@0.4", input=question) as stream:
        kinds = [event.type.removeprefix("response.") for event in stream]
        final = stream.get_final_response()
    assert the_answer in final.output_text
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[4:-4] == ["output_text.delta"] * 3
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]


def test_the_asynchronous_client_asks_all_three_ways_whole_and_in_parts(
    base_url: str, messages: Any, question: str, the_answer: str
) -> None:
    async def ask() -> list[str]:
        async with an_async_client(base_url) as client:
            chat, prompt = client.chat.completions, {"model": "arbiter", "prompt": question}
            asked: Any = [
                chat.create(model="arbiter", messages=messages),
                client.completions.create(**prompt),
                client.responses.create(model="arbiter", input=question),
            ]
            whole: list[Any] = await asyncio.gather(*asked)
            parts = [c.choices[0] async for c in await chat.create(model="arbiter", messages=messages, stream=True)]
            texts = [c.choices[0].text async for c in await client.completions.create(**prompt, stream=True)]
            events = await client.responses.create(model="arbiter", input=question, stream=True)
            deltas = [event.delta async for event in events if event.type == "response.output_text.delta"]
        return [
            whole[0].choices[0].message.content,
            whole[1].choices[0].text,
            whole[2].output_text,
            "".join(part.delta.content or "" for part in parts),
            "".join(texts),
            "".join(deltas),
        ]

    answers = asyncio.run(ask())
    assert the_answer in answers[0]
    assert set(answers) == {answers[0]}


def test_the_first_answer_can_be_appended_for_a_second_turn(client: Any, messages: Any, question: str) -> None:
    last = {"role": "user", "content": "Compute 12+30."}
    chat, alone = client.chat.completions, client.chat.completions.create(model="arbiter", messages=[last])
    first = chat.create(model="arbiter", messages=messages).choices[0].message
    for turn in (first, first.model_dump()):
        second = chat.create(model="arbiter", messages=[*messages, turn, last])
        assert second.usage.prompt_tokens > alone.usage.prompt_tokens
    output = client.responses.create(model="arbiter", input=question).output
    for items in (output, [item.model_dump() for item in output]):
        second = client.responses.create(model="arbiter", input=[*messages, *items, last])
        assert second.usage.input_tokens > alone.usage.prompt_tokens


def test_the_models_are_the_operating_points(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "arbiter"
    assert {"arbiter:draft", "arbiter:target", "arbiter:router", "arbiter:rsd"} < set(names)
    assert client.models.retrieve("arbiter:router@0.4").id == "arbiter:router@0.4"


def test_each_author_is_known_by_the_step_records(client: Any, messages: Any) -> None:
    told = client.chat.completions.create(
        model="arbiter:target", messages=messages, extra_body={"arbiter": {"steps": True}}
    )
    assert [step["candidates"][step["chosen"]]["author"] for step in told.arbiter["steps"]] == ["target"] * 3


def test_what_is_asked_beside_the_question_is_honoured(client: Any, messages: Any) -> None:
    def ask(**options: Any) -> tuple[str, str]:
        (choice,) = client.chat.completions.create(model="arbiter", messages=messages, **options).choices
        return choice.message.content, choice.finish_reason

    whole, _ = ask()
    assert ask(max_tokens=5)[1] == "length"
    assert ask(stop=["\n\n"]) == (whole.partition("\n\n")[0], "stop")
    assert ask(temperature=1.5, seed=3) == ask(temperature=1.5, seed=3)


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_honoured_is_the_sdks_error_with_code_and_field(
    client: Any, messages: Any, question: str, stream: bool
) -> None:
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="arbiter", messages=messages, tools=tools, stream=stream)
    error = refused.value
    assert (error.status_code, error.code) == (400, "invalid_value")
    assert error.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="arbiter", prompt=question, best_of=2, stream=stream)
    assert refused.value.param == "best_of"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="arbiter", input=question, previous_response_id="resp_1", stream=stream)
    assert refused.value.param == "previous_response_id"


def test_an_unknown_model_is_not_found(base_url: str, client: Any, messages: Any) -> None:
    async def ask() -> None:
        async with an_async_client(base_url) as later:
            await later.chat.completions.create(model="gpt-4o", messages=messages)

    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="arbiter:nobody", messages=messages)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        asyncio.run(ask())


def test_raw_responses_have_status_headers_and_the_parsed_answer(client: Any, messages: Any, the_answer: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model="arbiter", messages=messages)
    assert (raw.status_code, raw.headers["content-type"]) == (200, "application/json")
    assert the_answer in raw.parse().choices[0].message.content
    with client.chat.completions.with_streaming_response.create(
        model="arbiter", messages=messages, stream=True
    ) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert [line for line in streamed.iter_lines() if line][-1] == "data: [DONE]"


@pytest.mark.parametrize("model", ["arbiter", "arbiter:target"])
def test_a_chat_is_parsed_into_a_class_whole_and_in_parts(client: Any, messages: Any, model: str, total: Any) -> None:
    (choice,) = client.chat.completions.parse(model=model, messages=messages, response_format=total).choices
    assert isinstance(choice.message.parsed, total)
    assert choice.finish_reason == "stop"
    with client.chat.completions.stream(model=model, messages=messages, response_format=total) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == choice.message.parsed


def test_a_response_is_parsed_into_a_class_whole_and_in_parts(client: Any, question: str, total: Any) -> None:
    response = client.responses.parse(model="arbiter", input=question, text_format=total)
    assert isinstance(response.output_parsed, total)
    with client.responses.stream(model="arbiter", input=question, text_format=total) as stream:
        assert stream.get_final_response().output_parsed == response.output_parsed


def test_a_schema_that_is_none_is_the_sdks_error_with_its_field(client: Any, messages: Any) -> None:
    chosen: Any = {"type": "json_schema", "json_schema": {"name": "total", "schema": {"type": "none"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="arbiter", messages=messages, response_format=chosen)
    assert refused.value.param == "response_format.json_schema.schema"
