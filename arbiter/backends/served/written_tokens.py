"""The tokens of a step with their log-probabilities, from the answer of a server."""

import codecs
from collections.abc import Iterable, Sequence

from arbiter.backends.served.logprobs import Logprobs, NamedToken
from arbiter.backends.token_alignment import aligned
from arbiter.protocols.answer_tokens import TokenAlternative, WrittenToken

_LEAST = -9999.0  # what OpenAI and vLLM give in place of minus infinity


def written_tokens_of(logprobs: Logprobs, text: str, count: int) -> tuple[WrittenToken, ...] | None:
    """Return the tokens that make up ``text``, each with up to ``count`` alternatives.

    None if the answer lacks tokens, log-probabilities or all alternatives, or if its tokens do not make up ``text``.
    """
    named = _named(logprobs)
    pieces = aligned(_names(named), text)
    if pieces is None:
        return None
    found: list[WrittenToken] = []
    for token, piece in zip(named, pieces, strict=False):
        top = _likeliest(token.top_logprobs or (), count)
        if token.logprob is None or (count and not top):
            return None
        found.append(WrittenToken(piece, _within(token.logprob), top))
    return tuple(found)


def _named(logprobs: Logprobs) -> Sequence[NamedToken]:
    """Return the tokens of an answer in the form of chat completions."""
    if logprobs.content is not None:
        return logprobs.content
    tokens, chosen = logprobs.tokens or [], logprobs.token_logprobs or []
    if len(tokens) != len(chosen):
        return []
    tops = [*(logprobs.top_logprobs or []), *[None] * len(tokens)]
    return [
        NamedToken(name, logprob, [NamedToken(*item) for item in (top or {}).items()])
        for name, logprob, top in zip(tokens, chosen, tops, strict=False)
    ]


def _names(tokens: Sequence[NamedToken]) -> list[str]:
    """Return the texts of tokens. Their bytes, if an answer has them, say which token completes a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    given = [token.bytes for token in tokens if token.bytes is not None]
    if len(given) < len(tokens):
        return [token.token for token in tokens]
    return [decoder.decode(bytes(one)) for one in given]


def _likeliest(tokens: Iterable[NamedToken | None], count: int) -> tuple[TokenAlternative, ...]:
    known = [
        TokenAlternative(token.token, _within(token.logprob))
        for token in tokens
        if token is not None and token.logprob is not None
    ]
    return tuple(sorted(known, key=lambda one: -one.logprob)[:count])


def _within(logprob: float) -> float:
    """Clamp to what a log-probability can be: rounding may give a number above 0."""
    return min(max(logprob, _LEAST), 0.0)
