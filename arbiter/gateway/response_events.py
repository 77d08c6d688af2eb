"""The events of a streamed answer of ``/v1/responses``."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from arbiter.gateway.call_schemas import CallItem
from arbiter.gateway.logprob_schemas import output_tokens
from arbiter.gateway.reasoning import Thoughts
from arbiter.gateway.reasoning_items import Emit, ReasoningEvents, ReasoningItem
from arbiter.gateway.response_bodies import (
    OutputItem,
    OutputMessage,
    OutputText,
    message_item_id,
    reasoning_item_id,
)
from arbiter.gateway.response_schemas import SolutionReport
from arbiter.protocols.messages import Task
from arbiter.protocols.records import AnswerToken


class AnswerEvents:
    """The events of the thought and of the text of an answer.

    The record of a step goes with the text that the step adds. One that adds none, before it is known whether the
    answer has a thought, goes with the next text.
    """

    def __init__(self, emit: Emit, task: Task, thoughts: Thoughts) -> None:
        self._reasoning = ReasoningEvents(emit, reasoning_item_id(task))
        self._message = _MessageEvents(emit, message_item_id(task))
        self._may_think = thoughts.are_separate
        self._waiting: list[SolutionReport] = []

    @property
    def has_message(self) -> bool:
        """Whether the message has begun, or must: there are records for it."""
        return self._message.is_open or bool(self._waiting)

    def added(
        self, reasoning: str, content: str, tokens: Sequence[AnswerToken], extra: SolutionReport | None
    ) -> Iterator[bytes]:
        """Yield the events for further text, the tokens of its content, and the record of a step."""
        if reasoning:
            yield from self._flushed(self._reasoning)
            yield from self._reasoning.added(reasoning, None if content else extra)
        if content or tokens:
            yield from self._reasoning.done()
            self._message.index = int(self._reasoning.has_begun)
            yield from self._flushed(self._message)
            yield from self._message.added(content, tokens, extra)
        elif extra is not None and not reasoning:
            if self._message.is_open or not self._may_think:
                yield from self._message.added("", (), extra)
            elif self._reasoning.has_begun:
                yield from self._reasoning.added("", extra)
            else:
                self._waiting.append(extra)

    def done(self, text: str, output: Sequence[OutputItem]) -> Iterator[bytes]:
        """Yield the events for the end of the answer, whose items are ``output``."""
        for index, item in enumerate(output):
            if isinstance(item, ReasoningItem):
                yield from self._reasoning.done(item.status)
            elif isinstance(item, OutputMessage):
                self._message.index = index
                yield from self._flushed(self._message)
                yield from self._message.done(text, item)

    def _flushed(self, events: "ReasoningEvents | _MessageEvents") -> Iterator[bytes]:
        for extra in self._waiting:
            yield from (events.added("", extra) if isinstance(events, ReasoningEvents) else events.added("", (), extra))
        self._waiting = []


class _MessageEvents:
    """The events of the text of an answer, which is the item ``index`` of the output.

    Its item begins with the first text or record of a step, or with the end of an empty answer. ``is_open`` says
    whether it has begun.
    """

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self._name = name
        self.index = 0
        self.is_open = False

    def added(self, text: str, tokens: Sequence[AnswerToken], extra: SolutionReport | None) -> Iterator[bytes]:
        """Yield the events for further text, the tokens that are complete with it, and the record of a step."""
        if text or tokens or extra:
            yield from self._open()
            logprobs = output_tokens(tokens)
            yield self._emit("output_text.delta", delta=text, logprobs=logprobs, arbiter=extra, **self._path)

    def done(self, text: str, item: OutputMessage) -> Iterator[bytes]:
        """Yield the events for the end of the text, whose message is ``item``."""
        yield from self._open()
        (part,) = item.content
        yield self._emit("output_text.done", text=text, logprobs=part.logprobs, **self._path)
        yield self._emit("content_part.done", part=part, **self._path)
        yield self._emit("output_item.done", item=item, output_index=self.index)

    @property
    def _path(self) -> dict[str, Any]:
        return {"item_id": self._name, "output_index": self.index, "content_index": 0}

    def _open(self) -> Iterator[bytes]:
        if not self.is_open:
            self.is_open = True
            item = OutputMessage(self._name, "in_progress", [])
            yield self._emit("output_item.added", item=item, output_index=self.index)
            yield self._emit("content_part.added", part=OutputText(""), **self._path)


def call_events(emit: Emit, output: Sequence[OutputItem]) -> Iterator[bytes]:
    """Yield the events of the calls in ``output``: each has one delta."""
    for index, item in enumerate(output):
        if not isinstance(item, CallItem):
            continue
        path = {"item_id": item.id, "output_index": index}
        begun = msgspec.structs.replace(item, arguments="", status="in_progress")
        yield emit("output_item.added", item=begun, output_index=index)
        yield emit("function_call_arguments.delta", delta=item.arguments, **path)
        yield emit("function_call_arguments.done", arguments=item.arguments, name=item.name, **path)
        yield emit("output_item.done", item=item, output_index=index)
