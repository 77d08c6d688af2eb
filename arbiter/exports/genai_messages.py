"""Questions, steps and answers as messages of OpenTelemetry's GenAI conventions (version 0.1.0).

The conventions export texts only if the user opts in. Each value is a JSON text, as spans hold it.
"""

from collections.abc import Iterable

import msgspec

from arbiter.protocols.records import Transcript, Turn
from arbiter.protocols.tools import AnswerRules, ToolCall

Part = dict[str, object]


def input_messages(transcript: Transcript) -> str:
    """Return what a model reads: the conversation, the question, and the steps so far as a turn of the assistant."""
    steps = [Turn("assistant", step.text) for step in transcript.steps if step.text]
    turns = (*transcript.turns, Turn("user", transcript.question), *transcript.after, *steps)
    return _json([{"role": turn.role, "parts": _turn_parts(turn)} for turn in turns])


def output_message(text: str, calls: Iterable[ToolCall], finish_reason: str) -> str:
    """Return what a model wrote, as the only message."""
    return _json([{"role": "assistant", "parts": _written_parts(text, calls), "finish_reason": finish_reason}])


def tool_definitions(rules: AnswerRules | None) -> str | None:
    """Return the offered tools with their descriptions and schemas; None if no tool is offered."""
    tools = rules.offered if rules else ()
    return _json([_definition(tool.name, tool.description, tool.parameters) for tool in tools]) if tools else None


def _definition(name: str, description: str, parameters: str) -> Part:
    about: Part = {"description": description} if description else {}
    return {"type": "function", "name": name, **about, "parameters": _value(parameters)}


def _turn_parts(turn: Turn) -> list[Part]:
    if turn.role == "tool":
        return [{"type": "tool_call_response", "id": turn.call_id, "response": turn.text}]
    thought: list[Part] = [{"type": "reasoning", "content": turn.thought}] if turn.thought else []
    return [*thought, *_written_parts(turn.text, turn.calls)]


def _written_parts(text: str, calls: Iterable[ToolCall]) -> list[Part]:
    written: list[Part] = [{"type": "text", "content": text}] if text else []
    return [
        *written,
        *({"type": "tool_call", "id": c.id, "name": c.name, "arguments": _value(c.arguments)} for c in calls),
    ]


def _value(text: str) -> object:
    """Return the value of a JSON text, or the text itself: a model can write any arguments."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _json(messages: list[Part]) -> str:
    return msgspec.json.encode(messages).decode()
