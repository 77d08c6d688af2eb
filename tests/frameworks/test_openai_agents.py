"""openai-agents at the endpoint, by both of its models for OpenAI."""

# pyright: basic, reportMissingImports=false
# it is not in the development extra, since its pins are those of an application of its own

import asyncio

import pytest

pytest.importorskip("agents")
from agents import (
    Agent,
    ModelBehaviorError,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI, BadRequestError

both = pytest.mark.parametrize("kind", [OpenAIChatCompletionsModel, OpenAIResponsesModel])


@pytest.fixture
def an_agent(base_url: str):
    """Makes an agent; to be called where its event loop runs."""
    set_tracing_disabled(True)

    def build(kind, model: str = "arbiter", **fields) -> Agent:
        client = AsyncOpenAI(base_url=base_url, api_key="none")
        return Agent(name="solver", model=kind(model=model, openai_client=client), **fields)

    return build


@both
@pytest.mark.parametrize("model", ["arbiter", "arbiter:router@0.4"])
def test_a_run_has_the_answer_and_its_tokens_whole_and_in_parts(
    kind, model: str, an_agent, question: str, the_answer: str
) -> None:
    async def body() -> None:
        whole = await Runner.run(an_agent(kind, model), question)
        assert the_answer in whole.final_output
        assert whole.context_wrapper.usage.total_tokens > 0
        agent = an_agent(kind, model, model_settings=ModelSettings(include_usage=True))
        streamed = Runner.run_streamed(agent, question)
        events = [event async for event in streamed.stream_events()]
        deltas = [
            event.data.delta
            for event in events
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        assert len(deltas) == 3
        assert "".join(deltas) == streamed.final_output == whole.final_output
        assert streamed.context_wrapper.usage.total_tokens == whole.context_wrapper.usage.total_tokens

    asyncio.run(body())


@both
def test_a_run_goes_on_with_a_conversation_its_instructions_and_settings(kind, an_agent, question: str) -> None:
    async def body() -> None:
        settings = ModelSettings(temperature=0.0, top_p=1.0, max_tokens=200, extra_body={"arbiter": {"deadline": 60}})
        agent = an_agent(kind, instructions="Be brief.", model_settings=settings)
        first = await Runner.run(agent, question)
        second = await Runner.run(agent, [*first.to_input_list(), {"role": "user", "content": "Compute 12+30."}])
        assert second.final_output
        assert len(second.to_input_list()) == 4

    asyncio.run(body())


def test_an_answer_that_a_limit_cut_is_told_as_it_is_or_is_an_error(an_agent, question: str) -> None:
    async def ask(kind) -> str:
        settings = ModelSettings(extra_body={"arbiter": {"max_steps": 2}})
        return (await Runner.run(an_agent(kind, model_settings=settings), question)).final_output

    assert asyncio.run(ask(OpenAIChatCompletionsModel)).count("\n\n") == 1
    with pytest.raises(ModelBehaviorError, match="incomplete"):
        asyncio.run(ask(OpenAIResponsesModel))


@both
def test_a_tool_is_refused_where_prompts_cannot_offer_it(kind, an_agent, question: str) -> None:
    @function_tool
    def add(left: int, right: int) -> int:
        return left + right

    async def body() -> None:
        await Runner.run(an_agent(kind, tools=[add]), question)

    with pytest.raises(BadRequestError) as refused:
        asyncio.run(body())
    assert "cannot be offered" in str(refused.value)


@both
def test_an_output_type_is_a_schema_that_the_answer_fits(kind, an_agent, question: str, total) -> None:
    async def body() -> None:
        agent = an_agent(kind, output_type=total, instructions="Be brief.")
        whole = await Runner.run(agent, question)
        assert isinstance(whole.final_output, total)
        streamed = Runner.run_streamed(agent, question)
        assert [event async for event in streamed.stream_events()]
        assert streamed.final_output == whole.final_output

    asyncio.run(body())
