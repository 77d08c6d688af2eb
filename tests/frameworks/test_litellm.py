"""litellm at the endpoint, through its provider for OpenAI."""

# pyright: basic, reportMissingImports=false
# it is not in the development extra, since its pins are those of an application of its own

import asyncio

import pytest

litellm = pytest.importorskip("litellm")

models = pytest.mark.parametrize("model", ["arbiter", "arbiter:router@0.4"])


@pytest.fixture
def endpoint(base_url: str) -> dict[str, str]:
    return {"api_base": base_url, "api_key": "none"}


@pytest.fixture
def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def texts(chunks) -> list[str]:
    """What chunks of a chat bring."""
    return [text for chunk in chunks if chunk.choices and (text := chunk.choices[0].delta.content)]


@models
def test_a_completion_has_the_answer_and_its_tokens_whole_and_in_parts(
    model: str, endpoint, messages, the_answer: str
) -> None:
    asked = {"model": f"openai/{model}", "messages": messages, **endpoint}
    whole = litellm.completion(**asked)
    assert the_answer in whole.choices[0].message.content
    chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
    assert len(texts(chunks)) == 3
    assert "".join(texts(chunks)) == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens > 0


def test_acompletion_has_the_answer_whole_and_in_parts(endpoint, messages, the_answer: str) -> None:
    async def body() -> None:
        asked = {"model": "openai/arbiter", "messages": messages, **endpoint}
        whole = await litellm.acompletion(**asked)
        stream = await litellm.acompletion(**asked, stream=True)
        assert the_answer in whole.choices[0].message.content
        assert "".join(texts([chunk async for chunk in stream])) == whole.choices[0].message.content

    asyncio.run(body())


@models
def test_a_text_completion_has_the_answer_whole_and_in_parts(
    model: str, endpoint, question: str, the_answer: str
) -> None:
    asked = {"model": f"text-completion-openai/{model}", "prompt": question, **endpoint}
    whole = litellm.text_completion(**asked).choices[0].text
    assert the_answer in whole
    assert "".join(chunk.choices[0].text or "" for chunk in litellm.text_completion(**asked, stream=True)) == whole


@models
def test_a_response_has_the_answer_whole_and_in_parts(model: str, endpoint, question: str, the_answer: str) -> None:
    asked = {"model": f"openai/{model}", "input": question, **endpoint}
    whole = litellm.responses(**asked).output[0].content[0].text
    assert the_answer in whole
    litellm.register_model({f"openai/{model}": {"litellm_provider": "openai", "mode": "chat"}})
    events = list(litellm.responses(**asked, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) == 3
    assert "".join(deltas) == whole


def test_the_first_answer_can_be_appended_for_a_second_turn(endpoint, messages) -> None:
    first = litellm.completion(model="openai/arbiter", messages=messages, **endpoint).choices[0].message
    last = {"role": "user", "content": "Compute 12+30."}
    alone = litellm.completion(model="openai/arbiter", messages=[last], **endpoint)
    for turn in (first, first.model_dump()):
        second = litellm.completion(model="openai/arbiter", messages=[*messages, turn, last], **endpoint)
        assert second.usage.prompt_tokens > alone.usage.prompt_tokens


def test_settings_are_honoured(endpoint, messages) -> None:
    def ask(**settings) -> str:
        answer = litellm.completion(model="openai/arbiter", messages=messages, **settings, **endpoint)
        return answer.choices[0].message.content

    first = ask().partition("\n\n")[0]
    assert ask(stop=["\n\n"]) == first
    assert ask(extra_body={"arbiter": {"max_steps": 1}}) == first
    assert ask(temperature=1.5, seed=3) == ask(temperature=1.5, seed=3)


def test_what_cannot_be_honoured_and_unknown_models_are_litellms_own_errors(endpoint, messages) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with pytest.raises(litellm.BadRequestError, match="cannot be offered"):
        litellm.completion(model="openai/arbiter", messages=messages, tools=tools, **endpoint)
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/arbiter:nobody", messages=messages, **endpoint)


@models
def test_a_structured_answer_fits_its_class(model: str, endpoint, messages, total) -> None:
    answer = litellm.completion(model=f"openai/{model}", messages=messages, response_format=total, **endpoint)
    assert total.model_validate_json(answer.choices[0].message.content)
