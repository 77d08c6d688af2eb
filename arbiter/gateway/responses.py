"""``POST /v1/responses``: nothing is stored, so each request must contain its whole conversation."""

import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from arbiter.gateway.body_decoding import read
from arbiter.gateway.call_schemas import call_items
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.error_responses import answer, shape
from arbiter.gateway.logprob_schemas import output_tokens
from arbiter.gateway.reasoning import Thoughts
from arbiter.gateway.reasoning_items import ReasoningItem, ReasoningText
from arbiter.gateway.reporting import reporter_of
from arbiter.gateway.request_mapping import response_task
from arbiter.gateway.response_bodies import (
    InputDetails,
    OutputDetails,
    OutputItem,
    OutputMessage,
    OutputText,
    Reason,
    Response,
    ResponseError,
    ResponseEvent,
    ResponseUsage,
    message_item_id,
    reasoning_item_id,
)
from arbiter.gateway.response_events import AnswerEvents, call_events
from arbiter.gateway.response_schemas import Reporter, finish_of
from arbiter.gateway.schemas import ResponseBody
from arbiter.gateway.spend_caps import at_cap
from arbiter.gateway.streaming import AnswerStreams, EventStream, answer_streams, event, solutions_of
from arbiter.protocols.errors import RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Solution


async def responses(context: GatewayContext, request: Request, raw: bytes) -> HttpResponse:
    """Solve the problem of a conversation and return the response. Raises ``RequestError``."""
    body = read(raw, ResponseBody)
    (task,) = at_cap(context.arbiter, request, body, [response_task(context, body)])
    reporter = reporter_of(context, request, body, task)
    thoughts = Thoughts(context, body, task)
    if body.stream:
        answers = await answer_streams(context, request, [task], body.arbiter)
        return EventStream(_events(body, task, answers, reporter, thoughts), context.patience, answers.forward)
    (solution,) = await solutions_of(context, request, [task])
    return answer(_ended(_begun(body, task), task, solution, reporter, thoughts))


async def _events(
    body: ResponseBody, task: Task, answers: AnswerStreams, reporter: Reporter, thoughts: Thoughts
) -> AsyncIterator[bytes]:
    """Yield the events in the order that clients of this API expect, with a text delta per step or piece."""
    numbers, begun, text = count(), _begun(body, task), ""

    def emit(kind: str, **fields: Any) -> bytes:  # noqa: ANN401
        return event(ResponseEvent(f"response.{kind}", next(numbers), **fields), f"response.{kind}")

    yield emit("created", response=begun)
    yield emit("in_progress", response=begun)
    said = AnswerEvents(emit, task, thoughts)
    try:
        async for _, reasoning, part in thoughts.parts(answers.parts()):
            text += part.text
            for data in said.added(reasoning, part.text, part.tokens, reporter.step(part.step)):
                yield data
            if part.solution is not None:
                ended = _ended(begun, task, part.solution, reporter, thoughts, said.has_message)
                for data in (*said.done(text, ended.output), *call_events(emit, ended.output)):
                    yield data
                yield emit(ended.status, response=ended)
    except RequestError as error:
        body_of = shape(error).error
        failed = ResponseError(body_of.message, body_of.code or body_of.type)
        yield emit("failed", response=msgspec.structs.replace(begun, status="failed", error=failed))


def _begun(body: ResponseBody, task: Task) -> Response:
    return Response(
        id=f"resp_{task.id}",
        created_at=int(time.time()),
        model=body.model,
        status="in_progress",
        output=[],
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        temperature=task.sampling.temperature,
        top_p=task.sampling.top_p,
        top_logprobs=task.top_logprobs,
        user=body.user,
        reasoning=body.reasoning,
        text=body.text,
        **_tools_of(body),
    )


def _tools_of(body: ResponseBody) -> dict[str, Any]:
    """Return the fields of the answer that repeat the tools of the request."""
    if not body.tools:
        return {}
    parallel = body.parallel_tool_calls is not False
    return {"tools": body.tools, "tool_choice": body.tool_choice or "auto", "parallel_tool_calls": parallel}


def _ended(
    begun: Response,
    task: Task,
    solution: Solution,
    reporter: Reporter,
    thoughts: Thoughts,
    is_text_begun: bool = False,
) -> Response:
    """Return the answer. One of calls alone has a message, without text, if its events were sent already."""
    is_whole, usage = finish_of(solution) != "length", thoughts.usage([solution])
    status: Literal["completed", "incomplete"] = "completed" if is_whole else "incomplete"
    return msgspec.structs.replace(
        begun,
        status=status,
        output=[*_said(task, solution, thoughts, status, is_text_begun), *call_items(solution)],
        usage=ResponseUsage(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            InputDetails(usage.prompt_tokens_details.cached_tokens),
            OutputDetails(
                usage.completion_tokens_details.reasoning_tokens,
                usage.completion_tokens_details.rejected_prediction_tokens,
            ),
            usage.arbiter,
        ),
        incomplete_details=None if is_whole else Reason(),
        arbiter=reporter.whole(solution),
    )


def _said(
    task: Task, solution: Solution, thoughts: Thoughts, status: Literal["completed", "incomplete"], is_begun: bool
) -> Iterator[OutputItem]:
    """Yield the thought and the message of an answer. One that a limit cut within its thought has no message."""
    reasoning, content = thoughts.divided(solution)
    if reasoning:
        ended = status if content is None else "completed"
        yield ReasoningItem(reasoning_item_id(task), ended, [ReasoningText(reasoning)])
    is_cut = content is None and status == "incomplete"
    if content or is_begun or not (solution.tool_calls or is_cut):
        yield OutputMessage(
            message_item_id(task),
            status,
            [OutputText(content or "", logprobs=output_tokens(thoughts.content_tokens(solution)))],
        )
