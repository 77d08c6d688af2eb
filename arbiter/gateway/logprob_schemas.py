"""The tokens of an answer with their log-probabilities, in the shapes of the three APIs.

Each token says in its field ``arbiter`` which model wrote it.
"""

from collections.abc import Sequence
from itertools import accumulate

import msgspec

from arbiter.backends.step_tokens import UNFINISHED
from arbiter.gateway.schemas import AnyBody, ChatBody, CompletionBody
from arbiter.protocols.answer_tokens import TokenAlternative, WrittenToken
from arbiter.protocols.errors import RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import AnswerToken, Author

_INCLUDED = "message.output_text.logprobs"


class TokenAuthor(msgspec.Struct, frozen=True):
    """The model that wrote a token."""

    author: Author


class TokenAuthors(msgspec.Struct, frozen=True):
    """The models that wrote the tokens of a choice, one for each."""

    authors: list[Author]


class LikelyToken(msgspec.Struct, frozen=True):
    """A token that could be at a place. ``bytes`` are those of its text; null if it is no whole character."""

    token: str
    logprob: float
    bytes: list[int] | None


class OutputToken(msgspec.Struct, frozen=True):
    """A token of an answer, in ``/v1/chat/completions`` and ``/v1/responses``, and the likeliest ones at its place."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[LikelyToken]
    arbiter: TokenAuthor


class ChoiceLogprobs(msgspec.Struct, frozen=True):
    """The tokens of a message or a chunk of ``/v1/chat/completions``. Calls of tools have none."""

    content: list[OutputToken]
    refusal: None = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """The tokens of a choice of ``/v1/completions``. ``text_offset`` counts characters from the answer's beginning.

    ``top_logprobs`` has for each place the requested alternatives and the token itself; null if none were requested.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]
    arbiter: TokenAuthors


def requested_logprobs(body: AnyBody) -> int | None:
    """Return how many alternatives for each token a body requests; None if it requests no log-probabilities.

    Raises ``RequestError`` if it requests alternatives without them.
    """
    if isinstance(body, CompletionBody):
        return body.logprobs
    is_chat = isinstance(body, ChatBody)
    if body.logprobs if isinstance(body, ChatBody) else _INCLUDED in (body.include or ()):
        return body.top_logprobs or 0
    if body.top_logprobs:
        needed = "logprobs: true" if is_chat else f'include: ["{_INCLUDED}"]'
        raise RequestError(f"top_logprobs requires {needed}", code="invalid_value", param="top_logprobs")
    return None


def output_tokens(tokens: Sequence[AnswerToken] | None) -> list[OutputToken]:
    """Return tokens in the form of chat completions and responses; none for None."""
    return [
        OutputToken(one.text, one.logprob, _bytes(one), [_likely(other) for other in one.top], TokenAuthor(one.author))
        for one in tokens or ()
    ]


def choice_logprobs(task: Task, tokens: Sequence[AnswerToken] | None) -> ChoiceLogprobs | None:
    """Return the field ``logprobs`` of a choice of chat completions; None if the task requests none."""
    return None if task.top_logprobs is None else ChoiceLogprobs(output_tokens(tokens))


def completion_logprobs(task: Task, tokens: Sequence[AnswerToken] | None, start: int = 0) -> CompletionLogprobs | None:
    """Return the field ``logprobs`` of a choice of completions; None if the task requests none.

    ``start`` is the number of characters in the tokens before.
    """
    if task.top_logprobs is None:
        return None
    known = tokens or ()
    offsets = list(accumulate((len(one.text) for one in known), initial=start))
    return CompletionLogprobs(
        [one.text for one in known],
        [one.logprob for one in known],
        [_by_text(one) for one in known] if task.top_logprobs else None,
        offsets[:-1],
        TokenAuthors([one.author for one in known]),
    )


def _by_text(token: WrittenToken) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in token.top:
        found.setdefault(one.text, one.logprob)
    found.setdefault(token.text, token.logprob)
    return found


def _likely(token: TokenAlternative) -> LikelyToken:
    return LikelyToken(token.text, token.logprob, _bytes(token))


def _bytes(token: TokenAlternative | WrittenToken) -> list[int] | None:
    return None if UNFINISHED in token.text else list(token.text.encode())
