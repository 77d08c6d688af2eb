"""The form of gpt-oss (harmony): a call is a message to a function, in the channel for commentary."""

import re
from collections.abc import Sequence

from arbiter.backends.call_formats.reading import OpenedForm, UnreadableError, expect, json_object
from arbiter.protocols.tools import Tool, ToolCall


class Harmony(OpenedForm):
    """``<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>``."""

    opening, message, closing = "<|channel|>commentary to=", "<|message|>", "<|call|>"
    marks: tuple[str, ...] = ("<|channel|>", message, closing)
    _header = re.compile(r"(?:functions\.)?([\w.-]+)\s*(?:<\|constrain\|>)?\w*\s*<\|message\|>")

    def take(self, text: str, start: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
        at = start + len(self.opening)
        header = self._header.match(text, at)
        if header is None:
            is_cut = self.message not in text[at:]
            raise UnreadableError(f"the call has {text[at : at + 20]!r} in place of a function", is_cut)
        written, end = json_object(text, header.end())
        return [ToolCall("", header[1], written)], expect(text, end, self.closing)

    def written(self, calls: Sequence[ToolCall]) -> str:
        return "".join(
            f"{self.opening}functions.{call.name} <|constrain|>json{self.message}{call.arguments}{self.closing}"
            for call in calls
        )
