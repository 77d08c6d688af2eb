"""Features of a step and the head that reads them: by hand, and whatever the numbers are."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.draft_features import (
    LOWEST,
    CandidateReading,
    FeatureSet,
    feature_names,
    features_of,
    split_tokens,
)
from arbiter.backends.head_model import METADATA, WEIGHTS, check_draft, is_head, load_head
from arbiter.backends.prompts import PromptTemplate
from arbiter.protocols.errors import BackendError, ConfigError, DataError
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import Step, Transcript, Usage

Heads = Callable[..., Path]
LOGPROBS = st.lists(st.floats(max_value=0.0, allow_nan=False), min_size=1, max_size=40)
ASKED = ScoreRequest(
    "p", 5, "router", Transcript("1+1?", (Step("a", "target"), Step("b", "draft"))), "2", "draft", "\n\n"
)


def named(reading: CandidateReading, features: FeatureSet, **place: Any) -> dict[str, float]:
    found = features_of(reading, place.get("length", 9), place.get("step", 2), features)
    return dict(zip(feature_names(features, len(reading.hidden)), found, strict=True))


def test_each_feature_is_what_its_name_says() -> None:
    reading = CandidateReading([math.log(0.5), math.log(0.25), 0.0], [0.7, 1.1, 0.0], [3.0, -4.0])
    assert named(reading, "logprobs+entropy+hidden") == pytest.approx(
        {
            "logprob_mean": math.log(0.125) / 3,
            "logprob_min": math.log(0.25),
            "logprob_first": math.log(0.5),
            "logprob_sum": math.log(0.125),
            "probability_mean": 1.75 / 3,
            "probability_min": 0.25,
            "probability_first": 0.5,
            "tokens": 3,
            "length": 9,
            "step": 2,
            "entropy_max": 1.1,
            "entropy_mean": 0.6,
            "entropy_first": 0.7,
            "hidden_0": 3.0,
            "hidden_1": -4.0,
        }
    )


@given(LOGPROBS)
def test_features_are_finite_and_as_many_as_their_names_whatever_a_server_reports(logprobs: list[float]) -> None:
    found = named(CandidateReading(logprobs), "logprobs")
    assert all(map(math.isfinite, found.values()))
    assert found["logprob_min"] >= LOWEST
    assert found["logprob_min"] <= found["logprob_mean"] <= 0


@given(LOGPROBS, st.integers(0, 40))
def test_the_order_of_the_tokens_after_the_first_does_not_count(logprobs: list[float], cut: int) -> None:
    turned = [logprobs[0], *logprobs[1:][cut:], *logprobs[1:][:cut]]
    assert named(CandidateReading(turned), "logprobs") == named(CandidateReading(logprobs), "logprobs")


@pytest.mark.parametrize(
    ("reading", "features", "error"),
    [
        (CandidateReading([]), "logprobs", "log-probabilities of the step"),
        (CandidateReading([-1.0]), "logprobs+entropy", "needs an entropy for each token"),
        (CandidateReading([-1.0], [0.5]), "logprobs+entropy+hidden", "needs a hidden state"),
    ],
)
def test_a_reading_without_what_the_features_need_is_refused(
    reading: CandidateReading, features: FeatureSet, error: str
) -> None:
    with pytest.raises(BackendError, match=error):
        features_of(reading, 2, 0, features)


def pairs(text: str) -> list[int]:
    """Join two characters to a token where that is possible, from the left. The token is their number."""
    return [int.from_bytes(text[start : start + 2].encode()) for start in range(0, len(text), 2)]


@given(st.text("ab", max_size=9), st.text("ab", min_size=1, max_size=9))
def test_the_tokens_of_the_context_do_not_change_and_a_token_over_the_border_is_the_candidates(
    context: str, text: str
) -> None:
    prompt, candidate = split_tokens(pairs, context, text)
    own = pairs(context)
    assert prompt == own[: len(prompt)]
    assert len(own) - len(prompt) == len(context) % 2  # only the last token can reach over the border
    assert [*prompt, *candidate] == pairs(context + text)


def test_a_linear_head_is_a_logistic_regression_of_standardised_features(a_head: Heads) -> None:
    head = load_head(str(a_head({"logprob_sum": -2.0, "step": 0.5}, bias=-1.0)))
    reading = CandidateReading([-0.5, -0.25], usage=Usage(7, 1, 3))
    score = head.score(ASKED, reading, 9)
    assert score.value == pytest.approx(
        1 / (1 + math.exp(-(1.5 + 0.5 * 2 - 1)))
    )  # two steps before, whatever `step` is
    assert (score.usage, score.estimates) == (Usage(7, 1, 3), ())


def test_a_hidden_layer_has_rectified_units_and_each_target_an_estimate(a_head: Heads) -> None:
    width = len(feature_names("logprobs"))
    only_mean = [1.0] + [0.0] * (width - 1)
    tensors = {
        "mean": ([width], [-1.0] + [0.0] * (width - 1)),
        "scale": ([width], [2.0] + [1.0] * (width - 1)),
        "first.weight": ([2, width], [*only_mean, *(-value for value in only_mean)]),
        "first.bias": ([2], [0.0, 0.0]),
        "last.weight": ([2, 2], [1.0, 0.0, 0.0, 1.0]),
        "last.bias": ([2], [0.0, 1.0]),
    }
    head = load_head(str(a_head(tensors=tensors, shape="hidden layer", targets=("small", "large"))))
    score = head.score(ASKED, CandidateReading([-5.0]), 9)  # standardised: -2, so the first unit is off
    assert score.estimates == pytest.approx((0.5, 1 / (1 + math.exp(-3))))
    assert score.value == max(score.estimates)


def test_another_separator_than_in_training_is_refused(a_head: Heads) -> None:
    head = load_head(str(a_head(separator="\n")))
    with pytest.raises(BackendError, match=r"end with '\\n', but here they end with '\\n\\n'"):
        head.check_separator(ASKED)


@pytest.mark.parametrize(
    ("names", "prompt", "annotate", "targets", "error"),
    [
        ({"model": "other"}, "{question}\n", False, 1, "models.draft has model = 'other'. Train a head"),
        ({"model": "pocket:draft"}, "{question}", False, 1, "with the draft's prompt"),
        ({"model": "pocket:draft"}, "{question}\n", True, 1, "annotate = true"),
        ({"model": "m", "tokenizer": "pocket:draft"}, "{question}\n", False, 3, "estimates 1 targets, but 3"),
    ],
)
def test_a_head_is_refused_where_it_was_not_trained_for(
    names: dict[str, str], prompt: str, annotate: bool, targets: int, error: str, a_head: Heads
) -> None:
    head = load_head(str(a_head()))
    check_draft(head, {"model": "pocket:draft"}, PromptTemplate("{question}\n"), 1)
    with pytest.raises(ConfigError) as refused:
        check_draft(head, names, PromptTemplate(prompt, annotate), targets)
    assert error in str(refused.value)


def test_a_folder_that_is_no_head_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    for name in (str(tmp_path), str(tmp_path / "none"), "pocket:router"):
        with pytest.raises(ConfigError, match="arbiter train router --on draft"):
            load_head(name)


DAMAGES: list[tuple[str, Callable[[bytes], bytes]]] = [
    (WEIGHTS, lambda data: data[:-4]),
    (WEIGHTS, lambda _: b""),
    (WEIGHTS, lambda data: data.replace(b"F32", b"F16")),
    (WEIGHTS, lambda data: data.replace(b"last.bias", b"last.lost")),
    (WEIGHTS, lambda data: data[:-4] + b"\x00\x00\xc0\x7f"),  # NaN
    (METADATA, lambda data: data.replace(b'"logprobs"', b'"logprobs+entropy"')),
    (METADATA, lambda data: data.replace(b'"targets":[]', b'"targets":["a","b"]')),
    (METADATA, lambda data: data.replace(b'"version":1', b'"version":2')),
    (METADATA, lambda data: data.replace(b'"prompt"', b'"promp"')),
]


@pytest.mark.parametrize(("file", "change"), DAMAGES)
def test_damaged_files_are_refused(file: str, change: Callable[[bytes], bytes], a_head: Heads) -> None:
    folder = a_head()
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(change(data))
    assert (folder / file).read_bytes() != data
    assert is_head(folder)
    with pytest.raises(DataError, match=str(folder)):
        load_head(str(folder))
