"""Answers of ``/v1/completions`` that arrive as server-sent events.

The text is passed on as it arrives. The whole answer is then read as any other: its chunks joined are the body of a
plain answer.

Sources: sglang 0.5.23 (``matched_stop``) and vLLM 0.32.0 (``stop_reason``) have the reason why an answer ended in the
chunk that has its ``finish_reason``; both send the usage in a last chunk without choices.
"""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from arbiter.backends.served.refusals import stated_error
from arbiter.backends.served.transport import Hear
from arbiter.protocols.ports import Say
from arbiter.structured.partial_marks import settled

FIELDS: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
"""The fields that request a stream, with the usage at its end."""

_DATA, _DONE = b"data:", b"[DONE]"


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[dict[str, Any]] = []
    content: str = ""  # llama.cpp's own form has no choices
    usage: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(_Chunk)


def hearing_of(separator: str, say: Say | None) -> Callable[[], Hear] | None:
    """Return what makes the reader of each attempt at an answer; None without ``say``.

    ``say`` takes what is known of the step, which ends at ``separator``.
    """
    return None if say is None else lambda: _StreamedText(separator, say).hear


class _StreamedText:
    """The text of one answer while it arrives."""

    def __init__(self, separator: str, say: Say) -> None:
        self._separator = separator
        self._say = say
        self._text = ""
        self._line = b""

    def hear(self, part: bytes) -> None:
        """Take a further part of the body."""
        *lines, self._line = (self._line + part).split(b"\n")
        more = "".join(_text(chunk) for line in lines for chunk in _chunks(line))
        if more:
            self._text += more
            text, found, _ = self._text.partition(self._separator)
            self._say(text if found else settled(text, (self._separator,)))


def _text(chunk: _Chunk) -> str:
    return chunk.content + "".join(str(choice.get("text") or "") for choice in chunk.choices)


def joined(body: bytes) -> bytes:
    """Return the plain answer of which ``body`` has the chunks. The body of an answer that is no stream stays.

    An error in a stream is the whole answer, and of a stream without chunks nothing is left.
    """
    if body.lstrip().startswith(b"{"):
        return body
    choices, usage = dict[int, dict[str, Any]](), None
    for line in body.splitlines():
        if stated_error(data_of(line)):
            return data_of(line)
        for chunk in _chunks(line):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                index = choice.get("index", 0)
                choices[index] = _with_more(choices.get(index), choice)
    if not choices and usage is None:
        return b""
    return msgspec.json.encode({"choices": [*choices.values()], "usage": usage})


def _with_more(before: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    """Return a choice with the text and tokens of a further chunk. Other fields are those of the chunk that ends it."""
    if before is None:
        return more
    text = str(before.get("text") or "") + str(more.get("text") or "")
    joined = {**(before if before.get("finish_reason") else more), "text": text}
    given = before.get("token_ids"), more.get("token_ids")
    return joined if given == (None, None) else {**joined, "token_ids": [one for ids in given for one in ids or ()]}


def _chunks(line: bytes) -> Iterator[_Chunk]:
    """Yield the chunk in a line of a stream, if it has one. One that is cut is left out: its answer has no end."""
    try:
        yield _DECODER.decode(data_of(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return


def data_of(line: bytes) -> bytes:
    """Return the data in a line of a stream; empty if it has none."""
    data = line.strip().removeprefix(_DATA) if line.startswith(_DATA) else b""
    return b"" if data.strip() == _DONE else data
