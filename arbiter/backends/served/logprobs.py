"""Log-probabilities in the answers of ``/v1/completions``.

sglang, vLLM and hosted endpoints write them as completions always did (``tokens``, ``token_logprobs``,
``top_logprobs``), llama.cpp as chat completions do (``content``).
"""

import itertools
from collections.abc import Mapping, Sequence

import msgspec

from arbiter.backends.confidence import TOP, entropy_confidence, mean_confidence
from arbiter.protocols.records import ConfidenceMetric


class _Token(msgspec.Struct, frozen=True):
    token: str
    logprob: float | None = None
    top_logprobs: "list[_Token] | None" = None


class Logprobs(msgspec.Struct, frozen=True):
    """What a server tells of the tokens that it wrote, in one form or the other; any of it may be missing."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[Mapping[str, float] | None] | None = None
    content: list[_Token] | None = None


def alternatives_asked(count: int, hosted: bool) -> dict[str, int]:
    """What to say for so many alternatives of each token. Hosted endpoints refuse llama.cpp's own name for it."""
    return {"logprobs": count} if hosted else {"logprobs": count, "n_probs": count}


def wanted(measure: ConfidenceMetric | None, hosted: bool) -> dict[str, int]:
    """What to ask of the server, so that a confidence can be computed; nothing where none is wanted."""
    return {} if measure is None else alternatives_asked(1 if measure == "mean" else TOP, hosted)


def confidence_of(told: Logprobs, measure: ConfidenceMetric, step: str) -> float | None:
    """The confidence in the text ``step``, its separator included; None if not all is there that it takes.

    What a server that ignores ``stop`` wrote behind it counts for nothing.
    """
    if measure == "first":
        alternatives = first_alternatives(told)
        return entropy_confidence(list(alternatives.values())) if alternatives else None
    known = [logprob for logprob in _chosen(told, step) if logprob is not None]
    return mean_confidence(known) if known else None


def first_alternatives(told: Logprobs) -> Mapping[str, float]:
    """The most likely first tokens, with their log-probabilities; none where the server tells none."""
    if told.content:
        first = told.content[0].top_logprobs or []
        return {one.token: one.logprob for one in first if one.logprob is not None}
    return (told.top_logprobs or [None])[0] or {}


def _chosen(told: Logprobs, step: str) -> Sequence[float | None]:
    """The log-probabilities of the tokens that ``step`` begins in."""
    if told.content is not None:
        tokens, logprobs = [one.token for one in told.content], [one.logprob for one in told.content]
    else:
        tokens, logprobs = told.tokens or [], told.token_logprobs or []
    if len(tokens) != len(logprobs):
        return logprobs
    ends = itertools.accumulate(map(len, tokens), initial=0)
    return logprobs[: sum(end < len(step) for end in ends)]
