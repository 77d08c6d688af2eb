"""Answers of ``/v1/completions``: what a request returns, what ended it, and how many tokens it took.

An answer that was broken off, and counts that cannot be, are errors.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from arbiter.backends.served.completion_streams import FIELDS, joined
from arbiter.backends.served.logprobs import Logprobs, written_count
from arbiter.backends.served.refusals import understood
from arbiter.backends.served.transport import Hear, Result, TemporaryError, Transport, persistent
from arbiter.config.model_tables import ServedEngine
from arbiter.protocols.errors import BackendError
from arbiter.protocols.records import StopReason, Usage

PATH = "/v1/completions"
_REASONS: Mapping[str, StopReason | None] = {
    "stop": None,
    "length": "limit",
    "eos_token": "end",  # TGI
    "stop_sequence": "separator",  # TGI, Anthropic
    "end_turn": "end",  # Anthropic
    "max_tokens": "limit",  # Anthropic
    "model_length": "limit",  # Mistral
}
"""The reasons for which an answer is complete, and how it then ended; None if the reason does not say."""
_PERMANENT = frozenset({"content_filter"})  # the same request would be broken off again
_BYTES_PER_TOKEN = 4  # of a text whose tokens are not counted
_SPARE_TOKENS = 4096  # that a server may put around a prompt


class _Indexed(Protocol):
    @property
    def index(self) -> int: ...


Choice = TypeVar("Choice", bound=_Indexed)
Number = int | float | str | None


class CacheDetails(msgspec.Struct, frozen=True):
    """How many tokens of a prompt came from a cache."""

    cached_tokens: Number = 0


class ServerUsage(msgspec.Struct, frozen=True):
    """The token counts that a server reports for a request. Any of them may be missing, or a number in a text."""

    prompt_tokens: Number = 0
    completion_tokens: Number = 0
    prompt_tokens_details: CacheDetails | None = None


class CompletionAnswer(msgspec.Struct, frozen=True):
    """One answer. The fields of other engines are unset."""

    text: str
    finish_reason: str | None = None
    matched_stop: str | int | list[int] | msgspec.UnsetType | None = msgspec.UNSET  # sglang: the text, or a token
    stop_reason: str | int | msgspec.UnsetType | None = msgspec.UNSET  # vLLM: the text, or a token, or null at the end
    stopping_word: str | msgspec.UnsetType | None = msgspec.UNSET  # llama.cpp: the text, or "" at the end
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None
    index: int = 0


class _Completion(msgspec.Struct, frozen=True):
    choices: list[CompletionAnswer]
    usage: ServerUsage | None = None


_DECODER = msgspec.json.Decoder(_Completion)


class Completing(Protocol):
    """Requests a completion, as ``complete`` does."""

    async def __call__(
        self,
        transport: Transport,
        body: Mapping[str, Any],
        problem: str,
        hearing: Callable[[], Hear | None] | None = None,
    ) -> tuple[CompletionAnswer, Usage]: ...


class CompletionApi(NamedTuple):
    """How a server completes a text: where, with which fields for the numbers of the written tokens, and by what."""

    path: str
    numbered: Mapping[str, Any]
    complete: Completing


class CountError(Exception):
    """A server reports a number of tokens that cannot be. The text of the error continues "answered with"."""


class EndSigns(msgspec.Struct, frozen=True):
    """What shows that an answer ended: the ``tokens`` that end one, and the ``engine`` of the server, if known."""

    tokens: frozenset[int] = frozenset()
    engine: ServedEngine | None = None


async def requested(
    transport: Transport,
    path: str,
    body: Mapping[str, Any],
    problem: str,
    decoder: "msgspec.json.Decoder[Any]",
    read: Callable[[Any], Result],
    mend: Callable[[bytes], bytes] = bytes,
    hearing: Callable[[], Hear | None] = lambda: None,
) -> Result:
    """Return what ``read`` makes of the decoded answer to a request. ``mend`` changes its body before.

    ``hearing`` returns, for each attempt, what takes the body as it arrives.

    Temporary errors are retried, also those of ``read``. Raises ``BackendError``, and whatever ``read`` raises.
    """

    async def attempt() -> Result:
        answer = mend(await transport.post(path, body, problem, hearing()))
        return read(understood(transport.address, path, answer, decoder))

    return await persistent(transport.address, attempt)


async def complete(
    transport: Transport, body: Mapping[str, Any], problem: str, hearing: Callable[[], Hear] | None = None
) -> tuple[CompletionAnswer, Usage]:
    """Request a completion for ``problem``. Return the choice with the lowest index, and its tokens.

    With ``hearing``, the answer is requested as a stream, which is heard as it arrives.

    Raises ``BackendError`` if there is no choice, if the choice is incomplete, or for counts that cannot be.
    """
    where = transport.address.at(PATH)

    def read(completion: _Completion) -> tuple[CompletionAnswer, Usage]:
        return checked(completion.choices, completion.usage, body["max_tokens"], body["prompt"], where)

    if hearing is not None:
        return await requested(transport, PATH, {**body, **FIELDS}, problem, _DECODER, read, joined, hearing)
    return await requested(transport, PATH, body, problem, _DECODER, read)


OPENAI = CompletionApi(PATH, {"return_token_ids": True}, complete)
"""Completions as sglang and vLLM have them, with the field by which both return numbers."""


def checked(
    choices: Sequence[CompletionAnswer], reported: ServerUsage | None, most: int, prompt: object, where: str
) -> tuple[CompletionAnswer, Usage]:
    """Return the choice with the lowest index, and its tokens, of an answer to a request for at most ``most`` tokens.

    ``prompt`` is what was sent. Raises as ``complete``, with the address ``where``.
    """
    if not choices:
        raise BackendError(f"{where} answered without a choice. Is a language model served there?")
    choice = first(choices)
    check_reason(choice.finish_reason, where)
    try:
        usage = counted(reported, most, _most_prompt_tokens(prompt))
    except CountError as error:
        raise BackendError(f"{where} answered with {error}") from error
    return choice, _with_estimate(usage, choice, most)


def first(choices: Sequence[Choice]) -> Choice:
    """Return the choice with the lowest index: servers may return several in any order.

    Raises ``IndexError`` if there is none.
    """
    if not choices:
        raise IndexError
    return min(choices, key=lambda choice: choice.index)


def check_reason(reason: str | None, where: str) -> None:
    """Raise ``BackendError`` unless ``reason`` is one of a complete answer.

    An answer that was broken off is worth another attempt, unless a filter decided so.
    """
    if reason in _REASONS:
        return
    kind = BackendError if reason in _PERMANENT else TemporaryError
    raise kind(f"{where} did not complete its answer ({reason or 'no reason'}). The server's log may say why")


def ending_of(choice: CompletionAnswer, separator: str, signs: EndSigns) -> tuple[str, StopReason | None]:
    """Return the step's text and its stop reason, or None if the server does not say whether separator or end.

    A separator in the text counts first: the server left it in, or did not honour ``stop``.
    """
    text, found, _ = choice.text.partition(separator)
    if found:
        return text, "separator"
    ending = _REASONS.get(choice.finish_reason or "") or _named(choice, separator, signs)
    return (before_separator(text, separator) if ending == "separator" else text), ending


def ending_of_whole(choice: CompletionAnswer) -> StopReason:
    """Return the stop reason of an answer that was requested without a separator."""
    return "limit" if _REASONS.get(choice.finish_reason or "") == "limit" else "end"


def before_separator(text: str, separator: str) -> str:
    """Return ``text``, after which the separator was matched, without the part of the separator that is left in it.

    ``42.\\n`` before the separator ``\\n\\n`` is ``42.``: the separator began one character earlier.
    """
    return (text + separator).partition(separator)[0]


def _named(choice: CompletionAnswer, separator: str, signs: EndSigns) -> StopReason | None:
    """Return the ending that the field of an engine names.

    Only a known end token ends the answer, or an empty field of an engine that leaves it empty there. Anything else
    says nothing: a server may report the token of a blank line, or have the field and never fill it.
    """
    if choice.stopping_word == "":
        return "end"
    for named in (choice.matched_stop, choice.stop_reason, choice.stopping_word):
        if named == separator:
            return "separator"
        tokens = {*named} if isinstance(named, list) else {named}
        if tokens & signs.tokens:
            return "end"
    return "end" if choice.stop_reason is None and signs.engine == "vllm" else None


def counted(usage: ServerUsage | None, most: float = math.inf, most_read: float = math.inf) -> Usage:
    """Return the tokens of one request as its server counted them; zero if it reports none.

    ``most`` is the number of tokens that were requested, ``most_read`` the number that the prompt can have. Raises
    ``CountError`` for a count that is not between 0 and these numbers.
    """
    if usage is None:
        return Usage()
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    read = _count(usage.prompt_tokens, "prompt_tokens", most_read)
    written = _count(usage.completion_tokens, "completion_tokens", most)
    return Usage(read, written, _count(cached, "cached_tokens", read or most_read))


def _count(value: Number, name: str, most: float) -> int:
    if type(value) is int and 0 <= value <= most:
        return value
    try:
        number = float(value or 0)
    except ValueError:
        number = math.nan
    if not (0 <= number <= most and number.is_integer()):
        raise CountError(
            f"usage.{name} = {value!r}, where only a number from 0 to {most:.0f} is possible. Is the engine's "
            "report of usage right?"
        )
    return int(number)


def _most_prompt_tokens(prompt: object) -> float:
    """Return more tokens than a server can make of ``prompt``: a text, its tokens, or messages."""
    return 4 * len(prompt.encode(errors="replace") if isinstance(prompt, str) else str(prompt)) + _SPARE_TOKENS


def _with_estimate(usage: Usage, choice: CompletionAnswer, most: int) -> Usage:
    """Return ``usage`` with the tokens of a text that the server did not count, so that limits still hold.

    Their number is exact for an answer that was cut by its limit, or that has log-probabilities; else it is one for
    four bytes.
    """
    if usage.completion_tokens or not choice.text:
        return usage
    if _REASONS.get(choice.finish_reason or "") == "limit":
        tokens = most
    else:
        estimate = math.ceil(len(choice.text.encode(errors="replace")) / _BYTES_PER_TOKEN)
        tokens = min(written_count(choice.logprobs) or estimate, most)
    return msgspec.structs.replace(usage, completion_tokens=tokens)
