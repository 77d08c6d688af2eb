"""A judge in process: the expected digit of its own distribution, in any batch."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from arbiter.backends.in_process.judging import InProcessJudge
from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.judge_prompts import JudgePrompt
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import ScoreRequest

Requests = Callable[..., ScoreRequest]
Served = Callable[..., list[Any]]

PROMPT = JudgePrompt("{question}\n{steps}\n{step}\n")
CANDIDATES = ("1+1: 1+1=2: 2.", "No.", "12*3: 2*3=6,1*3=3: 36.")


@pytest.fixture(scope="module")
def judge(
    tmp_path_factory: pytest.TempPathFactory, shape: Callable[..., Any], tokenizer: PreTrainedTokenizerFast
) -> Loaded:
    """Return a model with digits among its likeliest tokens: the weights of other tokens are small."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(shape())
    digits = [tokenizer.convert_tokens_to_ids(digit) for digit in "0123456789"]
    with torch.no_grad():
        weight = model.lm_head.weight
        keep = weight[digits].clone()
        weight.mul_(0.01)
        weight[digits] = keep * 3
    folder: Path = tmp_path_factory.mktemp("judge")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return open_model(str(folder), "generator", device="cpu")


def scores(served: Served, loaded: Loaded, requests: Sequence[ScoreRequest]) -> list[Any]:
    judge = InProcessJudge(loaded, PROMPT, 8)
    return served(judge.score, judge.engine.worker, requests)


def expected(folder: str, tokenizer: PreTrainedTokenizerFast, request: ScoreRequest) -> float:
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    text = PROMPT.render(request.transcript, request.candidate, request.separator)
    with torch.inference_mode():
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0, -1]
    top = set(logits.topk(20).indices.tolist())
    digits = {digit: tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)}
    weights = {digit: float(torch.exp(logits[token])) for digit, token in digits.items() if token in top}
    return sum(digit * weight for digit, weight in weights.items()) / sum(weights.values()) / 9


def test_the_score_is_the_expected_digit_of_the_models_next_token(
    judge: Loaded, tokenizer: PreTrainedTokenizerFast, served: Served, scoring: Requests
) -> None:
    requests = [scoring(candidate=candidate, score_kind="judge") for candidate in CANDIDATES]
    found = scores(served, judge, requests)
    own = [expected(judge.name, tokenizer, request) for request in requests]
    assert [score.value for score in found] == pytest.approx(own, abs=1e-4)
    assert len({round(score.value, 6) for score in found}) == len(CANDIDATES)
    assert all(score.usage.prompt_tokens and not score.usage.completion_tokens for score in found)


def test_a_model_that_has_no_digit_in_mind_fails_its_request_alone(
    judge: Loaded, tokenizer: PreTrainedTokenizerFast, served: Served, scoring: Requests, tmp_path: Path
) -> None:
    silent: Any = LlamaForCausalLM.from_pretrained(judge.name, dtype=torch.float32)
    with torch.no_grad():
        for digit in "0123456789":
            silent.lm_head.weight[tokenizer.convert_tokens_to_ids(digit)] = 0.0
        silent.lm_head.weight[:40] *= 100
    silent.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    [error] = scores(served, open_model(str(tmp_path), "generator", device="cpu"), [scoring(score_kind="judge")])
    assert isinstance(error, BackendError)
    assert "without a digit" in str(error)


def test_a_text_longer_than_the_context_is_refused(judge: Loaded, served: Served, scoring: Requests) -> None:
    [error, score] = scores(served, judge, [scoring(candidate="1 " * 200), scoring()])
    assert isinstance(error, ContextTooLongError)
    assert 0.0 <= score.value <= 1.0
