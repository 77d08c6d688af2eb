"""Steps through ``/v1/chat/completions``, for hosts that have no ``/v1/completions``.

The question is a message of the user, and the steps before are the beginning of the assistant's message, which the host
continues. Hosts differ in how this is requested (``Continuation``), and many begin a new answer instead. So small
requests find out at the start what the host does, and a host that does not continue is refused.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.completion_answers import (
    CompletionAnswer,
    ServerUsage,
    check_reason,
    checked,
    first,
    requested,
)
from arbiter.backends.served.logprobs import Logprobs
from arbiter.backends.served.refusals import excerpt
from arbiter.backends.served.transport import Transport, UnreachableError
from arbiter.protocols.errors import BackendError
from arbiter.protocols.records import Transcript, Turn, Usage
from arbiter.structured.thoughts import THOUGHT_MARKS

PATH = "/v1/chat/completions"
Continuation = Literal["continue_final_message", "prefix", "prefill"]
"""How a host is requested to continue the last message, which is the assistant's.

- ``continue_final_message``: by this field of the request (sglang, vLLM, TGI);
- ``prefix``: by the field ``prefix`` of the message (DeepSeek, Mistral);
- ``prefill``: without a field.
"""
Messages = list[dict[str, Any]]

_FIELD: Continuation = "continue_final_message"
_QUESTION = "Write the seven days of the week in English, each in a paragraph of its own."
_DAYS = ("Thursday", "Friday", "Satur")  # a new answer begins with another day, and never inside a word
_REST, _NEXT = "day", "Sunday"
_TRIAL_TOKENS = 8
_VISIBLE = "\n\n##"


class Continued(msgspec.Struct, frozen=True):
    """How a host continues a partial answer. ``repeats``: its answer begins with the partial one."""

    way: Continuation
    repeats: bool = False


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None  # sglang, vLLM, DeepSeek
    reasoning: str | None = None  # vLLM, OpenRouter
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None
    matched_stop: str | int | list[int] | msgspec.UnsetType | None = msgspec.UNSET
    stop_reason: str | int | msgspec.UnsetType | None = msgspec.UNSET
    logprobs: Logprobs | None = None
    index: int = 0


class _ChatCompletion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: ServerUsage | None = None


_DECODER = msgspec.json.Decoder(_ChatCompletion)


class ChatRequests:
    """Requests of a ``ServedGenerator`` to a host that continues partial answers as ``continued`` says."""

    def __init__(self, transport: Transport, template: PromptTemplate, continued: Continued) -> None:
        self._transport = transport
        self._template = template
        self._continued = continued

    @property
    def continued(self) -> Continued:
        """How the host continues a partial answer."""
        return self._continued

    async def complete(
        self, transcript: Transcript, separator: str, written: str, body: Mapping[str, Any], problem: str
    ) -> tuple[CompletionAnswer, Usage]:
        """Return what follows the steps of ``transcript`` and the text ``written`` after them, and its tokens.

        Raises as ``complete_chat``, and ``BackendError`` for steps with a thought, which templates rewrite: Qwen3's
        puts an empty thought before an open one, and DeepSeek's leaves out a closed one.
        """
        messages = chat_messages(self._template, transcript)
        partial = self._template.render_steps(transcript, separator) + written
        if any(mark in partial for mark in THOUGHT_MARKS):
            raise BackendError(
                f"{self._transport.address.at(PATH)} cannot continue steps with a thought: the chat templates of "
                "models that think rewrite it. Switch thinking off, or serve the model with /v1/completions (and leave "
                "api out)"
            )
        return await complete_chat(self._transport, messages, body, problem, partial, self._continued)


def chat_messages(template: PromptTemplate, transcript: Transcript) -> Messages:
    """Return the turns and the question as messages. Instructions of the conversation replace those of the template."""
    turns = (*template.turns_of(transcript), Turn("user", template.message(transcript)))
    return [{"role": turn.role, "content": turn.text} for turn in turns]


def chat_logprobs(count: int) -> dict[str, Any]:
    """Return the fields that request ``count`` alternatives per token."""
    return {"logprobs": True, "top_logprobs": count}


async def complete_chat(
    transport: Transport,
    messages: Messages,
    body: Mapping[str, Any],
    problem: str,
    partial: str = "",
    continued: Continued | None = None,
) -> tuple[CompletionAnswer, Usage]:
    """Request an answer to ``messages`` that continues ``partial``. Return the new text and its tokens.

    Raises ``BackendError`` as ``complete``, and for a thought apart from the text, a refusal, or a repeated beginning
    that is not ``partial``.
    """
    where = transport.address.at(PATH)
    sent = {**body, "messages": messages}
    if partial and continued:
        sent |= _continuing(messages, partial, continued.way)
    repeated = partial if continued and continued.repeats else ""

    def read(answer: _ChatCompletion) -> tuple[CompletionAnswer, Usage]:
        choices = [_as_completion(first(answer.choices), repeated, where)] if answer.choices else []
        return checked(choices, answer.usage, body["max_tokens"], sent["messages"], where)

    return await requested(transport, PATH, sent, problem, _DECODER, read)


async def find_continuation(transport: Transport, model: str, separator: str) -> Continued:
    """Return how the host continues a partial answer. At most seven requests of a few tokens find out.

    One partial answer ends inside a word, so that a new turn cannot pass for its continuation. The other ends with the
    separator, which some hosts remove. Raises ``BackendError`` with what the host answered if it does not continue
    both, and for any failure of a request without a partial answer.
    """
    body = {"model": model, "max_tokens": _TRIAL_TOKENS, "temperature": 0, "stop": [separator]}
    messages = [{"role": "user", "content": _QUESTION}]
    await complete_chat(transport, messages, body, "")
    reasons: list[str] = []
    for way in get_args(Continuation):
        try:
            found = await _tried(transport, body, messages, way)
        except UnreachableError:
            raise
        except BackendError as error:
            reasons.append(f"{way}: {error}")
        else:
            if isinstance(found, Continued):
                return found
            reasons.append(f"{way}: {found}")
    raise BackendError(
        f"{transport.address.at(PATH)} does not continue a partial answer, which every step after the first needs. Use "
        f"a host that does, or one with /v1/completions (and leave api out). {'; '.join(reasons)}"
    )


async def _tried(
    transport: Transport, body: Mapping[str, Any], messages: Messages, way: Continuation
) -> Continued | str:
    """Return how the host continues in this way; a text that says why it does not."""
    (separator,) = body["stop"]
    inside = separator.join(_DAYS)
    choice, _ = await complete_chat(transport, messages, body, "", inside, Continued(way))
    repeats = choice.text.startswith(inside)
    if not choice.text.removeprefix(inside).startswith(_REST):
        return f"after {inside!r} it wrote {choice.text!r}, not {_REST!r}"
    whole = inside + _REST + separator
    choice, _ = await complete_chat(transport, messages, body, "", whole, Continued(way))
    if not choice.text.removeprefix(whole).lstrip().startswith(_NEXT):
        return (
            f"after {whole!r} it wrote {choice.text!r}, not {_NEXT!r}. It continues a partial answer, but removes the "
            f"separator at its end: set separator to a text that does not end with a blank, such as {_VISIBLE!r}"
        )
    return Continued(way, repeats)


def _continuing(messages: Messages, partial: str, way: Continuation) -> dict[str, Any]:
    """Return the fields of a request to continue ``partial`` after ``messages``."""
    last: dict[str, Any] = {"role": "assistant", "content": partial}
    if way == "prefix":
        last["prefix"] = True
    fields = {"continue_final_message": True, "add_generation_prompt": False} if way == _FIELD else {}
    return {"messages": [*messages, last], **fields}


def _as_completion(choice: _Choice, repeated: str, where: str) -> CompletionAnswer:
    """Return the choice in the form of ``/v1/completions``, without the text ``repeated`` at its beginning.

    Raises as ``complete_chat``.
    """
    check_reason(choice.finish_reason, where)
    message, text = choice.message, choice.message.content or ""
    if (message.reasoning_content or message.reasoning or "").strip():
        raise BackendError(
            f"{where} answered with a thought apart from the text. Steps of a thought cannot be continued there: "
            "switch thinking off at the host, or its separation of thoughts, or use a model that does not think"
        )
    if message.refusal:
        raise BackendError(f"{where} refused to answer: {excerpt(message.refusal, None)}")
    if not text.startswith(repeated):
        raise BackendError(f"{where} began a new answer, although it continued a partial one at the start of the run")
    return CompletionAnswer(
        text[len(repeated) :],
        choice.finish_reason,
        choice.matched_stop,
        choice.stop_reason,
        logprobs=choice.logprobs,
        index=choice.index,
    )
