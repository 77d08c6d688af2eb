"""Tools, conversations and calls between inspect_ai and Arbiter. Needs the extra ``inspect``."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# inspect_ai is not in the development extra, because it pins its dependencies as an application does

import json
from collections.abc import Sequence
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolCall, ToolChoice, ToolFunction, ToolInfo

from arbiter.data.conversation import Message
from arbiter.exports.eval_tools import calls_of
from arbiter.library.questions import Overrides
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Solution


def offered(tools: Sequence[ToolInfo], choice: ToolChoice, parallel: bool | None) -> Overrides:
    """Return the tools and the choice of tools of a call as overrides. None without tools."""
    if not tools:
        return {}
    named = choice.name if isinstance(choice, ToolFunction) else "required" if choice == "any" else choice
    return {
        "tools": [{"type": "function", "function": _function(tool)} for tool in tools],
        "tool_choice": named,
        "parallel_tool_calls": parallel is not False,
    }


def question_of(messages: Sequence[ChatMessage]) -> list[Message]:
    """Return a conversation. Raises ``DataError`` if a message contains more than text and calls."""
    return [_message(index, message) for index, message in enumerate(messages)]


def calls_in(solution: Solution) -> list[ToolCall] | None:
    """Return the calls with which an answer ends; None if it has none."""
    calls = calls_of(solution.tool_calls)
    return [ToolCall(**call) for call in calls] if calls else None


def _function(tool: ToolInfo) -> dict[str, Any]:
    parameters = tool.parameters.model_dump(exclude_none=True)
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def _message(index: int, message: ChatMessage) -> Message:
    content = message.content
    parts = [] if isinstance(content, str) else [part.type for part in content if part.type != "text"]
    if parts:
        raise DataError(f"message {index}: arbiter only reads text, but the message has content of the type {parts[0]}")
    if isinstance(message, ChatMessageTool):
        text = message.text if message.error is None else f"Error: {message.error.message}"
        return {"role": "tool", "content": text, "tool_call_id": message.tool_call_id}
    if isinstance(message, ChatMessageAssistant) and message.tool_calls:
        return {
            "role": "assistant",
            "content": message.text,
            "tool_calls": [_call(each) for each in message.tool_calls],
        }
    return {"role": message.role, "content": message.text}


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.function, "arguments": arguments}}
