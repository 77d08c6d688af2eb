"""Turns with calls of tools, as the templates of models take them."""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from arbiter.backends.call_formats.forms import FORMS
from arbiter.config.model_tables import CallFormName
from arbiter.protocols.records import Turn
from arbiter.protocols.tools import Tool, ToolCall, step_text

HERMES_TOOLS = """

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""What the templates of Qwen2.5 and Qwen3 append to the instructions where there are tools."""

_MISTRAL_ID = 9  # characters: its template refuses ids of other lengths


def tool_list(tools: Iterable[Tool]) -> list[dict[str, Any]]:
    """Return the tools in OpenAI's form, which chat templates take."""
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def described_tools(tools: Iterable[Tool]) -> str:
    """Return the tools in OpenAI's form, one per line."""
    return "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tool_list(tools))


def in_hermes(turns: Iterable[Turn], thoughts: bool) -> tuple[Turn, ...]:
    """Return the turns without calls: they and the results of tools are written as Hermes and Qwen read them.

    Results in a row are one turn of the user. With ``thoughts``, a thought precedes the text of its turn.
    """
    found: list[Turn] = []
    in_row = False
    for turn in turns:
        if turn.role == "tool":
            text = f"<tool_response>\n{turn.text}\n</tool_response>"
            if in_row:
                text = f"{found.pop().text}\n{text}"
            found.append(Turn("user", text))
        else:
            calls = [FORMS["hermes"].written(turn.calls)] if turn.calls else []
            text = "\n".join([*([turn.text] if turn.text else []), *calls])
            thought = f"<think>\n{turn.thought}\n</think>\n\n" if thoughts and turn.thought else ""
            found.append(Turn(turn.role, thought + text))
        in_row = turn.role == "tool"
    return tuple(found)


def as_plain_turns(turns: Iterable[Turn], thoughts: bool = False) -> tuple[Turn, ...]:
    """Return the turns with their calls as JSON text, and results as turns of the user. There are no thoughts."""
    return tuple(Turn("user" if turn.role == "tool" else turn.role, step_text(turn.text, turn.calls)) for turn in turns)


def chat_messages_of(turns: Iterable[Turn], form: CallFormName | None) -> list[dict[str, Any]]:
    """Return the turns as messages for a chat template that writes calls in ``form``.

    The template of Llama 3 refuses a message with several calls, and that of gpt-oss writes only the first. So there,
    each call has its own, before its results.
    """
    return [_message(turn, form) for turn in (_one_call_each(turns) if form in ("llama-3", "harmony") else turns)]


def _one_call_each(turns: Iterable[Turn]) -> Iterator[Turn]:
    """Yield the turns, those with several calls as one per call. The first of them has the text."""
    left = deque(turns)
    while left:
        turn, results = left.popleft(), list[Turn]()
        if len(turn.calls) < 2:
            yield turn
            continue
        while left and left[0].role == "tool":
            results.append(left.popleft())
        for index, call in enumerate(turn.calls):
            yield msgspec.structs.replace(Turn(turn.role, "") if index else turn, calls=(call,))
            yield from [result for result in results if result.call_id == call.id]
            results = [result for result in results if result.call_id != call.id]
        yield from results


def _message(turn: Turn, form: CallFormName | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if turn.thought:
        message["reasoning_content"] = turn.thought
    if turn.role == "tool":
        message["tool_call_id"] = _id(turn.call_id, form)
    if turn.calls:
        message["tool_calls"] = _calls(turn.calls, form)
        if form == "deepseek-v3":
            message["content"] = turn.text or None
        if form == "harmony":  # its template takes either a thought or a text before a call
            message |= {"content": "", "thinking": "\n\n".join(filter(None, (turn.thought, turn.text)))}
    return message


def _calls(calls: Sequence[ToolCall], form: CallFormName | None) -> list[dict[str, Any]]:
    return [
        {"id": _id(call.id, form), "type": "function", "function": {"name": call.name, "arguments": _given(call, form)}}
        for call in calls
    ]


def _given(call: ToolCall, form: CallFormName | None) -> object:
    """Return the arguments: as an object, which templates write as JSON. The template of DeepSeek takes the text."""
    if form == "deepseek-v3":
        return call.arguments
    try:
        return msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        return call.arguments


def _id(name: str, form: CallFormName | None) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_MISTRAL_ID] if form == "mistral" else name


def _function(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": msgspec.json.decode(tool.parameters)}
