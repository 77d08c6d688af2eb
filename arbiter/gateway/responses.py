"""``POST /v1/responses``: nothing is stored, so each request must contain its whole conversation."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
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
from arbiter.gateway.reasoning import Thoughts
from arbiter.gateway.reasoning_items import Emit, ReasoningEvents, ReasoningItem, ReasoningText
from arbiter.gateway.request_mapping import response_task
from arbiter.gateway.response_schemas import ModelUsage, Reporter, SolutionReport, finish_of
from arbiter.gateway.schemas import ReasoningOptions, ResponseBody, TextOptions
from arbiter.gateway.spend_caps import at_cap, is_capped
from arbiter.gateway.streaming import AnswerStreams, EventStream, answer_streams, event, solutions_of
from arbiter.gateway.verification_notes import verification_off
from arbiter.protocols.errors import RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import AnswerToken, Solution

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(msgspec.Struct, frozen=True, tag_field="type", tag="output_text"):
    """The text of an answer."""

    text: str
    annotations: list[str] = []
    logprobs: list[OutputToken] = []


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
    """Parts of the output tokens: of steps that are wholly a thought, and in no kept step (``rejected_tokens``)."""

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


OutputItem = ReasoningItem | OutputMessage | CallItem


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
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
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
    part: OutputText | ReasoningText | None = None
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
    (task,) = at_cap(context.arbiter, request, body, [response_task(context, body)])
    reporter = Reporter(
        body.arbiter, context.costs.prices, is_capped(request), verification_off(context.arbiter.config, task)
    )
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
    said = _AnswerEvents(emit, task, thoughts)
    try:
        async for _, reasoning, part in thoughts.parts(answers.parts()):
            text += part.text
            for data in said.added(reasoning, part.text, part.tokens, reporter.step(part.step)):
                yield data
            if part.solution is not None:
                ended = _ended(begun, task, part.solution, reporter, thoughts, said.has_message)
                for data in (*said.done(text, ended.output), *_call_events(emit, ended.output)):
                    yield data
                yield emit(ended.status, response=ended)
    except RequestError as error:
        body_of = shape(error).error
        failed = ResponseError(body_of.message, body_of.code or body_of.type)
        yield emit("failed", response=msgspec.structs.replace(begun, status="failed", error=failed))


class _AnswerEvents:
    """The events of the thought and of the text of an answer.

    The record of a step goes with the text that the step adds. One that adds none, before it is known whether the
    answer has a thought, goes with the next text.
    """

    def __init__(self, emit: Emit, task: Task, thoughts: Thoughts) -> None:
        self._reasoning = ReasoningEvents(emit, _reasoning_item(task))
        self._message = _MessageEvents(emit, _item(task))
        self._may_think = thoughts.are_separate
        self._waiting: list[SolutionReport] = []

    @property
    def has_message(self) -> bool:
        """Whether the message has begun, or must: there are records for it."""
        return self._message.is_open or bool(self._waiting)

    def added(
        self, reasoning: str, content: str, tokens: Sequence[AnswerToken], extra: SolutionReport | None
    ) -> Iterator[bytes]:
        """Yield the events for further text, the tokens of its content, and the record of a step."""
        if reasoning:
            yield from self._flushed(self._reasoning)
            yield from self._reasoning.added(reasoning, None if content else extra)
        if content or tokens:
            yield from self._reasoning.done()
            self._message.index = int(self._reasoning.has_begun)
            yield from self._flushed(self._message)
            yield from self._message.added(content, tokens, extra)
        elif extra is not None and not reasoning:
            if self._message.is_open or not self._may_think:
                yield from self._message.added("", (), extra)
            elif self._reasoning.has_begun:
                yield from self._reasoning.added("", extra)
            else:
                self._waiting.append(extra)

    def done(self, text: str, output: Sequence[OutputItem]) -> Iterator[bytes]:
        """Yield the events for the end of the answer, whose items are ``output``."""
        for index, item in enumerate(output):
            if isinstance(item, ReasoningItem):
                yield from self._reasoning.done(item.status)
            elif isinstance(item, OutputMessage):
                self._message.index = index
                yield from self._flushed(self._message)
                yield from self._message.done(text, item)

    def _flushed(self, events: "ReasoningEvents | _MessageEvents") -> Iterator[bytes]:
        for extra in self._waiting:
            yield from (events.added("", extra) if isinstance(events, ReasoningEvents) else events.added("", (), extra))
        self._waiting = []


class _MessageEvents:
    """The events of the text of an answer, which is the item ``index`` of the output.

    Its item begins with the first text or record of a step, or with the end of an empty answer. ``is_open`` says
    whether it has begun.
    """

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self._name = name
        self.index = 0
        self.is_open = False

    def added(self, text: str, tokens: Sequence[AnswerToken], extra: SolutionReport | None) -> Iterator[bytes]:
        """Yield the events for further text, the tokens that are complete with it, and the record of a step."""
        if text or tokens or extra:
            yield from self._open()
            logprobs = output_tokens(tokens)
            yield self._emit("output_text.delta", delta=text, logprobs=logprobs, arbiter=extra, **self._path)

    def done(self, text: str, item: OutputMessage) -> Iterator[bytes]:
        """Yield the events for the end of the text, whose message is ``item``."""
        yield from self._open()
        (part,) = item.content
        yield self._emit("output_text.done", text=text, logprobs=part.logprobs, **self._path)
        yield self._emit("content_part.done", part=part, **self._path)
        yield self._emit("output_item.done", item=item, output_index=self.index)

    @property
    def _path(self) -> dict[str, Any]:
        return {"item_id": self._name, "output_index": self.index, "content_index": 0}

    def _open(self) -> Iterator[bytes]:
        if not self.is_open:
            self.is_open = True
            item = OutputMessage(self._name, "in_progress", [])
            yield self._emit("output_item.added", item=item, output_index=self.index)
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
        yield ReasoningItem(_reasoning_item(task), ended, [ReasoningText(reasoning)])
    is_cut = content is None and status == "incomplete"
    if content or is_begun or not (solution.tool_calls or is_cut):
        yield OutputMessage(
            _item(task),
            status,
            [OutputText(content or "", logprobs=output_tokens(thoughts.content_tokens(solution)))],
        )


def _reasoning_item(task: Task) -> str:
    return f"rs_{task.id}"


def _item(task: Task) -> str:
    return f"msg_{task.id}"
