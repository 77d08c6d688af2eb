"""The bodies and events that ``/v1/responses`` returns."""

from typing import Any, Literal

import msgspec

from arbiter.gateway.call_schemas import CallItem
from arbiter.gateway.logprob_schemas import OutputToken
from arbiter.gateway.reasoning_items import ReasoningItem, ReasoningText
from arbiter.gateway.response_schemas import ModelUsage, SolutionReport
from arbiter.gateway.schemas import ReasoningOptions, TextOptions
from arbiter.protocols.messages import Task

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


def reasoning_item_id(task: Task) -> str:
    """Return the id of the thought of an answer."""
    return f"rs_{task.id}"


def message_item_id(task: Task) -> str:
    """Return the id of the message of an answer."""
    return f"msg_{task.id}"
