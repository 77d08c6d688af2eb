"""Tools and their calls, as data: what a model may call, what it called, and which answers a request allows.

Schemas and arguments are JSON texts, exactly as they were sent or written. So they can be shared, compared and hashed,
and no number in them changes.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

ToolChoice = Literal["auto", "none", "required"]
"""Whether an answer may call tools (``auto``), must not (``none``), or must (``required``)."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much a model is to think before it answers. ``none``: not at all."""

NO_ARGUMENTS = '{"type":"object","properties":{}}'
"""The JSON schema of a tool without arguments."""


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tool that the models may call.

    ``parameters`` is the JSON schema of its arguments, as JSON text. Arguments are always checked against it.
    """

    name: str
    description: str = ""
    parameters: str = NO_ARGUMENTS


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call of the tool ``name``. ``arguments`` is JSON text, as the model wrote it.

    ``id`` connects the call with its result. A model in whose format calls have no ids leaves it empty, and the ring
    sets it.
    """

    id: str
    name: str
    arguments: str

    @property
    def text(self) -> str:
        """The call as one line of JSON, in the one form that routers and reward models read.

        Arguments that are no JSON are a string in it.
        """
        return f'{{"name": {_string(self.name)}, "arguments": {one_line(self.arguments)}}}'


class AnswerRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which answers to a question are allowed.

    - ``tools`` are the tools, in the order in which the prompt has them.
    - ``choice`` says whether the answer may or must call some.
    - ``allowed`` are the names of the tools that it may call; empty for all.
    - ``parallel`` is False if it may make only one call.
    - ``schema`` is the JSON schema, as JSON text, that an answer without calls must fit; None if any text may answer. A
      thought at the beginning of the answer is no part of it. It ends at its first closing mark.
    - ``effort`` is how much the models are to think, as their prompts request it; None for their usual prompts.
    """

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice = "auto"
    allowed: tuple[str, ...] = ()
    parallel: bool = True
    schema: str | None = None
    effort: Effort | None = None

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that the prompts name: none if none may be called."""
        return () if self.choice == "none" else self.tools


def one_line(arguments: str) -> str:
    """Return JSON text on one line, its strings and numbers unchanged.

    A text that is no JSON, or is nested too deeply to be read, becomes a JSON string.
    """
    try:
        return msgspec.json.format(arguments, indent=0)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _string(arguments)


def step_text(content: str, calls: Iterable[ToolCall]) -> str:
    """Return the text of a step with calls: its ``content``, if any, then one line per call."""
    return "\n".join([*([content] if content else []), *(call.text for call in calls)])


def content_of(text: str, calls: Iterable[ToolCall]) -> str:
    """Return what the text of a step has before its calls; the whole text if it has none. Inverse of ``step_text``."""
    lines = "\n".join(call.text for call in calls)
    return text.removesuffix(lines).removesuffix("\n") if lines and text.endswith(lines) else text


def _string(text: str) -> str:
    return msgspec.json.encode(text).decode()
