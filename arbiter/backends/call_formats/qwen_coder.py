"""The form of Qwen3-Coder: a call is markup with one element per argument."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from arbiter.backends.call_formats.reading import ElementForm, UnreadableError, after_space, expect
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.tools import Tool, ToolCall
from arbiter.structured.validation import violation_of

_NAME = re.compile(r"([^>\n]*)>")


class QwenCoder(ElementForm):
    """``<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>``.

    Values are texts. One whose schema is not a string's is read as JSON where it is JSON, unless the schema admits the
    text and not what the JSON says.
    """

    def take(self, text: str, start: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
        name, at = _named(text, expect(text, start + len(self.opening), "<function="))
        schema, values = _schema(name, tools), dict[str, Any]()
        while text.startswith("<parameter=", begin := after_space(text, at)):
            key, at = _named(text, begin + len("<parameter="))
            end = text.find("</parameter>", at)
            if end < 0:
                raise UnreadableError(f"the call is cut within {key}", is_cut=True)
            if key in values:
                raise UnreadableError(f"the call has two values of {key}")
            values[key] = _value(_unwrapped(text[at:end]), key, schema)
            at = end + len("</parameter>")
        end = expect(text, expect(text, at, "</function>"), self.closing)
        try:
            arguments = json.dumps(values, ensure_ascii=False)
        except RecursionError as error:
            raise UnreadableError("the call is nested too deeply") from error
        return [ToolCall("", name, arguments)], end

    def written(self, calls: Sequence[ToolCall]) -> str:
        return "\n".join(map(_written, calls))


def _written(call: ToolCall) -> str:
    values: dict[str, Any] = json.loads(call.arguments)
    each = "".join(f"<parameter={key}>\n{_text(value)}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={call.name}>\n{each}</function>\n</tool_call>"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _named(text: str, start: int) -> tuple[str, int]:
    found = _NAME.match(text, start)
    if found is None:
        is_cut = not {">", "\n"} & {*text[start:]}
        raise UnreadableError("a name in the call does not end", is_cut)
    return found[1].strip(), found.end()


def _unwrapped(text: str) -> str:
    return text.removeprefix("\n").removesuffix("\n")


def _schema(name: str, tools: Sequence[Tool]) -> Mapping[str, Any]:
    """Return the schema of a tool's arguments; empty if it is not known or says nothing."""
    tool = next((tool for tool in tools if tool.name == name), None)
    schema: Any = {} if tool is None else msgspec.json.decode(tool.parameters)
    return cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}


def _value(text: str, key: str, schema: Mapping[str, Any]) -> object:
    properties: Any = schema.get("properties")
    own: Any = cast("dict[str, Any]", properties).get(key) if isinstance(properties, dict) else None
    kind = cast("dict[str, Any]", own).get("type") if isinstance(own, dict) else None
    if kind == "string":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_certain = not own or isinstance(kind, str) or isinstance(value, str)
    return value if is_certain or _fits(text, key, schema) or not _fits(json.dumps(text), key, schema) else text


def _fits(value: str, key: str, schema: Mapping[str, Any]) -> bool:
    """Return whether ``value``, as JSON text, may be the argument ``key``, whichever others there are."""
    try:
        alone = {name: said for name, said in schema.items() if name != "required"}
        return violation_of(alone, f"{{{json.dumps(key)}: {value}}}") is None
    except ConfigError:
        return False
