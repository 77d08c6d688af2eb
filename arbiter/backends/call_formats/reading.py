"""What all forms share: find the calls in the text of a whole step, or say why one cannot be read.

A form says how a call begins and reads it to its end. A text that ends within a call has no call, however much of it is
there. So nothing is ever read from the pieces of a stream.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from arbiter.protocols.tools import Tool, ToolCall

_JSON = json.JSONDecoder()
_SPACE = re.compile(r"\s*")


class UnreadableError(Exception):
    """A call cannot be read. ``is_cut``: the text ends within it, so more text may complete it."""

    def __init__(self, reason: str, is_cut: bool = False) -> None:
        super().__init__(reason)
        self.is_cut = is_cut


class ReadStep(NamedTuple):
    """A step without its calls, and the calls.

    ``violation`` says why a call in the text cannot be read; ``content`` is then the whole text, and there are no
    calls. ``is_open`` is True if the text ends within a call.
    """

    content: str
    calls: tuple[ToolCall, ...] = ()
    violation: str | None = None
    is_open: bool = False


class CallForm(Protocol):
    """The form in which a family of models writes calls. ``marks`` are texts that its calls must contain."""

    marks: tuple[str, ...]

    def find(self, text: str, start: int) -> int | None:
        """Return where the next call begins in ``text``, from ``start`` on; None if there is none."""
        ...

    def take(self, text: str, start: int, tools: Sequence[Tool]) -> tuple[list[ToolCall], int]:
        """Return the calls that begin at ``start``, and where their markup ends. Raises ``UnreadableError``."""
        ...

    def written(self, calls: Sequence[ToolCall]) -> str:
        """Return ``calls`` as the models write them."""
        ...

    def begun(self, calls: Sequence[ToolCall]) -> str:
        """Return ``calls`` as the models write them, up to where a further call can follow."""
        ...


class WrittenCalls(ABC):
    """The base of forms whose calls can be followed by another as they are."""

    @abstractmethod
    def written(self, calls: Sequence[ToolCall]) -> str:
        """Return ``calls`` as the models write them."""

    def begun(self, calls: Sequence[ToolCall]) -> str:
        """Return ``calls`` as the models write them, up to where a further call can follow."""
        return self.written(calls)


class OpenedForm(WrittenCalls):
    """The base of forms whose calls begin with the mark ``opening``."""

    opening: str

    def find(self, text: str, start: int) -> int | None:
        found = text.find(self.opening, start)
        return None if found < 0 else found


class ElementForm(OpenedForm):
    """The base of forms whose calls are elements ``<tool_call>``."""

    opening, closing = "<tool_call>", "</tool_call>"
    marks = (opening, closing)


def read_step(form: CallForm, text: str, tools: Sequence[Tool] = ()) -> ReadStep:
    """Return the calls in the text of a whole step, and the text around them."""
    calls, content, end = list[ToolCall](), list[str](), 0
    try:
        while (start := form.find(text, end)) is not None:
            content.append(text[end:start])
            taken, end = form.take(text, start, tools)
            _refuse_half_pairs(taken)
            calls += taken
    except UnreadableError as error:
        return ReadStep(text, (), str(error), error.is_cut)
    if not calls:
        return ReadStep(text)
    first, *more = [*content, text[end:]]
    parts = [first.rstrip(), *(part.strip() for part in more)]
    return ReadStep("\n".join(part for part in parts if part), tuple(calls))


def read_after(form: CallForm, before: Sequence[ToolCall], text: str, tools: Sequence[Tool] = ()) -> ReadStep:
    """Return the calls in the text of a step that goes on after the calls ``before`` of the same answer."""
    if not before or not text.strip():
        return read_step(form, text, tools)
    step = read_step(form, form.begun(before) + text, tools)
    if step.violation is not None:
        return ReadStep(text, (), step.violation, step.is_open)
    return ReadStep(step.content, step.calls[len(before) :])


def _refuse_half_pairs(calls: Sequence[ToolCall]) -> None:
    """Raise ``UnreadableError`` for a lone surrogate, which no text that is sent or logged can have."""
    try:
        "".join(call.name + call.arguments for call in calls).encode()
    except UnicodeEncodeError as error:
        raise UnreadableError("the call has a lone surrogate") from error


def json_object(text: str, start: int) -> tuple[str, int]:
    """Return the JSON object that begins at ``start``, as text, and where it ends. Raises ``UnreadableError``.

    The object is cut if the text ends within it.
    """
    begin = after_space(text, start)
    if begin == len(text):
        raise UnreadableError("the call is cut before its JSON", is_cut=True)
    if text[begin] not in "{[":
        raise UnreadableError(f"the call has {text[begin : begin + 20]!r} in place of JSON")
    try:
        _, end = _JSON.raw_decode(text, begin)
    except json.JSONDecodeError as error:
        if _ends_inside(text, begin):
            raise UnreadableError("the call is cut within its JSON", is_cut=True) from error
        raise UnreadableError(f"the call is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise UnreadableError("the call is nested too deeply") from error
    return text[begin:end], end


class _Written(msgspec.Struct, frozen=True):
    name: str
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: str = ""


def call_of(written: str) -> ToolCall:
    """Return the call of a JSON object with ``name``, and ``arguments`` or ``parameters``. Raises ``UnreadableError``.

    Arguments that are a JSON string are taken out of it: some models write them so.
    """
    try:
        call = msgspec.json.decode(written, type=_Written)
        arguments = call.arguments if call.arguments is not msgspec.UNSET else call.parameters
        text = "{}" if arguments is msgspec.UNSET else bytes(arguments).decode()
        return ToolCall(call.id, call.name, msgspec.json.decode(text, type=str) if text.startswith('"') else text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise UnreadableError(f"the call is no object with a name and arguments: {error}") from error


def named(name: str, key: str, call: ToolCall) -> str:
    """Return a call as a JSON object with its ``name`` and its arguments, which has ``key``."""
    return f'{{"name": {json.dumps(name)}, {json.dumps(key)}: {call.arguments}}}'


def expect(text: str, start: int, mark: str) -> int:
    """Return where ``mark`` ends, which must follow at ``start``, after white space. Raises ``UnreadableError``."""
    begin = after_space(text, start)
    if text.startswith(mark, begin):
        return begin + len(mark)
    rest = text[begin:]
    if mark.startswith(rest):
        raise UnreadableError(f"the call is cut before {mark}", is_cut=True)
    raise UnreadableError(f"the call has {rest[:20]!r} in place of {mark}")


def after_space(text: str, start: int) -> int:
    """Return the place of the first character at ``start`` or after it that is no white space."""
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _ends_inside(text: str, start: int) -> bool:
    """Whether the brackets or the string that are open at ``start`` are still open at the end of ``text``."""
    depth, in_string, escaped = 0, False, False
    for char in text[start:]:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        else:
            depth += (char in "{[") - (char in "}]")
            if not depth:
                return False
    return True
