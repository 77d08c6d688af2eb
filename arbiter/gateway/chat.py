"""``POST /v1/chat/completions``."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from arbiter.gateway.body_decoding import read
from arbiter.gateway.call_schemas import DeltaCall, MessageCall, delta_calls, message_calls
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.error_responses import answer
from arbiter.gateway.logprob_schemas import ChoiceLogprobs, choice_logprobs
from arbiter.gateway.middleware import after
from arbiter.gateway.reasoning import Thoughts
from arbiter.gateway.reporting import reporter_of
from arbiter.gateway.request_mapping import chat_tasks, number_of_answers
from arbiter.gateway.response_schemas import (
    Finish,
    Reporter,
    SolutionReport,
    TokenUsage,
    finish_of,
)
from arbiter.gateway.schemas import ChatBody
from arbiter.gateway.spend_caps import at_cap
from arbiter.gateway.streaming import DONE, AnswerPart, AnswerStreams, EventStream, answer_streams, event, solutions_of
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Solution


class AnswerMessage(msgspec.Struct, frozen=True):
    """The answer of the models. ``content`` is null if the answer has only calls, or ends within its thought."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[MessageCall] | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    """One of the answers. With several, each has its own ``arbiter``."""

    message: AnswerMessage
    finish_reason: Finish
    index: int = 0
    logprobs: ChoiceLogprobs | None = None
    arbiter: SolutionReport | msgspec.UnsetType = msgspec.UNSET


class ChatCompletion(msgspec.Struct, frozen=True):
    """The answers to a question. With several, ``arbiter`` is that of the whole request."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    arbiter: SolutionReport
    object: Literal["chat.completion"] = "chat.completion"


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """The text, the thought or the calls that a chunk adds."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[DeltaCall] | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """What a chunk adds to a choice."""

    delta: Delta
    finish_reason: Finish | None = None
    index: int = 0
    logprobs: ChoiceLogprobs | None = None


class ChatChunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A chunk of a streamed answer.

    The first chunk of each choice has the role. One chunk follows per step or piece that adds something to a choice,
    and one for its end. A step with the end of a thought has two, for the thought and for the rest. The last chunk has
    the usage if requested. ``arbiter`` is about the chunk's choice.
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
    context.admission.enter_rest(after(request), number_of_answers(context, 1, body.n))
    tasks = at_cap(context.arbiter, request, body, chat_tasks(context, body))
    reporter = reporter_of(context, request, body, tasks[0])
    thoughts = Thoughts(context, body, tasks[0])
    if body.stream:
        answers = await answer_streams(context, request, tasks, body.arbiter)
        return EventStream(_chunks(body, tasks, answers, reporter, thoughts), context.patience, answers.forward)
    solutions = await solutions_of(context, request, tasks)
    reports = [reporter.whole(solution) for solution in solutions]
    choices = [
        ChatChoice(
            _message(solution, thoughts),
            finish_of(solution),
            index,
            choice_logprobs(tasks[index], thoughts.content_tokens(solution)),
        )
        for index, solution in enumerate(solutions)
    ]
    whole = reports[0]
    if len(choices) > 1:
        choices = [replace(choice, arbiter=reports[choice.index]) for choice in choices]
        whole = reporter.all_of(solutions)
    return answer(ChatCompletion(_name(tasks[0]), _now(), body.model, choices, thoughts.usage(solutions), whole))


async def _chunks(
    body: ChatBody, tasks: list[Task], answers: AnswerStreams, reporter: Reporter, thoughts: Thoughts
) -> AsyncIterator[bytes]:
    name, created, model = _name(tasks[0]), _now(), body.model
    solutions: list[Solution] = []
    called = Counter[int]()

    def chunk(choices: list[ChunkChoice], **fields: Any) -> bytes:  # noqa: ANN401
        return event(ChatChunk(name, created, model, choices, "chat.completion.chunk", **fields))

    for index in range(len(tasks)):
        yield chunk([ChunkChoice(Delta("assistant", ""), index=index)])
    async for index, reasoning, part in thoughts.parts(answers.parts()):
        logprobs = choice_logprobs(tasks[index], part.tokens) if part.tokens else None
        adds_content, record = bool(part.text or (part.step and part.step.kept.calls)), reporter.step(part.step)
        if reasoning:
            extra = None if adds_content else record
            yield chunk([ChunkChoice(Delta(reasoning_content=reasoning), index=index)], arbiter=extra)
        if adds_content or (record and not reasoning) or (logprobs and part.solution is None):
            yield chunk([ChunkChoice(_delta(part, called[index]), None, index, logprobs)], arbiter=record)
            called[index] += len(part.step.kept.calls) if part.step else 0
            logprobs = None
        if part.solution is not None:
            solutions.append(part.solution)
            end = ChunkChoice(Delta(), finish_of(part.solution), index, logprobs)
            yield chunk([end], arbiter=reporter.ended(part.solution))
    if body.stream_options and body.stream_options.include_usage:
        yield chunk([], usage=thoughts.usage(solutions))
    yield DONE


def _message(solution: Solution, thoughts: Thoughts) -> AnswerMessage:
    reasoning, content = thoughts.divided(solution)
    if solution.tool_calls:
        message = AnswerMessage(content or None, tool_calls=message_calls(solution))
    else:
        message = AnswerMessage(content)
    return replace(message, reasoning_content=reasoning) if reasoning else message


def _delta(part: AnswerPart, sent: int) -> Delta:
    """Return what a step adds after ``sent`` calls. Its calls are whole: a client that joins chunks gets them once."""
    calls = part.step.kept.calls if part.step is not None else ()
    return Delta(content=part.text or None, tool_calls=delta_calls(calls, sent) if calls else None)


def _name(task: Task) -> str:
    return f"chatcmpl-{task.id}"


def _now() -> int:
    return int(time.time())
