"""Whether a step keeps the rules of the answer: the tools that it may call, and the JSON that it must be.

Pure functions.
"""

import msgspec

from arbiter.protocols.tools import AnswerRules, Tool, ToolCall
from arbiter.structured.thoughts import divided_answer
from arbiter.structured.validation import violation_of


def violation_of_calls(rules: AnswerRules, calls: tuple[ToolCall, ...], ends: bool) -> str | None:
    """Return why a step with ``calls`` breaks ``rules``; None if it does not. ``ends``: the answer ends with it."""
    if not calls:
        return _missing(rules) if ends and rules.choice == "required" else None
    if rules.choice == "none":
        return f"it calls {calls[0].name}, but may call no tool"
    if not rules.parallel and len(calls) > 1:
        return f"it makes {len(calls)} calls, but may make only one"
    tools = {tool.name: tool for tool in rules.tools}
    return next((violation for call in calls if (violation := _violation_of_call(rules, tools, call))), None)


def violation_of_answer(schema: str, text: str, in_thought: bool = False) -> str | None:
    """Return why an answer is no JSON that fits ``schema``; None if it is. ``text`` is the whole answer.

    A thought at its beginning is no part of it. ``in_thought`` is True if a prompt has opened one.
    """
    content = divided_answer(text, in_thought).content
    if content is None:
        return "it ends within a thought"
    violation = violation_of(schema, content)
    return f"the answer does not fit its schema: {violation}" if violation else None


def call_schema(rules: AnswerRules) -> str | None:
    """Return the JSON schema of one allowed call: an object with ``name`` and ``arguments``. None if none is allowed.

    A schema of arguments that refers to other parts of itself stands there as any object.
    """
    allowed = rules.allowed or tuple(tool.name for tool in rules.tools)
    calls = [_call_schema(tool) for tool in rules.offered if tool.name in allowed]
    if not calls:
        return None
    return msgspec.json.encode(calls[0] if len(calls) == 1 else {"anyOf": calls}).decode()


def _violation_of_call(rules: AnswerRules, tools: dict[str, Tool], call: ToolCall) -> str | None:
    tool = tools.get(call.name)
    if tool is None:
        return f"it calls {call.name!r}, which is no tool that was offered; offered: {', '.join(tools) or 'none'}"
    if rules.allowed and call.name not in rules.allowed:
        return f"it calls {call.name}, but may call only {', '.join(rules.allowed)}"
    if not call.arguments.lstrip().startswith("{"):
        return f"the arguments of {call.name} are not a JSON object"
    violation = violation_of(tool.parameters, call.arguments)
    return f"the arguments of {call.name} do not fit its schema: {violation}" if violation else None


def _missing(rules: AnswerRules) -> str:
    return f"it ends the answer, which must call {' or '.join(rules.allowed) or 'a tool'}"


def _call_schema(tool: Tool) -> dict[str, object]:
    refers = '"$ref"' in tool.parameters or '"$dynamicRef"' in tool.parameters
    arguments = {"type": "object"} if refers else msgspec.Raw(tool.parameters.encode())
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
