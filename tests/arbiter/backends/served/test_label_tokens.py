"""The labels of a language model that scores: their keys, and the score from their likelihoods."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.served.label_tokens import label_probability
from arbiter.config.config import parse
from arbiter.protocols.errors import ConfigError

Keys = Mapping[str, Any]


@pytest.mark.parametrize(
    ("name", "keys", "told"),
    [
        ("prm", {"scores": "score"}, "labels: scores = 'score' needs the numbers"),
        ("prm", {"scores": "score", "labels": ["+", "-"]}, "labels: scores = 'score' needs the numbers"),
        ("prm", {"scores": "score", "labels": [5, 5]}, "labels: scores = 'score' needs the numbers"),
        ("prm", {"scores": "score", "labels": [5, -6]}, "labels: scores = 'score' needs the numbers"),
        ("prm", {"scores": "label-tokens"}, "labels: scores = 'label-tokens' needs the texts"),
        ("prm", {"scores": "label-tokens", "labels": [648, 387]}, "labels: scores = 'label-tokens' needs the texts"),
        ("prm", {"scores": "label-tokens", "labels": ["+", " + "]}, "labels: scores = 'label-tokens' needs the texts"),
        ("prm", {"scores": "label-tokens", "labels": ["+", " "]}, "labels: scores = 'label-tokens' needs the texts"),
        ("prm", {"labels": ["+", "-"]}, "labels: only scores = 'score' and 'label-tokens' have labels"),
        ("prm", {"step_tag": ""}, "step_tag: Expected `str` of length >= 1"),
        ("draft", {"step_tag": "x"}, "step_tag: the draft model is not a reward model"),
        ("judge", {"step_tag": "x"}, "step_tag: the judge model is not a reward model"),
        ("prm", {"scores": "score", "labels": [5, 6], "backend": "openai"}, "scores: the openai backend supports only"),
    ],
)
def test_keys_that_no_dialect_has_are_refused(name: str, keys: Keys, told: str) -> None:
    given = {"backend": "http", "url": "http://here", "model": "m", "prompt": "plain", **keys}
    with pytest.raises(ConfigError) as refused:
        parse({"models": {name: given}}, "mine.toml")
    assert f"mine.toml: models.{name}.{told}" in str(refused.value)


LOGPROBS = st.floats(-700, 0)


@given(LOGPROBS, LOGPROBS)
def test_the_two_labels_are_one_together(good: float, bad: float) -> None:
    told = {"+": good, "-": bad}
    assert 0 <= label_probability(told, "+", "-", "here") <= 1
    there, back = label_probability(told, "+", "-", "here"), label_probability(told, "-", "+", "here")
    assert there + back == pytest.approx(1)


@given(LOGPROBS, st.floats(0, 5), LOGPROBS)
def test_a_likelier_good_label_is_no_lower_score(good: float, less: float, bad: float) -> None:
    lower, higher = ({"+": each, "-": bad} for each in (good - less, good))
    assert label_probability(lower, "+", "-", "here") <= label_probability(higher, "+", "-", "here")


@given(LOGPROBS, LOGPROBS, LOGPROBS)
def test_a_label_with_a_blank_before_it_is_the_same_label(good: float, other: float, bad: float) -> None:
    apart = label_probability({"+": good, " +": other, "-": bad}, "+", "-", "here")
    joined = max(good, other) + math.log1p(math.exp(-abs(good - other)))
    margin = joined - bad
    assert apart == pytest.approx(1 / (1 + math.exp(-max(margin, -700))), abs=1e-9)
