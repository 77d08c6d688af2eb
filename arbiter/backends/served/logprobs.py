"""Log-probabilities in the answers of ``/v1/completions``.

sglang, vLLM and hosted endpoints return them in the form of completions (``tokens``, ``token_logprobs``,
``top_logprobs``), llama.cpp in the form of chat completions (``content``).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from arbiter.backends.confidence import TOP, entropy_confidence, mean_confidence
from arbiter.protocols.records import ConfidenceMetric

Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class NamedToken(msgspec.Struct, frozen=True):
    """A token in the form of chat completions: the text and the ``bytes`` that it has alone."""

    token: str
    logprob: float | None = None
    top_logprobs: "list[NamedToken | None] | None" = None
    bytes: list[Byte] | None = None


class Logprobs(msgspec.Struct, frozen=True):
    """The log-probabilities of the written tokens, in either form. Any field may be missing."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[Mapping[str, float | None] | None] | None = None
    content: list[NamedToken] | None = None


def alternatives_option(count: int, hosted: bool) -> dict[str, int]:
    """Return the fields that request ``count`` alternatives per token. Hosted endpoints refuse llama.cpp's name."""
    return {"logprobs": count} if hosted else {"logprobs": count, "n_probs": count}


def alternatives(measure: ConfidenceMetric | None) -> int:
    """Return how many alternatives per token a confidence needs; 0 if ``measure`` is None."""
    return 0 if measure is None else 1 if measure == "mean" else TOP


def confidence_of(logprobs: Logprobs, measure: ConfidenceMetric, step: str) -> float | None:
    """Return the confidence in the text ``step``, including its separator; None if log-probabilities are missing.

    Tokens after the separator, from servers that ignore ``stop``, do not count.
    """
    if measure == "first":
        alternatives = first_alternatives(logprobs)
        return entropy_confidence(list(alternatives.values())) if alternatives else None
    known = [logprob for logprob in _chosen(logprobs, step) if logprob is not None]
    return mean_confidence(known) if known else None


def first_alternatives(logprobs: Logprobs) -> Mapping[str, float]:
    """Return the most likely first tokens with their log-probabilities; empty if the server returns none."""
    if logprobs.content:
        first = logprobs.content[0].top_logprobs or []
        return {one.token: one.logprob for one in first if one is not None and one.logprob is not None}
    first_of_completion = (logprobs.top_logprobs or [None])[0] or {}
    return {token: logprob for token, logprob in first_of_completion.items() if logprob is not None}


def written_count(logprobs: Logprobs | None) -> int:
    """Return the number of tokens that an answer has log-probabilities for; 0 without any."""
    return 0 if logprobs is None else len(_tokens(logprobs)[1])


def written_tokens(logprobs: Logprobs, step: str) -> list[tuple[str, float | None]]:
    """Return the texts and the log-probabilities of the tokens that begin within ``step``; empty without either."""
    tokens, chosen = _tokens(logprobs)
    if len(tokens) != len(chosen):
        return []
    starts = itertools.accumulate(map(len, tokens), initial=0)
    return list(zip(tokens, chosen, strict=True))[: sum(start < len(step) for start in starts)]


def _chosen(logprobs: Logprobs, step: str) -> Sequence[float | None]:
    """Return the log-probabilities of the tokens that begin within ``step``; all of them if the texts are missing."""
    return [logprob for _, logprob in written_tokens(logprobs, step)] or _tokens(logprobs)[1]


def _tokens(logprobs: Logprobs) -> tuple[Sequence[str], Sequence[float | None]]:
    if logprobs.content is not None:
        return [one.token for one in logprobs.content], [one.logprob for one in logprobs.content]
    return logprobs.tokens or [], logprobs.token_logprobs or []
