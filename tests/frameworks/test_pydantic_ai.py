"""pydantic-ai at the endpoint, by both of its models for OpenAI."""

# pyright: basic, reportMissingImports=false
# it is not in the development extra, since its pins are those of an application of its own

import asyncio

import pytest

pytest.importorskip("pydantic_ai")
from pydantic_ai import Agent, ModelHTTPError, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

both = pytest.mark.parametrize("kind", [OpenAIChatModel, OpenAIResponsesModel])


@pytest.fixture
def provider(base_url: str) -> OpenAIProvider:
    return OpenAIProvider(base_url=base_url, api_key="none")


@both
@pytest.mark.parametrize("model", ["arbiter", "arbiter:router@0.4"])
def test_an_agent_has_the_answer_and_its_tokens_whole_and_in_parts(
    kind, model: str, provider: OpenAIProvider, question: str, the_answer: str
) -> None:
    async def body() -> None:
        agent = Agent(kind(model, provider=provider))
        whole = await agent.run(question)
        assert the_answer in whole.output
        assert whole.usage.output_tokens > 0
        async with agent.run_stream(question) as stream:
            parts = [text async for text in stream.stream_text(delta=True, debounce_by=None)]
        assert len(parts) == 3
        assert "".join(parts) == whole.output
        assert stream.usage.output_tokens == whole.usage.output_tokens

    asyncio.run(body())


@both
def test_an_agent_goes_on_with_a_conversation_and_its_instructions(
    kind, provider: OpenAIProvider, question: str
) -> None:
    async def body() -> None:
        agent = Agent(kind("arbiter", provider=provider), instructions="Be brief.")
        first, alone = await agent.run(question), await agent.run("Compute 12+30.")
        second = await agent.run("Compute 12+30.", message_history=first.all_messages())
        assert second.usage.input_tokens > alone.usage.input_tokens
        assert len(second.all_messages()) == 4

    asyncio.run(body())


def test_settings_of_an_agent_are_honoured(provider: OpenAIProvider, question: str) -> None:
    async def ask(**settings) -> tuple[str, str]:
        answer = await Agent(OpenAIChatModel("arbiter", provider=provider), model_settings=settings).run(question)
        return answer.output, answer.response.finish_reason

    async def body() -> None:
        whole, _ = await ask()
        assert (await ask(extra_body={"arbiter": {"max_steps": 1}})) == (whole.partition("\n\n")[0], "length")
        assert (await ask(stop_sequences=["\n\n"])) == (whole.partition("\n\n")[0], "stop")
        assert await ask(temperature=1.5, seed=3) == await ask(temperature=1.5, seed=3)

    asyncio.run(body())


@both
def test_a_tool_is_refused_where_prompts_cannot_offer_it(kind, provider: OpenAIProvider, question: str) -> None:
    agent = Agent(kind("arbiter", provider=provider))

    @agent.tool_plain
    def add(left: int, right: int) -> int:
        return left + right

    with pytest.raises(ModelHTTPError) as refused:
        asyncio.run(agent.run(question))
    assert refused.value.status_code == 400
    assert "cannot be offered" in str(refused.value)


@both
@pytest.mark.parametrize("model", ["arbiter", "arbiter:target"])
def test_an_output_type_is_a_schema_that_the_answer_fits(
    kind, model: str, provider: OpenAIProvider, question: str, total
) -> None:
    async def body() -> None:
        agent = Agent(kind(model, provider=provider), output_type=NativeOutput(total))
        whole = await agent.run(question)
        assert isinstance(whole.output, total)
        async with agent.run_stream(question) as stream:
            assert await stream.get_output() == whole.output

    asyncio.run(body())
