"""langchain-openai at the endpoint: chats, completions and responses."""

# pyright: basic, reportMissingImports=false
# it is not in the development extra, since its pins are those of an application of its own

import asyncio

import pytest

pytest.importorskip("langchain_openai")
from langchain_openai import ChatOpenAI, OpenAI
from openai import BadRequestError

MODELS = ["arbiter", "arbiter:router@0.4"]
apis = pytest.mark.parametrize("use_responses_api", [False, True], ids=["chat", "responses"])


@pytest.fixture
def endpoint(base_url: str) -> dict[str, str]:
    return {"base_url": base_url, "api_key": "none"}


@apis
@pytest.mark.parametrize("model", MODELS)
def test_a_chat_has_the_answer_and_its_tokens_whole_and_in_parts(
    model: str, use_responses_api: bool, endpoint, question: str, the_answer: str
) -> None:
    chat = ChatOpenAI(model=model, use_responses_api=use_responses_api, stream_usage=True, **endpoint)
    whole = chat.invoke(question)
    assert the_answer in whole.text
    chunks = list(chat.stream(question))
    parts = [chunk.text for chunk in chunks if chunk.text]
    assert len(parts) == 3
    assert "".join(parts) == whole.text
    assert sum(chunks[1:], chunks[0]).usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_completion_has_the_answer_whole_and_in_parts(model: str, endpoint, question: str, the_answer: str) -> None:
    completion = OpenAI(model=model, **endpoint)
    whole = completion.invoke(question)
    assert the_answer in whole
    assert "".join(completion.stream(question)) == whole


def test_batches_answer_each_question(endpoint, question: str, the_answer: str) -> None:
    questions = [question, "Compute 12+30."]
    chats = [ChatOpenAI(model="arbiter", use_responses_api=use, **endpoint) for use in (False, True)]

    async def later() -> list[str]:
        return [answer.text for chat in chats for answer in await chat.abatch(questions)]

    texts = [answer.text for chat in chats for answer in chat.batch(questions)] + asyncio.run(later())
    texts += OpenAI(model="arbiter", **endpoint).batch(questions)
    assert len(texts) == 10
    assert [text for text in texts[::2] if the_answer not in text] == []
    assert [text for text in texts[1::2] if r"\boxed{42}" not in text] == []


def test_settings_and_a_conversation_are_honoured(endpoint, question: str) -> None:
    def ask(**settings) -> str:
        return ChatOpenAI(model="arbiter", **settings, **endpoint).invoke(question).text

    first = ask().partition("\n\n")[0]
    assert ask(stop=["\n\n"]) == first
    assert ask(extra_body={"arbiter": {"max_steps": 1}}) == first
    assert ask(temperature=1.5, seed=3) == ask(temperature=1.5, seed=3)
    turns = [("system", "Be brief."), ("human", question), ("ai", first), ("human", "Compute 12+30.")]
    assert ChatOpenAI(model="arbiter", max_tokens=200, **endpoint).invoke(turns).text


@apis
def test_the_first_answer_can_be_appended_for_a_second_turn(use_responses_api: bool, endpoint, question: str) -> None:
    chat = ChatOpenAI(model="arbiter", use_responses_api=use_responses_api, **endpoint)
    chunks = list(chat.stream(question))
    for first in (chat.invoke(question), sum(chunks[1:], chunks[0])):
        alone = chat.invoke("Compute 12+30.")
        second = chat.invoke([("human", question), first, ("human", "Compute 12+30.")])
        assert second.usage_metadata["input_tokens"] > alone.usage_metadata["input_tokens"]


@apis
def test_tools_are_refused_where_prompts_cannot_offer_them(use_responses_api: bool, endpoint, question: str) -> None:
    def add(left: int, right: int) -> int:
        """Add two numbers."""
        return left + right

    chat = ChatOpenAI(model="arbiter", use_responses_api=use_responses_api, **endpoint).bind_tools([add])
    with pytest.raises(BadRequestError) as refused:
        chat.invoke(question)
    assert "cannot be offered" in str(refused.value)


@apis
def test_a_structured_output_is_a_schema_that_the_answer_fits(
    use_responses_api: bool, endpoint, question: str, total
) -> None:
    chat = ChatOpenAI(model="arbiter", use_responses_api=use_responses_api, **endpoint)
    structured = chat.with_structured_output(total, method="json_schema")
    answer = structured.invoke(question)
    assert isinstance(answer, total)
    assert list(structured.stream(question))[-1] == answer
