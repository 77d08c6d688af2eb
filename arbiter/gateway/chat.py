"""``POST /v1/chat/completions``."""

import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from arbiter.gateway.body_decoding import read
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.error_responses import answer
from arbiter.gateway.request_mapping import chat_task
from arbiter.gateway.response_schemas import (
    Finish,
    SolutionReport,
    TokenUsage,
    finish_of,
    report,
    step_report,
    usage_of,
)
from arbiter.gateway.schemas import ChatBody
from arbiter.gateway.streaming import DONE, AnswerStream, EventStream, answer_streams, event, solutions_of
from arbiter.protocols.messages import Task


class AnswerMessage(msgspec.Struct, frozen=True):
    """The answer of the models."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None


class ChatChoice(msgspec.Struct, frozen=True):
    """The only choice of a completion."""

    message: AnswerMessage
    finish_reason: Finish
    index: int = 0
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True):
    """A complete answer."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    arbiter: SolutionReport
    object: Literal["chat.completion"] = "chat.completion"


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """The text that a chunk adds."""

    role: str | None = None
    content: str | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """What a chunk adds to the only choice."""

    delta: Delta
    finish_reason: Finish | None = None
    index: int = 0
    logprobs: None = None


class ChatChunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chunk of a streamed answer.

    The first chunk has the role. One chunk follows per step, one for the end, and one with the usage if requested.
    """

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: str = ""
    usage: TokenUsage | None = None
    arbiter: SolutionReport | None = None


async def chat_completions(context: GatewayContext, request: Request, raw: bytes) -> Response:
    """Solve the problem of a conversation and return the response. Raises ``RequestError``."""
    body = read(raw, ChatBody)
    task = chat_task(context, body)
    if body.stream:
        (stream,) = await answer_streams(context, request, [task])
        return EventStream(_chunks(body, task, stream), context.patience)
    (solution,) = await solutions_of(context, request, [task])
    choice = ChatChoice(AnswerMessage(solution.text), finish_of(solution))
    usage = usage_of([solution])
    return answer(ChatCompletion(_name(task), _now(), body.model, [choice], usage, report(solution, body.arbiter)))


async def _chunks(body: ChatBody, task: Task, stream: AnswerStream) -> AsyncIterator[bytes]:
    name, created, model = _name(task), _now(), body.model

    def chunk(choices: list[ChunkChoice], **fields: Any) -> bytes:  # noqa: ANN401
        return event(ChatChunk(name, created, model, choices, "chat.completion.chunk", **fields))

    wants_steps = body.arbiter is not None and body.arbiter.steps
    yield chunk([ChunkChoice(Delta("assistant", ""))])
    async for part in stream.parts():
        if part.text or part.step:
            extra = SolutionReport(step=step_report(part.step)) if part.step and wants_steps else None
            yield chunk([ChunkChoice(Delta(content=part.text))], arbiter=extra)
        if part.solution is not None:
            yield chunk([ChunkChoice(Delta(), finish_of(part.solution))], arbiter=report(part.solution, None))
            if body.stream_options and body.stream_options.include_usage:
                yield chunk([], usage=usage_of([part.solution]))
    yield DONE


def _name(task: Task) -> str:
    return f"chatcmpl-{task.id}"


def _now() -> int:
    return int(time.time())
