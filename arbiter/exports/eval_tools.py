"""Tools, their calls and their results in the shapes of inspect_ai."""

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from arbiter.exports.eval_usage import Json, known
from arbiter.protocols.records import Turn
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall

_TYPES = {"string", "integer", "number", "boolean", "array", "object", "null"}
_CHOICES = {"auto": "auto", "required": "any"}


def calls_of(calls: Iterable[ToolCall]) -> list[Json] | None:
    """Return the calls of a message; None if it has none. Arguments that are no object are its ``parse_error``."""
    return [_call(call) for call in calls] or None


def messages_of(turns: Iterable[Turn]) -> list[Json]:
    """Return the turns of a conversation as messages, without ids. A result names the tool that was called."""
    names, messages = dict[str, str](), list[Json]()
    for turn in turns:
        names |= {call.id: call.name for call in turn.calls}
        message = {"role": turn.role, "content": turn.text, "source": "input"}
        result = {"tool_call_id": turn.call_id, "function": names.get(turn.call_id)} if turn.role == "tool" else {}
        messages.append(known(**message, **result, tool_calls=calls_of(turn.calls)))
    return messages


def offered(rules: AnswerRules | None) -> Json:
    """Return the tools that a request offers to a model, and the choice of tools."""
    if rules is None or not rules.offered:
        return {"tools": [], "tool_choice": "none"}
    choice: object = _CHOICES[rules.choice]
    if rules.choice == "required" and len(rules.allowed) == 1:
        choice = {"name": rules.allowed[0]}
    return {"tools": [_tool(tool) for tool in rules.offered], "tool_choice": choice}


def _call(call: ToolCall) -> Json:
    arguments = _object(call.arguments)
    if arguments is None:
        return {"id": call.id, "function": call.name, "arguments": {}, "parse_error": call.arguments}
    return {"id": call.id, "function": call.name, "arguments": arguments}


def _tool(tool: Tool) -> Json:
    """Return a tool. inspect_ai knows a part of JSON Schema, so ``options`` has the whole schema of its arguments."""
    schema = _object(tool.parameters)
    if schema is None:  # a log without texts has a digest in its place
        return {"name": tool.name, "description": tool.description}
    properties, required = schema.get("properties"), schema.get("required")
    named = cast("Json", properties) if isinstance(properties, dict) else {}
    needed = cast("list[object]", required) if isinstance(required, list) else []
    parameters = {
        "properties": {name: _parameter(one) for name, one in named.items()},
        "required": [name for name in needed if isinstance(name, str)],
    }
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
        "options": {"parameters": schema},
    }


def _parameter(schema: object) -> Json:
    fields = cast("Json", schema) if isinstance(schema, dict) else {}
    kind, description, values = fields.get("type"), fields.get("description"), fields.get("enum")
    return known(
        type=kind if isinstance(kind, str) and kind in _TYPES else None,
        description=description if isinstance(description, str) else None,
        enum=cast("list[object]", values) if isinstance(values, list) else None,
    )


def _object(text: str) -> Json | None:
    try:
        data: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return cast("Json", data) if isinstance(data, dict) else None
