"""Tools as callers give them, in OpenAI's form or as ``Tool``, and the rules of the answer that follow."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import msgspec

from arbiter.data.conversation import object_of
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.tools import NO_ARGUMENTS, AnswerRules, Tool, ToolChoice
from arbiter.structured.validation import checked_schema

ToolLike = Tool | Mapping[str, Any]
"""A ``Tool``, or one in OpenAI's form: ``{"type": "function", "function": {"name": …, "parameters": …}}``.

The fields of ``function`` may also stand next to ``type``, as in the Responses API.
"""

MOST_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CHOICES: dict[str, ToolChoice] = {choice: choice for choice in get_args(ToolChoice)}


def answer_rules(
    tools: Sequence[ToolLike], choice: str | Mapping[str, Any] | None = None, parallel: bool = True
) -> AnswerRules | None:
    """Return the rules of an answer with ``tools``; None without tools.

    ``choice`` is ``auto`` (also if it is None), ``none``, ``required``, the name of a tool, or one of OpenAI's objects
    of the types ``function`` and ``allowed_tools``. Raises ``ConfigError`` naming the tool or the choice that is wrong.
    """
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"tools must be a list, not {type(tools).__name__}")
    if not tools:
        if choice not in (None, "auto", "none"):
            raise ConfigError("tool_choice: there are no tools to choose from")
        return None
    if len(tools) > MOST_TOOLS:
        raise ConfigError(f"tools: there are {len(tools)}, but at most {MOST_TOOLS} can be offered")
    found = tuple(_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools))
    names = [tool.name for tool in found]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigError(f"tools[{index}]: there are two tools with the name {name!r}")
    kind, allowed = _chosen(choice, names)
    return AnswerRules(found, kind, allowed, parallel)


def _tool(path: str, tool: object) -> Tool:
    if isinstance(tool, Tool):
        return _checked(path, tool)
    if not isinstance(tool, Mapping):
        raise ConfigError(f"{path}: a tool is an object with a type and a function, not {type(tool).__name__}")
    given = cast("Mapping[str, Any]", tool)
    if given.get("type") != "function":
        raise ConfigError(f"{path}.type: only tools of the type 'function' can be offered, not {given.get('type')!r}")
    function: Any = given.get("function", given)
    if not isinstance(function, Mapping):
        raise ConfigError(f"{path}.function must be an object")
    fields = cast("Mapping[str, Any]", function)
    name, description, parameters = fields.get("name"), fields.get("description"), fields.get("parameters")
    if not isinstance(name, str):
        raise ConfigError(f"{path}: the function has no name")
    if not isinstance(description, str | None):
        raise ConfigError(f"{path}: the description of {name} must be a string")
    try:
        schema = NO_ARGUMENTS if parameters is None else msgspec.json.encode(parameters).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: the parameters of {name} are no JSON: {error}") from error
    return _checked(path, Tool(name, description or "", schema))


def _checked(path: str, tool: Tool) -> Tool:
    if not _NAME.fullmatch(tool.name):
        raise ConfigError(f"{path}: the name {tool.name!r} must have 1 to 64 letters, digits, _ or -")
    try:
        (tool.name + tool.description + tool.parameters).encode()
        checked_schema(tool.parameters)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{path}: not valid Unicode: {error.reason}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: the parameters of {tool.name}: {error}") from error
    return tool


def _chosen(choice: object, names: Sequence[str]) -> tuple[ToolChoice, tuple[str, ...]]:
    """Return whether the answer may or must call tools, and which; no names stand for all tools."""
    if choice is None:
        return "auto", ()
    if isinstance(choice, str):
        return (_CHOICES[choice], ()) if choice in _CHOICES else ("required", (_known(choice, names),))
    if not isinstance(choice, Mapping):
        raise ConfigError(f"tool_choice: {choice!r} is neither a string nor an object")
    given = cast("Mapping[str, Any]", choice)
    if given.get("type") == "function":
        return "required", (_known(_name(given), names),)
    if given.get("type") == "allowed_tools":
        inner = object_of(given.get("allowed_tools", given))
        mode, tools = inner.get("mode"), inner.get("tools")
        if mode in ("auto", "required") and isinstance(tools, Sequence) and tools:
            allowed = tuple(_known(_name(tool), names) for tool in cast("Sequence[object]", tools))
            return _CHOICES[cast("str", mode)], allowed
        raise ConfigError("tool_choice: allowed_tools needs a mode, auto or required, and a list of tools")
    raise ConfigError(
        f"tool_choice.type: {given.get('type')!r} is not supported; it is auto, none, required, or an object of the "
        "type function or allowed_tools"
    )


def _name(tool: object) -> object:
    given = object_of(tool)
    return object_of(given.get("function", given)).get("name")


def _known(name: object, names: Sequence[str]) -> str:
    if not isinstance(name, str) or name not in names:
        raise ConfigError(f"tool_choice: {name!r} is none of the tools: {', '.join(names)}")
    return name
