"""Thoughts of scripted models in the frameworks: read from answers and streams, and sent back with the history."""

# pyright: basic, reportMissingImports=false
# they are not in the development extra, since their pins are those of an application of its own

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("agents")
pytest.importorskip("langchain_openai")
pytest.importorskip("openai")
pytest.importorskip("pydantic_ai")
import openai
from agents import Agent as OpenAIAgent
from agents import OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from agents import OpenAIResponsesModel as OpenAIAgentsResponsesModel
from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic_ai import Agent, ThinkingPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.backends.served.openai_library import http_library
from arbiter.config.config import parse
from arbiter.gateway.app import Gateway
from arbiter.gateway.inprocess_client import BASE, open_http_client
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.protocols.tools import ToolCall

CONFIG = {"models": {}, "run_type": "target", "serve": {"reasoning": "separate"}}
USAGE = Usage(10, 5)
CALL = "I need a sum.\n\nSo I add."
ANSWER = "The sum is known."


class Thinking(list):
    """Models that think before each call and each answer. Has the thoughts of the history of each question."""

    def write(self, request: GenerationRequest) -> Generation:
        transcript = request.transcript
        if request.step == 0:
            turns = (*transcript.turns, *transcript.after)
            self.append([turn.thought for turn in turns if turn.role == "assistant"])
        called = any(turn.role == "tool" for turn in transcript.after)
        if transcript.rules is None or called:
            texts = (f"<think>\n{ANSWER}", "</think>", "It is 42.")
            return Generation(texts[request.step], "end" if request.step == 2 else "separator", USAGE)
        if request.step == 0:
            return Generation("<think>\nI need a sum.", "separator", USAGE)
        call = ToolCall("", "add", '{"left": 12, "right": 30}')
        return Generation("So I add.\n</think>\n\n", "end", USAGE, calls=(call,))


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[Any, list]]:
    """An endpoint over these models, as a client, and the thoughts that its models got."""
    models = Thinking()
    handles = Models(target=ModelHandle(ScriptedGenerator(models.write)))
    arbiter = Arbiter(parse(CONFIG, "test"), models=handles)
    gateway = Gateway(arbiter)
    async with (
        arbiter,
        open_http_client(gateway.app, http_library(openai)) as http,
        AsyncOpenAI(base_url=f"{BASE}/v1", api_key="none", http_client=http) as client,
    ):
        yield client, models


def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


TOOL = {"type": "object", "properties": {"left": {"type": "integer"}, "right": {"type": "integer"}}}


def test_openai_reads_and_sends_back_the_thought_of_a_chat() -> None:
    async def body() -> None:
        async with served() as (client, seen):
            tools = [{"type": "function", "function": {"name": "add", "parameters": TOOL}}]
            messages = [{"role": "user", "content": "12+30?"}]
            first = await client.chat.completions.create(model="arbiter", messages=messages, tools=tools)
            message = first.choices[0].message
            assert (message.reasoning_content, message.content) == (CALL, None)
            result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "42"}
            async with client.chat.completions.stream(
                model="arbiter", messages=[*messages, message, result], tools=tools
            ) as stream:
                chunks = [event.chunk async for event in stream if event.type == "chunk"]
                whole = await stream.get_final_completion()
            deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
            assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == ANSWER
            assert whole.choices[0].message.content == "It is 42."
            assert whole.choices[0].message.reasoning_content == ANSWER
            assert seen == [[], [CALL]]

    asyncio.run(body())


def test_openai_reads_and_sends_back_the_items_of_a_response() -> None:
    async def body() -> None:
        async with served() as (client, seen):
            tools = [{"type": "function", "name": "add", "parameters": TOOL, "strict": False}]
            items = [{"role": "user", "content": "12+30?"}]
            first = await client.responses.create(model="arbiter", input=items, tools=tools)
            thought, call = first.output
            assert (thought.type, thought.content[0].text, call.type) == ("reasoning", CALL, "function_call")
            items += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "42"}]
            async with client.responses.stream(model="arbiter", input=items, tools=tools) as stream:
                deltas = [event.delta async for event in stream if event.type == "response.reasoning_text.delta"]
                whole = await stream.get_final_response()
            assert "".join(deltas) == whole.output[0].content[0].text == ANSWER
            assert whole.output_text == "It is 42."
            assert whole.usage.output_tokens_details.reasoning_tokens == 10
            assert seen == [[], [CALL]]

    asyncio.run(body())


@pytest.mark.parametrize("kind", [OpenAIChatModel, OpenAIResponsesModel])
def test_pydantic_ai_reads_and_sends_back_thoughts(kind) -> None:
    async def body() -> None:
        async with served() as (client, seen):
            agent = Agent(kind("arbiter", provider=OpenAIProvider(openai_client=client)), tools=[add])
            whole = await agent.run("12+30?")
            assert whole.output == "It is 42."
            parts = [part for message in whole.all_messages() for part in message.parts]
            thoughts = [part for part in parts if isinstance(part, ThinkingPart)]
            told = [part.content or (part.provider_details or {}).get("raw_content", [""])[0] for part in thoughts]
            assert told == [CALL, ANSWER]
            assert seen == [[], [CALL]]
            async with agent.run_stream("12+30?") as stream:
                assert [text async for text in stream.stream_text()][-1] == "It is 42."
            streamed = [part for part in stream.response.parts if isinstance(part, ThinkingPart)]
            assert len(streamed) == 1
            assert seen[2:] == [[], [CALL]]

    asyncio.run(body())


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("kind", [OpenAIChatCompletionsModel, OpenAIAgentsResponsesModel])
def test_openai_agents_reads_and_sends_back_thoughts(kind, streams: bool) -> None:
    async def body() -> None:
        set_tracing_disabled(True)
        async with served() as (client, seen):
            fields = {"should_replay_reasoning_content": lambda _: True} if kind is OpenAIChatCompletionsModel else {}
            model = kind(model="arbiter", openai_client=client, **fields)
            agent = OpenAIAgent(name="solver", model=model, tools=[function_tool(add)])
            if streams:
                run = Runner.run_streamed(agent, "12+30?")
                async for _ in run.stream_events():
                    pass
            else:
                run = await Runner.run(agent, "12+30?")
            assert run.final_output == "It is 42."
            items = [item.raw_item for item in run.new_items if item.type == "reasoning_item"]
            assert [(item.content or item.summary)[0].text for item in items] == [CALL, ANSWER]
            assert seen == [[], [CALL]]

    asyncio.run(body())


def test_langchain_reads_and_sends_back_the_items_of_a_response() -> None:
    async def body() -> None:
        async with served() as (client, seen):
            chat = ChatOpenAI(
                model="arbiter",
                use_responses_api=True,
                output_version="responses/v1",
                base_url=f"{BASE}/v1",
                api_key="none",
                http_async_client=client._client,
            ).bind_tools([add])
            question = ("human", "12+30?")
            first = await chat.ainvoke([question])
            assert [block["content"][0]["text"] for block in first.content if block["type"] == "reasoning"] == [CALL]
            answered = ToolMessage("42", tool_call_id=first.tool_calls[0]["id"])
            last = await chat.ainvoke([question, first, answered])
            assert last.text == "It is 42."
            assert seen == [[], [CALL]]
            chunks = [chunk async for chunk in chat.astream([question, first, answered])]
            assert "".join(chunk.text for chunk in chunks) == "It is 42."

    asyncio.run(body())
