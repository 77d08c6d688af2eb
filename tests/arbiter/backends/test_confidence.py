"""A model's confidence in its own step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.confidence import entropy_confidence, mean_confidence

LOGPROBS = st.lists(st.floats(-1e4, 0.0), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("chances", "confidence"), [([1.0], 1.0), ([0.5], 0.5), ([0.9, 0.4], 0.6), ([1.0, 1.0, 0.125], 0.5)]
)
def test_the_mean_is_the_geometric_one_of_the_probabilities(chances: list[float], confidence: float) -> None:
    assert mean_confidence([math.log(chance) for chance in chances]) == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("chances", "confidence"),
    [
        ([1.0], 1.0),
        ([0.5, 0.5], 0.5),
        ([0.25] * 4, 0.25),
        ([0.25] * 3, 0.25),  # the rest counts as one more outcome
        ([0.5], 0.5),
        ([0.9], 0.9**0.9 * 0.1**0.1),
    ],
)
def test_the_first_tokens_confidence_is_one_over_its_effective_number_of_choices(
    chances: list[float], confidence: float
) -> None:
    assert entropy_confidence([math.log(chance) for chance in chances]) == pytest.approx(confidence)


@given(LOGPROBS)
def test_a_confidence_lies_above_zero_and_up_to_one(logprobs: list[float]) -> None:
    assert 0.0 < mean_confidence(logprobs) <= 1.0
    assert 0.0 < entropy_confidence(logprobs) <= 1.0


@given(LOGPROBS, st.floats(-10.0, 0.0))
def test_a_less_likely_token_more_never_raises_the_mean(logprobs: list[float], more: float) -> None:
    lowest = min(*logprobs, more)
    assert mean_confidence([*logprobs, lowest]) <= mean_confidence(logprobs) * (1 + 1e-9)
