"""A sequence classifier in process scores as transformers does, in any batch."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.in_process.scoring import InProcessScorer
from arbiter.backends.prompts import PromptTemplate
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import Step, Transcript

Requests = Callable[..., ScoreRequest]
Classifiers = Callable[..., Path]
Served = Callable[..., list[Any]]

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n", annotate=True)
CANDIDATES = ("1+1: 1+1=2: 2.", "No.", "The answer is \\boxed{2}.", "12*3: 2*3=6,1*3=3: 36.", "7")


def scores(served: Served, loaded: Loaded, requests: Sequence[ScoreRequest], largest: int = 8) -> list[Any]:
    scorer = InProcessScorer(loaded, TEMPLATE, largest)
    return served(scorer.score, scorer.engine.worker, requests)


def logits(folder: Path, tokenizer: PreTrainedTokenizerFast, request: ScoreRequest) -> torch.Tensor:
    """Return the score by transformers alone, one text at a time."""
    model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    text = TEMPLATE.render_candidate(request.transcript, request.candidate, request.author, request.separator)
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).logits[0]


def test_a_block_has_the_scores_of_its_candidates_alone(loaded: Loaded, served: Served, scoring: Requests) -> None:
    requests = [scoring(candidate=candidate) for candidate in CANDIDATES]
    scorer = InProcessScorer(loaded, TEMPLATE, 8)
    [block] = served(scorer.score_block, scorer.engine.worker, [tuple(requests)])
    alone = [score.value for score in scores(served, loaded, requests)]
    assert [score.value for score in block] == pytest.approx(alone, abs=1e-6)


def test_a_block_with_a_candidate_that_fails_raises_its_error(
    loaded: Loaded, served: Served, scoring: Requests
) -> None:
    scorer = InProcessScorer(loaded, TEMPLATE, 8)
    long = scoring(candidate="7 " * (loaded.model.context + 1))
    [error] = served(scorer.score_block, scorer.engine.worker, [(scoring(), long)])
    assert isinstance(error, ContextTooLongError)


@pytest.fixture(scope="module")
def value(classifier: Classifiers) -> Path:
    return classifier(1)


@pytest.fixture(scope="module")
def loaded(value: Path) -> Loaded:
    return open_model(str(value), "scorer", device="cpu")


def test_one_label_is_a_value_and_its_sigmoid_the_score(
    value: Path, loaded: Loaded, tokenizer: PreTrainedTokenizerFast, served: Served, scoring: Requests
) -> None:
    requests = [scoring(candidate=candidate) for candidate in CANDIDATES]
    expected = [torch.sigmoid(logits(value, tokenizer, request)[0]).item() for request in requests]
    assert max(expected) - min(expected) > 0.1
    assert [score.value for score in scores(served, loaded, requests)] == pytest.approx(expected, abs=1e-5)


def test_two_labels_are_classes_and_the_chance_of_the_second_is_the_score(
    classifier: Classifiers, tokenizer: PreTrainedTokenizerFast, served: Served, scoring: Requests
) -> None:
    folder = classifier(2)
    requests = [scoring(candidate=candidate) for candidate in CANDIDATES]
    expected = [torch.softmax(logits(folder, tokenizer, request), -1)[1].item() for request in requests]
    found = scores(served, open_model(str(folder), "scorer", device="cpu"), requests)
    assert max(expected) - min(expected) > 0.1
    assert [score.value for score in found] == pytest.approx(expected, abs=1e-5)


def test_a_router_of_two_targets_has_a_pair_of_classes_for_each(
    classifier: Classifiers, tokenizer: PreTrainedTokenizerFast, served: Served, scoring: Requests
) -> None:
    folder = classifier(4)
    requests = [scoring(candidate=candidate) for candidate in CANDIDATES]
    scorer = InProcessScorer(open_model(str(folder), "scorer", device="cpu"), TEMPLATE, 8, targets=2)
    found: list[Any] = served(scorer.score, scorer.engine.worker, requests)
    for score, request in zip(found, requests, strict=True):
        pairs = logits(folder, tokenizer, request).reshape(2, 2)
        assert score.estimates == pytest.approx(torch.softmax(pairs, -1)[:, 1].tolist(), abs=1e-5)
        assert score.value == max(score.estimates)


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_a_router_of_two_targets_with_other_labels_is_refused(classifier: Classifiers, labels: int) -> None:
    with pytest.raises(BackendError, match=rf"has {labels} labels; a router of 2 targets has 4"):
        InProcessScorer(open_model(str(classifier(labels)), "scorer", device="cpu"), TEMPLATE, 8, targets=2)


@pytest.mark.parametrize("labels", [3, 4])
def test_any_other_number_of_labels_is_refused_by_name(classifier: Classifiers, labels: int) -> None:
    folder = str(classifier(labels))
    with pytest.raises(BackendError) as caught:
        InProcessScorer(open_model(folder, "scorer", device="cpu"), TEMPLATE, 8)
    assert str(caught.value).startswith(f"{folder} has {labels} labels; ")


def test_a_batch_of_one_and_a_batch_of_five_score_the_same(loaded: Loaded, served: Served, scoring: Requests) -> None:
    requests = [scoring(candidate=candidate) for candidate in CANDIDATES]
    alone = [score.value for score in scores(served, loaded, requests, largest=1)]
    assert [score.value for score in scores(served, loaded, requests)] == pytest.approx(alone, abs=1e-5)


def test_a_checkpoint_that_names_no_padding_scores_a_batch(
    classifier: Classifiers, tokenizer: PreTrainedTokenizerFast, served: Served, scoring: Requests
) -> None:
    folder = classifier(1, pad_token_id=None)
    requests = [scoring(candidate=candidate) for candidate in CANDIDATES]
    expected = [torch.sigmoid(logits(folder, tokenizer, request)[0]).item() for request in requests]
    found = scores(served, open_model(str(folder), "scorer", device="cpu"), requests)
    assert [getattr(score, "value", score) for score in found] == pytest.approx(expected, abs=1e-5)


def test_a_text_longer_than_the_context_fails_alone(loaded: Loaded, served: Served, scoring: Requests) -> None:
    fitting = [scoring(candidate=candidate) for candidate in CANDIDATES[:2]]
    first, too_long, last = scores(served, loaded, [fitting[0], scoring("1" * loaded.model.context), fitting[1]])
    assert isinstance(too_long, ContextTooLongError)
    assert loaded.name in str(too_long)
    alone = [score.value for score in scores(served, loaded, fitting)]
    assert [first.value, last.value] == pytest.approx(alone, abs=1e-5)


def test_a_text_that_begins_like_an_earlier_one_has_the_same_score(
    loaded: Loaded, served: Served, scoring: Requests
) -> None:
    scorer = InProcessScorer(loaded, TEMPLATE, 8)
    requests = [scoring(candidate=candidate) for candidate in CANDIDATES]
    together: list[Any] = served(scorer.score, scorer.engine.worker, requests)
    again: list[Any] = served(scorer.score, scorer.engine.worker, requests)
    assert [score.value for score in again] == pytest.approx([score.value for score in together], abs=1e-5)
    assert [score.usage.cached_tokens for score in again] == [score.usage.prompt_tokens - 1 for score in again]


def test_usage_counts_the_tokens_that_were_read(
    loaded: Loaded, tokenizer: PreTrainedTokenizerFast, served: Served, scoring: Requests
) -> None:
    context = Transcript("Compute 1+1.", (Step("Let me see.", "target"),))
    [score] = scores(served, loaded, [scoring(transcript=context)])
    text = "Problem: Compute 1+1.\nSolution:\nModel 1: Let me see.\n\nModel 0: 1+1: 1+1=2: 2.\n\n"
    assert (score.usage.prompt_tokens, score.usage.completion_tokens) == (len(tokenizer(text)["input_ids"]), 0)
