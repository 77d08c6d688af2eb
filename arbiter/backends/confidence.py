"""A model's confidence in a step that it wrote, in (0, 1], from the log-probabilities of its tokens. Pure."""

import math
import sys
from collections.abc import Sequence

TOP = 20
"""How many of a token's alternatives a server is asked for: as many as engines give without being started for more."""


def mean_confidence(logprobs: Sequence[float]) -> float:
    """exp of the mean: the geometric mean of the probabilities of a step's tokens, of which there is one or more."""
    return _within(math.exp(math.fsum(logprobs) / len(logprobs)))


def entropy_confidence(logprobs: Sequence[float]) -> float:
    """exp(−H), H the entropy in nats of a distribution by its most likely outcomes; its other mass is one more."""
    chances = [math.exp(logprob) for logprob in logprobs]
    rest = max(0.0, 1.0 - math.fsum(chances))
    return confidence_at(-math.fsum(chance * math.log(chance) for chance in (*chances, rest) if chance > 0.0))


def confidence_at(entropy: float) -> float:
    """exp(−H) for an ``entropy`` H of 0 or more, in nats."""
    return _within(math.exp(-entropy))


def _within(confidence: float) -> float:
    """Rounding may lead out of (0, 1]."""
    return min(max(confidence, sys.float_info.min), 1.0)
