"""Thoughts in ``/v1/responses``: as items of an output, in streams, and as items of a history."""

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import msgspec

from arbiter.gateway.response_schemas import SolutionReport
from arbiter.gateway.schemas import InputItem

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class ReasoningText(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """The text of a thought."""

    text: str


class ReasoningItem(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """The thought before an answer, as an item of the output. Nothing summarizes it."""

    id: str
    status: ItemStatus
    content: list[ReasoningText]
    summary: list[ReasoningText] = []
    encrypted_content: None = None


class Emit(Protocol):
    """Makes an event of a kind, with fields."""

    def __call__(self, kind: str, **fields: Any) -> bytes: ...  # noqa: ANN401


class ReasoningEvents:
    """The events of the thought of an answer: the first item of its output.

    The item begins with the first text. ``has_begun`` says whether it has.
    """

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self._name = name
        self._path = {"item_id": name, "output_index": 0, "content_index": 0}
        self._text = ""
        self._is_open = False
        self.has_begun = False

    def added(self, text: str, extra: SolutionReport | None) -> Iterator[bytes]:
        """Yield the events for further text, with the record of a step."""
        if not self.has_begun:
            self.has_begun = self._is_open = True
            yield self._emit("output_item.added", item=ReasoningItem(self._name, "in_progress", []), output_index=0)
            yield self._emit("content_part.added", part=ReasoningText(""), **self._path)
        self._text += text
        yield self._emit("reasoning_text.delta", delta=text, arbiter=extra, **self._path)

    def done(self, status: ItemStatus = "completed") -> Iterator[bytes]:
        """Yield the events for the end of the thought, if it has begun and has not ended."""
        if not self._is_open:
            return
        self._is_open = False
        part = ReasoningText(self._text)
        yield self._emit("reasoning_text.done", text=self._text, **self._path)
        yield self._emit("content_part.done", part=part, **self._path)
        yield self._emit("output_item.done", item=ReasoningItem(self._name, status, [part]), output_index=0)


def thought_of(item: InputItem) -> str:
    """Return the text of a reasoning item of a history: its content, or else its summary. It may have neither."""
    if isinstance(item.content, str):
        return item.content
    return "".join(part.text or "" for part in item.content or ()) or "\n\n".join(
        part.text for part in item.summary or () if part.text
    )


def add_thought(messages: list[dict[str, Any]], thought: str) -> None:
    """Add a thought to the assistant's message that ends ``messages``, which may have one already."""
    thoughts = [messages[-1].get("reasoning_content", ""), thought]
    messages[-1] = {**messages[-1], "reasoning_content": "\n\n".join(filter(None, thoughts))}
