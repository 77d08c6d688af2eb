"""Features of a draft's step for a router on the draft: numbers from how likely the draft finds the step.

Pure functions. The draft model reads a context and a candidate; ``features`` makes a fixed list of numbers of that.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from arbiter.protocols.errors import BackendError
from arbiter.protocols.records import Usage

FeatureSet = Literal["logprobs", "logprobs+entropy", "logprobs+entropy+hidden"]
"""Which numbers a head reads.

- ``logprobs``: the log-probabilities of the candidate's tokens, their probabilities, and lengths. Servers return
  what is needed for it.
- ``logprobs+entropy``: also the entropies of the distributions, which only a draft in process has.
- ``logprobs+entropy+hidden``: also the last hidden state, which only a draft in process has.
"""

LOWEST = -100.0
"""Log-probabilities below this count as this: servers report such values, or minus infinity, in different ways."""

_LOGPROBS = (
    *("logprob_mean", "logprob_min", "logprob_first", "logprob_sum"),
    *("probability_mean", "probability_min", "probability_first"),
    *("tokens", "length", "step"),
)
_ENTROPIES = ("entropy_max", "entropy_mean", "entropy_first")


class CandidateReading(msgspec.Struct, frozen=True):
    """What the draft model computes at a candidate.

    - ``logprobs``: the log-probability of each candidate token, given the tokens before it. At least one.
    - ``entropies``: the entropy in nats of the distribution of each candidate token; empty if unknown.
    - ``hidden``: the last hidden state, after the final norm, at the last candidate token; empty if unknown.
    - ``usage``: the tokens read. Those of ``cached_tokens`` were in a cache.
    """

    logprobs: Sequence[float]
    entropies: Sequence[float] = ()
    hidden: Sequence[float] = ()
    usage: Usage = Usage()


class TokenReader(Protocol):
    """A draft model that reads tokens."""

    async def read(self, prompt: Sequence[int], candidate: Sequence[int]) -> CandidateReading:
        """Read ``prompt`` and then ``candidate``, each of at least one token.

        Raises ``ContextTooLongError`` if both together exceed the model's context.
        """
        ...


def feature_names(features: FeatureSet, hidden: int = 0) -> tuple[str, ...]:
    """Return the names of the features of a set, in order. ``hidden`` is the size of a hidden state."""
    names = _LOGPROBS if features == "logprobs" else (*_LOGPROBS, *_ENTROPIES)
    if features == "logprobs+entropy+hidden":
        names += tuple(f"hidden_{index}" for index in range(hidden))
    return names


def features_of(reading: CandidateReading, length: int, step: int, features: FeatureSet) -> list[float]:
    """Return the features of a candidate, in the order of ``feature_names``.

    ``length`` counts the tokens of context and candidate; ``step`` the steps before the candidate. Raises
    ``BackendError`` if the reading lacks log-probabilities, or entropies or a hidden state that the set needs.
    """
    logprobs = [_bounded(logprob) for logprob in reading.logprobs]
    if not logprobs:
        raise BackendError("a router on the draft needs the log-probabilities of the step, but there are none")
    count, total, chances = len(logprobs), math.fsum(logprobs), [math.exp(logprob) for logprob in logprobs]
    found = [total / count, min(logprobs), logprobs[0], total]
    found += [math.fsum(chances) / count, min(chances), chances[0]]
    found += [float(count), float(length), float(step)]
    if features == "logprobs":
        return found
    entropies = reading.entropies
    if len(entropies) != count:
        raise BackendError(
            f"features = {features!r} needs an entropy for each token, which only a draft in process has"
        )
    found += [max(entropies), math.fsum(entropies) / count, entropies[0]]
    if features == "logprobs+entropy+hidden":
        if not reading.hidden:
            raise BackendError(f"features = {features!r} needs a hidden state, which only a draft in process has")
        found += reading.hidden
    return found


def split_tokens(encode: Callable[[str], list[int]], context: str, text: str) -> tuple[list[int], list[int]]:
    """Return the tokens of ``context``, and those with which ``text`` continues it.

    If a token covers the border, it belongs to the second part. So the first part is a prefix of the context's own
    tokens, which caches have. ``encode`` returns the tokens of a text.
    """
    before, whole = encode(context), encode(context + text)
    pairs = zip(before, whole, strict=False)
    border = next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(before), len(whole)))
    return whole[:border], whole[border:]


def _bounded(logprob: float) -> float:
    """Clamp to [``LOWEST``, 0]. NaN becomes ``LOWEST``."""
    return min(logprob, 0.0) if logprob > LOWEST else LOWEST
