"""``POST /v1/responses``: nothing is stored, so each request must contain its whole conversation."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import count
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from arbiter.gateway.body_decoding import read
from arbiter.gateway.call_schemas import CallItem, call_items
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.error_responses import answer, shape
from arbiter.gateway.logprob_schemas import OutputToken, output_tokens
from arbiter.gateway.request_mapping import response_task
from arbiter.gateway.response_schemas import ModelUsage, Reporter, SolutionReport, finish_of, usage_of
from arbiter.gateway.schemas import ResponseBody
from arbiter.gateway.spend_caps import at_cap, is_capped
from arbiter.gateway.streaming import AnswerStreams, EventStream, answer_streams, event, solutions_of
from arbiter.gateway.verification_notes import verification_off
from arbiter.protocols.errors import RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import AnswerToken, Solution

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(msgspec.Struct, frozen=True):
    """The text of an answer."""

    text: str
    annotations: list[str] = []
    logprobs: list[OutputToken] = []
    type: Literal["output_text"] = "output_text"


class OutputMessage(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """The text of an answer as an item of the output."""

    id: str
    status: Status
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class InputDetails(msgspec.Struct, frozen=True):
    """The part of the input tokens that came from prefix caches."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    """The part of the output tokens that are in no kept step (``rejected_tokens``)."""

    reasoning_tokens: int = 0
    rejected_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True):
    """The tokens of draft and target together; ``arbiter`` has them by model."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails
    output_tokens_details: OutputDetails
    arbiter: dict[str, ModelUsage]


class Reason(msgspec.Struct, frozen=True):
    """Why an answer is incomplete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseError(msgspec.Struct, frozen=True):
    """Why there is no answer."""

    message: str
    code: str


OutputItem = OutputMessage | CallItem


class Response(msgspec.Struct, frozen=True):
    """A complete answer, or the state of an answer in progress."""

    id: str
    created_at: int
    model: str
    status: Status
    output: list[OutputItem]
    usage: ResponseUsage | None = None
    incomplete_details: Reason | None = None
    error: ResponseError | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    user: str | None = None
    arbiter: SolutionReport | None = None
    object: Literal["response"] = "response"
    parallel_tool_calls: bool = False
    tool_choice: str | dict[str, Any] = "none"
    tools: list[dict[str, Any]] = []
    store: bool = False
    background: bool = False
    previous_response_id: None = None
    truncation: Literal["disabled"] = "disabled"


class ResponseEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event of a stream. Its ``type`` determines which fields it has."""

    type: str
    sequence_number: int
    response: Response | None = None
    item: OutputItem | None = None
    part: OutputText | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None
    text: str | None = None
    name: str | None = None
    arguments: str | None = None
    logprobs: list[OutputToken] | None = None
    arbiter: SolutionReport | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None


async def responses(context: GatewayContext, request: Request, raw: bytes) -> HttpResponse:
    """Solve the problem of a conversation and return the response. Raises ``RequestError``."""
    body = read(raw, ResponseBody)
    (task,) = at_cap(request, [response_task(context, body)])
    reporter = Reporter(
        body.arbiter, context.costs.prices, is_capped(request), verification_off(context.arbiter.config, task)
    )
    if body.stream:
        answers = await answer_streams(context, request, [task])
        return EventStream(_events(body, task, answers, reporter), context.patience, answers.forward)
    (solution,) = await solutions_of(context, request, [task])
    return answer(_ended(_begun(body, task), task, solution, reporter))


async def _events(body: ResponseBody, task: Task, answers: AnswerStreams, reporter: Reporter) -> AsyncIterator[bytes]:
    """Yield the events in the order that clients of this API expect, with one text delta per step."""
    numbers, begun, text = count(), _begun(body, task), ""

    def emit(kind: str, **fields: Any) -> bytes:  # noqa: ANN401
        return event(ResponseEvent(f"response.{kind}", next(numbers), **fields), f"response.{kind}")

    yield emit("created", response=begun)
    yield emit("in_progress", response=begun)
    message = _MessageEvents(emit, _item(task))
    try:
        async for _, part in answers.parts():
            text += part.text
            extra = reporter.step(part.step)
            for data in message.added(part.text, part.tokens, extra):
                yield data
            if part.solution is not None:
                ended = _ended(begun, task, part.solution, reporter, message.is_open)
                for data in (*message.done(text, ended.output), *_call_events(emit, ended.output)):
                    yield data
                yield emit(ended.status, response=ended)
    except RequestError as error:
        body_of = shape(error).error
        failed = ResponseError(body_of.message, body_of.code or body_of.type)
        yield emit("failed", response=msgspec.structs.replace(begun, status="failed", error=failed))


Emit = Callable[..., bytes]
"""Makes an event of a kind, with fields."""


class _MessageEvents:
    """The events of the text of an answer.

    Its item begins with the first text or record of a step, or with the end of an empty answer. ``is_open`` says
    whether it has begun.
    """

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self._name = name
        self._path = {"item_id": name, "output_index": 0, "content_index": 0}
        self.is_open = False

    def added(self, text: str, tokens: Sequence[AnswerToken], extra: SolutionReport | None) -> Iterator[bytes]:
        """Yield the events for further text, the tokens that are complete with it, and the record of a step."""
        if text or tokens or extra:
            yield from self._open()
            logprobs = output_tokens(tokens)
            yield self._emit("output_text.delta", delta=text, logprobs=logprobs, arbiter=extra, **self._path)

    def done(self, text: str, output: Sequence[OutputItem]) -> Iterator[bytes]:
        """Yield the events for the end of the text, if the ``output`` has one."""
        item = output[0]
        if not isinstance(item, OutputMessage):
            return
        yield from self._open()
        (part,) = item.content
        yield self._emit("output_text.done", text=text, logprobs=part.logprobs, **self._path)
        yield self._emit("content_part.done", part=part, **self._path)
        yield self._emit("output_item.done", item=item, output_index=0)

    def _open(self) -> Iterator[bytes]:
        if not self.is_open:
            self.is_open = True
            yield self._emit("output_item.added", item=OutputMessage(self._name, "in_progress", []), output_index=0)
            yield self._emit("content_part.added", part=OutputText(""), **self._path)


def _call_events(emit: Emit, output: Sequence[OutputItem]) -> Iterator[bytes]:
    """Yield the events of the calls in ``output``: each has one delta."""
    for index, item in enumerate(output):
        if not isinstance(item, CallItem):
            continue
        path = {"item_id": item.id, "output_index": index}
        begun = msgspec.structs.replace(item, arguments="", status="in_progress")
        yield emit("output_item.added", item=begun, output_index=index)
        yield emit("function_call_arguments.delta", delta=item.arguments, **path)
        yield emit("function_call_arguments.done", arguments=item.arguments, name=item.name, **path)
        yield emit("output_item.done", item=item, output_index=index)


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
        **_tools_of(body),
    )


def _tools_of(body: ResponseBody) -> dict[str, Any]:
    """Return the fields of the answer that repeat the tools of the request."""
    if not body.tools:
        return {}
    parallel = body.parallel_tool_calls is not False
    return {"tools": body.tools, "tool_choice": body.tool_choice or "auto", "parallel_tool_calls": parallel}


def _ended(
    begun: Response, task: Task, solution: Solution, reporter: Reporter, is_text_begun: bool = False
) -> Response:
    """Return the answer. An answer of calls alone has a message, without text, if its events were sent already."""
    is_whole, usage = finish_of(solution) != "length", usage_of([solution])
    status: Status = "completed" if is_whole else "incomplete"
    calls, text = call_items(solution), solution.text
    part = OutputText(text, logprobs=output_tokens(solution.tokens))
    said = [OutputMessage(_item(task), status, [part])] if text or is_text_begun or not calls else []
    return msgspec.structs.replace(
        begun,
        status=status,
        output=[*said, *calls],
        usage=ResponseUsage(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            InputDetails(usage.prompt_tokens_details.cached_tokens),
            OutputDetails(0, usage.completion_tokens_details.rejected_prediction_tokens),
            usage.arbiter,
        ),
        incomplete_details=None if is_whole else Reason(),
        arbiter=reporter.whole(solution),
    )


def _item(task: Task) -> str:
    return f"msg_{task.id}"
