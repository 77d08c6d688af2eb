"""The confidence of a model in process: exact, from the raw distribution, and only if requested."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.prompts import PromptTemplate
from arbiter.protocols.ports import GenerationRequest, Proposal

Requests = Callable[..., GenerationRequest]
Served = Callable[..., list[Any]]
Write = Callable[..., list[Any]]

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
QUESTIONS = ("Compute 1+1.", "Compute (12+34)*5.", "2", "Start with 99.")


@pytest.fixture(scope="module")
def loaded(writer: Path) -> Loaded:
    return open_model(str(writer), "generator", device="cpu")


@pytest.fixture(scope="module")
def write(loaded: Loaded, served: Served) -> Write:
    def answers(requests: Sequence[GenerationRequest]) -> list[Any]:
        generator = InProcessGenerator(loaded, TEMPLATE, 8)
        return served(generator.generate, generator.engine.worker, requests)

    return answers


def expected(
    folder: Path, tokenizer: PreTrainedTokenizerFast, request: GenerationRequest, text: str
) -> tuple[float, float]:
    """Return both measures of a step that its limit cut, from one pass over prompt and step."""
    prompt = tokenizer(TEMPLATE.render(request.transcript, request.separator))["input_ids"]
    step = tokenizer(text, add_special_tokens=False)["input_ids"]
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *step]])).logits[0].double()
    chances = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
    mean = chances[torch.arange(len(step)), torch.tensor(step)].mean()
    return math.exp(mean), math.exp(-torch.special.entr(chances[0].exp()).sum())


def test_the_confidence_is_that_of_the_models_own_distribution(
    writer: Path, write: Write, generation: Requests, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = 0
    for question in QUESTIONS:
        request = generation(question, separator="###", max_tokens=6)
        mean, first = write(
            [generation(question, separator="###", max_tokens=6, confidence=m) for m in ("mean", "first")]
        )
        if len(tokenizer(mean.text, add_special_tokens=False)["input_ids"]) != mean.usage.completion_tokens:
            continue  # the text was written in other tokens than it tokenises to
        found += 1
        assert (mean.confidence, first.confidence) == pytest.approx(
            expected(writer, tokenizer, request, mean.text), rel=1e-3
        )
    assert found


def test_a_confidence_that_nobody_asked_for_is_not_there(write: Write, generation: Requests) -> None:
    plain, mean = write([generation(), generation(confidence="mean")])
    assert plain.confidence is None
    assert 0.0 < mean.confidence <= 1.0
    assert plain.text == mean.text


def test_neither_temperature_nor_top_p_has_a_part_in_the_first_tokens_confidence(
    write: Write, generation: Requests
) -> None:
    greedy = generation(confidence="first")
    warm = generation(confidence="first", temperature=1.7, top_p=0.4, seed=3)
    assert len({answer.confidence for answer in write([greedy, warm])}) == 1


def test_a_confidence_does_not_depend_on_who_shares_the_batch(write: Write, generation: Requests) -> None:
    requests = [generation(question, confidence="mean", max_tokens=9) for question in QUESTIONS]
    together = [answer.confidence for answer in write(requests)]
    assert together == pytest.approx([write([request])[0].confidence for request in requests], rel=1e-4)


def test_a_step_whose_confidence_is_asked_for_is_written_and_no_proposal_read(
    write: Write, generation: Requests
) -> None:
    [plain] = write([generation()])
    [sure] = write([generation(confidence="mean", proposal=Proposal(plain.text, "limit"))])
    assert (sure.text, sure.prefix_match) == (plain.text, None)
