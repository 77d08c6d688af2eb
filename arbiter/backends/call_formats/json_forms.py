"""Forms whose calls are JSON: Hermes and Qwen, Llama 3, Mistral, DeepSeek V3."""

import json
import re
from collections.abc import Sequence

from arbiter.backends.call_formats.reading import (
    ElementForm,
    OpenedForm,
    UnreadableError,
    WrittenCalls,
    after_space,
    call_of,
    expect,
    json_object,
    named,
)
from arbiter.protocols.tools import Tool, ToolCall


class Hermes(ElementForm):
    """``<tool_call>{"name": …, "arguments": …}</tool_call>``, one after the other."""

    def take(self, text: str, start: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
        written, end = json_object(text, start + len(self.opening))
        return [call_of(written)], expect(text, end, self.closing)

    def written(self, calls: Sequence[ToolCall]) -> str:
        return "\n".join(f"{self.opening}\n{named(call.name, 'arguments', call)}\n{self.closing}" for call in calls)


class Llama3(WrittenCalls):
    """``{"name": …, "parameters": …}``, and nothing else but the mark ``<|python_tag|>`` before it.

    Its keys have any order, ``arguments`` may be in place of ``parameters``, and there may be others, such as ``type``.
    Several calls are separated by semicolons. Any other JSON, and JSON after a sentence, is text.
    """

    mark = "<|python_tag|>"
    marks = ()
    _named = r'\s*\{\s*(?:"(?:type|name)"\s*:\s*"[^"]*"\s*,\s*)*'
    _begun = re.compile(_named + r'"(?:parameters|arguments)"\s*:')
    _cut = re.compile(_named + r'"(?:[^":]*"?\s*|(?:type|name)"\s*:\s*(?:"[^"]*"?)?\s*)\Z|' + _named + r"(?<!\{)\Z")

    def find(self, text: str, start: int) -> int | None:
        return 0 if start == 0 and self._begins_with_call(text) else None

    def _begins_with_call(self, text: str) -> bool:
        """Return whether a call is the first thing in ``text``, or can be, if the text ends within it."""
        at = after_space(text, 0)
        if not text.startswith("{", at):
            return text.startswith(self.mark, at)
        try:
            written, _ = json_object(text, at)
        except UnreadableError as error:
            return bool(self._begun.match(text) or (error.is_cut and self._cut.match(text)))
        keys = json.loads(written).keys()
        return "name" in keys and not keys.isdisjoint({"parameters", "arguments"})

    def take(self, text: str, start: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
        at, calls = after_space(text, start), list[ToolCall]()
        at += len(self.mark) if text.startswith(self.mark, at) else 0
        while True:
            written, at = json_object(text, at)
            calls.append(call_of(written))
            at = after_space(text, at)
            if not text.startswith(";", at):
                break
            at += 1
        if at != len(text):
            raise UnreadableError(f"the call is followed by {text[at : at + 20]!r}")
        return calls, at

    def written(self, calls: Sequence[ToolCall]) -> str:
        return "; ".join(named(call.name, "parameters", call) for call in calls)


class Mistral(OpenedForm):
    """``[TOOL_CALLS]`` and a list of calls or, from version 11 on, ``[TOOL_CALLS]name[ARGS]{…}`` for each call.

    ``[CALL_ID]`` and an id may precede ``[ARGS]``; the id is skipped.
    """

    opening, arguments = "[TOOL_CALLS]", "[ARGS]"
    marks: tuple[str, ...] = (opening,)
    _name = re.compile(r"[\w.-]+")
    _id = re.compile(r"\[CALL_ID\][\w.-]*")

    def take(self, text: str, start: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
        at = after_space(text, start + len(self.opening))
        name = self._name.match(text, at)
        if name is None:
            written, end = json_object(text, at)
            return _calls_of(written), end
        at = name.end()
        if found := self._id.match(text, at):
            at = found.end()
        if text.startswith("[", at):
            at = expect(text, at, self.arguments)
        written, end = json_object(text, at)
        return [ToolCall("", name[0], written)], end

    def written(self, calls: Sequence[ToolCall]) -> str:
        return f"{self.begun(calls)}]"

    def begun(self, calls: Sequence[ToolCall]) -> str:
        return f"{self.opening}[{', '.join(named(call.name, 'arguments', call) for call in calls)}"


class DeepSeekV3(OpenedForm):
    """Calls between ``<｜tool▁calls▁begin｜>`` and ``<｜tool▁calls▁end｜>``, as versions 3 and 3.1 write them."""

    opening, closing = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
    begin, sep, end = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
    marks = (opening, begin, sep, end, closing)
    _fence = re.compile(r"\s*```json\s*")

    def take(self, text: str, start: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
        at, calls = start + len(self.opening), list[ToolCall]()
        while not calls or text.startswith(self.begin, after_space(text, at)):
            call, at = self._call(text, expect(text, at, self.begin))
            calls.append(call)
        return calls, expect(text, at, self.closing)

    def _call(self, text: str, start: int) -> tuple[ToolCall, int]:
        at = text.find(self.sep, start)
        if at < 0:
            raise UnreadableError(f"the call is cut before {self.sep}", is_cut=True)
        name, at = text[start:at].strip(), at + len(self.sep)
        line = text.find("\n", at)
        if name == "function" and line >= 0 and (fence := self._fence.match(text, line)):
            name, at = text[at:line].strip(), fence.end()
            written, at = json_object(text, at)
            at = expect(text, at, "```")
        else:
            written, at = json_object(text, at)
        return ToolCall("", name, written), expect(text, at, self.end)

    def written(self, calls: Sequence[ToolCall]) -> str:
        return self.begun(calls) + self.closing

    def begun(self, calls: Sequence[ToolCall]) -> str:
        each = [f"function{self.sep}{call.name}\n```json\n{call.arguments}\n```" for call in calls]
        return self.opening + "\n".join(f"{self.begin}{call}{self.end}" for call in each)


def _calls_of(written: str) -> list[ToolCall]:
    """Return the calls of a JSON list. Raises ``UnreadableError``."""
    if written.startswith("{"):
        return [call_of(written)]
    calls, at = list[ToolCall](), 1
    while (at := after_space(written, at)) < len(written) - 1:
        if written[at] == ",":
            at += 1
            continue
        one, at = json_object(written, at)
        calls.append(call_of(one))
    if not calls:
        raise UnreadableError("the list of calls is empty")
    return calls
