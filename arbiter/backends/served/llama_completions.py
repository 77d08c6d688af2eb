"""Steps from llama.cpp's own server, on its ``/completion``: what stopped a step, and the tokens that were written.

Source: llama.cpp as in xllamacpp 2026.10.11549. ``/v1/completions`` of this server returns neither. Two of its habits
decide how a step is requested:

- It looks whether a client is still there only after a second without any result for anybody. So a request for a whole
  answer that is cancelled continues as long as the server is busy with others. A stream ends at the next token. Thus
  steps are streamed, unless log-probabilities are requested.
- A stream has no number for a token that ends within a character, only the count of all tokens. Those numbers are those
  that the tokenizer makes of the character, if their count and the number that the stream has agree with it. Else the
  tokens of the step are not known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from arbiter.backends.served.completion_answers import (
    OPENAI,
    CacheDetails,
    CompletionAnswer,
    CompletionApi,
    Number,
    ServerUsage,
    checked,
    requested,
)
from arbiter.backends.served.completion_streams import data_of
from arbiter.backends.served.logprobs import Logprobs, NamedToken
from arbiter.backends.served.refusals import stated_error
from arbiter.backends.served.transport import Hear, NotServedError, Transport
from arbiter.backends.token_texts import TokenTexts
from arbiter.protocols.records import Usage

PATH = "/completion"
_OWNER = "llamacpp"
_TRIAL = "Compute 1+1."

_FIELDS: dict[str, Any] = {
    "response_fields": [
        "content",
        "tokens",
        "stop",
        "stop_type",
        "stopping_word",
        "tokens_predicted",
        "tokens_evaluated",
        "timings",
        "completion_probabilities",
    ]
}
"""The fields of an answer. Without this, each answer also has its prompt and all settings."""

_REASONS = {"eos": "stop", "word": "stop", "limit": "length"}


class _Timings(msgspec.Struct, frozen=True):
    cache_n: Number = 0


class _Part(msgspec.Struct, frozen=True):
    """A chunk of an answer, or a whole one. Only the last chunk has the reason."""

    content: str
    tokens: list[int] = []
    stop: bool = False
    stop_type: str | None = None
    stopping_word: str = ""
    tokens_predicted: Number = 0
    tokens_evaluated: Number = 0
    timings: _Timings = _Timings()
    completion_probabilities: list[NamedToken] | None = None


class _Parts(msgspec.Struct, frozen=True):
    parts: list[_Part]


_DECODER = msgspec.json.Decoder(_Parts)


def llama_api(texts: TokenTexts | None) -> CompletionApi:
    """Return how completions of llama.cpp's own server are requested. ``texts`` is the tokenizer, if it is known."""

    async def complete(
        transport: Transport, body: Mapping[str, Any], problem: str, hearing: Callable[[], Hear | None] | None = None
    ) -> tuple[CompletionAnswer, Usage]:
        streams = "logprobs" not in body
        where = transport.address.at(PATH)

        def read(answer: _Parts) -> tuple[CompletionAnswer, Usage]:
            choice, reported = _joined(answer.parts, texts)
            return checked([choice], reported, body["max_tokens"], body["prompt"], where)

        sent = {**body, **_FIELDS, "stream": streams}
        heard = hearing if hearing is not None and streams else lambda: None
        return await requested(transport, PATH, sent, problem, _DECODER, read, _listed, heard)

    return CompletionApi(PATH, {"return_tokens": True}, complete)


async def completion_api(
    transport: Transport, model: str, owner: str | None, texts: TokenTexts | None
) -> CompletionApi:
    """Return how completions of ``model`` are requested. ``owner`` is that of the list of models.

    A small request finds out whether llama.cpp's server can be reached on ``/completion``, which some gateways lack.
    Raises ``BackendError`` if it cannot be reached.
    """
    if owner != _OWNER:
        return OPENAI
    api = llama_api(texts)
    try:
        await api.complete(transport, {"model": model, "prompt": _TRIAL, "max_tokens": 1, "temperature": 0}, "")
    except NotServedError:
        return OPENAI
    return api


def _listed(body: bytes) -> bytes:
    """Return the chunks of a stream as one JSON value. An error in it is the whole answer."""
    if body.lstrip().startswith(b"{"):
        return body if stated_error(body) else b'{"parts":[%b]}' % body
    parts = [data for data in map(data_of, body.splitlines()) if data.strip()]
    error = next((part for part in parts if stated_error(part)), None)
    return error if error is not None else b'{"parts":[%b]}' % b",".join(parts)


def _joined(parts: Sequence[_Part], texts: TokenTexts | None) -> tuple[CompletionAnswer, ServerUsage]:
    """Return the answer that ``parts`` make up, and its tokens."""
    last = parts[-1] if parts else _Part("")
    named = [token for part in parts for token in part.completion_probabilities or ()]
    usage = ServerUsage(last.tokens_evaluated, last.tokens_predicted, CacheDetails(last.timings.cache_n))
    choice = CompletionAnswer(
        "".join(part.content for part in parts),
        _REASONS.get(last.stop_type or "") if last.stop else None,
        stopping_word=last.stopping_word,
        logprobs=Logprobs(content=named) if named else None,
        token_ids=_numbers(parts, texts),
    )
    return choice, usage


def _numbers(parts: Sequence[_Part], texts: TokenTexts | None) -> list[int] | None:
    """Return the numbers of all written tokens; None if they are not known."""
    numbers, seen, given, before = list[int](), 0, list[int](), 0
    for index, part in enumerate(parts):
        given += part.tokens
        seen = max(int(part.tokens_predicted or 0), seen)
        is_last = index == len(parts) - 1
        if part.content or is_last:
            text = part.content + (part.stopping_word if is_last else "")
            numbers += _whole(given, seen - before, text, texts)
            given, before = [], seen
    return numbers if len(numbers) == seen and numbers else None


def _whole(given: list[int], count: int, text: str, texts: TokenTexts | None) -> list[int]:
    """Return the ``count`` numbers of the tokens of ``text``, of which a stream has ``given``; else those."""
    if texts is None or count <= len(given):
        return given
    made, rest = texts.encode(text, special=False), iter(given)
    if len(made) != count:
        return given
    wanted = next(rest, None)
    for number in made:
        if number == wanted:
            wanted = next(rest, None)
    return made if wanted is None else given
