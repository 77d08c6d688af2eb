"""Decode the body of a request, and refuse what cannot be honoured."""

from typing import Any, TypeVar, cast

import msgspec

from arbiter.gateway.schemas import (
    AnyBody,
    ChatMessage,
    ContentPart,
    Extras,
    InputItem,
    JsonSchema,
    ReasoningOptions,
    ResponseFormat,
    StreamOptions,
    TextFormat,
    TextOptions,
)
from arbiter.protocols.errors import RequestError

Body = TypeVar("Body", bound=AnyBody)

_EMPTY: tuple[Any, ...] = ("", [], {})
"""Values that have no effect, as null does."""

NESTED: dict[str, type[Any]] = {
    "arbiter": Extras,
    "stream_options": StreamOptions,
    "messages": ChatMessage,
    "input": InputItem,
    "content": ContentPart,
    "output": ContentPart,
    "reasoning": ReasoningOptions,
    "summary": ContentPart,
    "response_format": ResponseFormat,
    "json_schema": JsonSchema,
    "text": TextOptions,
    "format": TextFormat,
}
"""The objects within bodies, by the name of their field."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "background": (False,),
    "best_of": (1,),
    "context_management": (),
    "conversation": (),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": (),
    "include_obfuscation": (False,),
    "logit_bias": (),
    "max_tool_calls": (),
    "modalities": (["text"],),
    "prediction": (),
    "previous_response_id": (),
    "prompt": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": (),
    "truncation": ("disabled",),
    "verbosity": (),
    "web_search_options": (),
}
"""Fields that cannot be honoured, with the values that have no effect, besides null and empty ones.

Other values are refused. The endpoint has no encrypted reasoning: clients send its text back.
"""

_ASKING_WHEN_EMPTY = ("web_search_options",)  # an empty object switches the search on


def read(raw: bytes, kind: type[Body]) -> Body:
    """Return the decoded body of a request.

    Raises ``RequestError`` naming the field that is not valid, unknown, or cannot be honoured.
    """
    try:
        body = msgspec.convert(_without_ignorable_fields(msgspec.json.decode(raw), kind), kind)
    except msgspec.ValidationError as error:
        raise _format_error(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from error
    except RecursionError as error:
        raise RequestError("the body is nested too deeply", code="invalid_json") from error
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options requires stream: true", code="invalid_value", param="stream_options")
    _refuse(body)
    return body


def refused_fields(kind: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Return the fields that are accepted only with values without an effect, and these values.

    They are those of a body, or of an object within bodies.
    """
    return {name: _NEUTRAL[name] for name in kind.__struct_fields__ if name in _NEUTRAL and _is_any(kind, name)}


def _refuse(given: msgspec.Struct, path: str = "") -> None:
    """Raise ``RequestError`` for a field of a body, or of an object at ``path`` in it, that cannot be honoured."""
    for name, neutral in refused_fields(type(given)).items():
        value = _filled(getattr(given, name))
        if not _is_empty(value, name) and not any(_same(value, allowed) for allowed in neutral):
            raise RequestError(
                f"{path}{name} cannot be honoured: leave it out{_allowed(neutral)}",
                code="unsupported_parameter",
                param=f"{path}{name}",
            )
    for name in given.__struct_fields__:
        if isinstance(inner := getattr(given, name), msgspec.Struct):
            _refuse(inner, f"{path}{name}.")


def empty_values(name: str) -> list[Any]:
    """Return the empty values of the field ``name`` that have no effect."""
    return [None, *(value for value in _EMPTY if name not in _ASKING_WHEN_EMPTY)]


def _without_ignorable_fields(value: Any, kind: type[Any], in_answer: bool = False) -> Any:  # noqa: ANN401
    """Return ``value`` without the unknown fields that have no effect.

    These are null or empty or, with ``in_answer`` or in a turn of the assistant, describe what was said.
    """
    if isinstance(value, list):
        return [_without_ignorable_fields(item, kind, in_answer) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    is_turn = kind in (ChatMessage, InputItem)
    in_answer = in_answer or (is_turn and (fields.get("role") == "assistant" or fields.get("type") == "reasoning"))
    return {
        name: _without_ignorable_fields(item, NESTED[name], in_answer) if name in NESTED else item
        for name, item in fields.items()
        if name in kind.__struct_fields__ or not (in_answer or item is None or item in _EMPTY)
        if not (kind is ChatMessage and name in ("tool_calls", "tool_call_id") and item in _EMPTY)
    }


def _filled(value: Any) -> Any:  # noqa: ANN401
    """Return ``value`` without the null and empty fields of its objects."""
    if not isinstance(value, dict):
        return value
    fields = {name: _filled(item) for name, item in cast("dict[str, Any]", value).items()}
    return {name: item for name, item in fields.items() if item is not None and item not in _EMPTY}


def _is_empty(value: object, name: str) -> bool:
    return value is None or (value in _EMPTY and name not in _ASKING_WHEN_EMPTY)


def _is_any(kind: type[Any], name: str) -> bool:
    return next(field.type for field in msgspec.structs.fields(kind) if field.name == name) is Any


def _same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _allowed(neutral: tuple[Any, ...]) -> str:
    values = " or ".join(msgspec.json.encode(value).decode() for value in neutral)
    return f", or send {values}" if values else ""


def _format_error(error: str) -> RequestError:
    """Return msgspec's error as a ``RequestError``, with the name of the field in ``param``."""
    what, _, location = error.rpartition(" - at `$")
    if not what:
        what, location = error, ""
    path = location.strip("`.").replace("[...]", "[]")
    if "unknown field" in what:
        name = what.partition("`")[2].partition("`")[0]
        param = f"{path}.{name}" if path else name
        return RequestError(f"Unrecognized request argument supplied: {param}", code="unknown_parameter", param=param)
    if "missing required field" in what:
        name = what.partition("`")[2].partition("`")[0]
        param = f"{path}.{name}" if path else name
        return RequestError(f"{param} is missing", code="missing_required_parameter", param=param)
    message = f"{path}: {what}" if path else what
    return RequestError(message, code="invalid_value", param=path or None)
