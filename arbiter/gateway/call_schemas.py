"""Calls of tools in the shapes of the two APIs: as fields of a message, and as items of an output."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from arbiter.gateway.schemas import ChatMessage, InputItem
from arbiter.protocols.errors import RequestError
from arbiter.protocols.records import Solution
from arbiter.protocols.tools import ToolCall


class CalledFunction(msgspec.Struct, frozen=True):
    """The tool that is called, and its arguments as JSON text."""

    name: str
    arguments: str


class MessageCall(msgspec.Struct, frozen=True):
    """A call in a message of ``/v1/chat/completions``."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class DeltaCall(msgspec.Struct, frozen=True):
    """A call in a chunk: whole, so that no other chunk continues it."""

    index: int
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class CallItem(msgspec.Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call as an item of the output of ``/v1/responses``."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed"] = "completed"


def message_calls(solution: Solution) -> list[MessageCall]:
    """Return the calls of an answer, for its message."""
    return [MessageCall(call.id, _function(call)) for call in solution.tool_calls]


def delta_calls(calls: Sequence[ToolCall], sent: int) -> list[DeltaCall]:
    """Return the calls of a step, for the chunk of the step, after ``sent`` calls of the same answer."""
    return [DeltaCall(index, call.id, _function(call)) for index, call in enumerate(calls, sent)]


def call_items(solution: Solution) -> list[CallItem]:
    """Return the calls of an answer, for its output."""
    return [CallItem(f"fc_{call.id}", call.id, call.name, call.arguments) for call in solution.tool_calls]


def calls_and_thought(message: ChatMessage) -> dict[str, Any]:
    """Return the fields of an assistant's message besides its text: the calls and the thought that it has."""
    thought = message.reasoning_content
    named = {"tool_calls": message.tool_calls, "reasoning_content": thought if isinstance(thought, str) else None}
    return {name: value for name, value in named.items() if value}


def add_call(messages: list[dict[str, Any]], item: InputItem, path: str) -> None:
    """Add a call, which is an item of its own, to the assistant's message before it, or as a new message.

    Raises ``RequestError`` if it lacks a field.
    """
    for name in ("call_id", "name", "arguments"):
        if getattr(item, name) is None:
            raise _missing(f"{path}.{name}")
    call = {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1] = {**messages[-1], "tool_calls": [*messages[-1].get("tool_calls", ()), call]}


def result_of(item: InputItem, output: str, path: str) -> dict[str, Any]:
    """Return the message of a call's result, whose text is ``output``. Raises ``RequestError`` if it names no call."""
    if item.call_id is None:
        raise _missing(f"{path}.call_id")
    return {"role": "tool", "tool_call_id": item.call_id, "content": output}


def _function(call: ToolCall) -> CalledFunction:
    return CalledFunction(call.name, call.arguments)


def _missing(param: str) -> RequestError:
    return RequestError(f"{param} is missing", code="missing_required_parameter", param=param)
