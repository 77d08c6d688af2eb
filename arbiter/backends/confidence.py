"""A model's confidence in a step that it wrote, in (0, 1], from its log-probabilities. Pure functions."""

import math
import sys
from collections.abc import Sequence

TOP = 20
"""The number of alternatives requested per token: the most that engines return with their default settings."""


def mean_confidence(logprobs: Sequence[float]) -> float:
    """Return the geometric mean of the token probabilities of a step: exp of the mean. ``logprobs`` is not empty."""
    return _within(math.exp(math.fsum(logprobs) / len(logprobs)))


def joined_confidence(parts: Sequence[tuple[int, float]]) -> float:
    """Return the mean confidence in a text of several parts, each with its number of tokens and its own mean.

    It is the geometric mean over all tokens. Parts without tokens do not count, unless all are without. A confidence
    outside (0, 1] is returned as it is. ``parts`` is not empty.
    """
    wrong = [confidence for _, confidence in parts if not 0.0 < confidence <= 1.0]
    tokens = sum(count for count, _ in parts)
    if wrong or not tokens:
        return wrong[0] if wrong else parts[0][1]
    return _within(math.exp(math.fsum(count * math.log(confidence) for count, confidence in parts) / tokens))


def entropy_confidence(logprobs: Sequence[float]) -> float:
    """Return exp(−H), where H is the entropy of a distribution in nats.

    ``logprobs`` are those of the most likely outcomes. The remaining mass counts as one more outcome.
    """
    chances = [math.exp(logprob) for logprob in logprobs]
    rest = max(0.0, 1.0 - math.fsum(chances))
    return confidence_at(-math.fsum(chance * math.log(chance) for chance in (*chances, rest) if chance > 0.0))


def confidence_at(entropy: float) -> float:
    """Return exp(−H) for an ``entropy`` H of at least 0, in nats."""
    return _within(math.exp(-entropy))


def _within(confidence: float) -> float:
    """Clamp to (0, 1], which rounding may leave."""
    return min(max(confidence, sys.float_info.min), 1.0)
