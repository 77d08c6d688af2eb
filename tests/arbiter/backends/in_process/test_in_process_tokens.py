"""The tokens of a model in process, and its penalties: OpenAI's definition, over the whole answer so far."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.in_process.token_penalties import TokenPenalties
from arbiter.backends.prompts import PromptTemplate
from arbiter.protocols.ports import GenerationRequest, Proposal
from arbiter.protocols.records import Step, Transcript

Requests = Callable[..., GenerationRequest]
Served = Callable[..., list[Any]]
Write = Callable[..., list[Any]]

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
QUESTIONS = ("Compute 1+1.", "Compute (12+34)*5.", "2", "Start with 99.", "世界")


@pytest.fixture(scope="module")
def loaded(writer: Path) -> Loaded:
    return open_model(str(writer), "generator", device="cpu")


@pytest.fixture(scope="module")
def write(loaded: Loaded, served: Served) -> Write:
    def answers(requests: Sequence[GenerationRequest]) -> list[Any]:
        generator = InProcessGenerator(loaded, TEMPLATE, 8)
        return served(generator.generate, generator.engine.worker, requests)

    return answers


def next_logits(folder: Path, tokens: Sequence[int]) -> torch.Tensor:
    """The logits after each of ``tokens``."""
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([[*tokens]])).logits[0]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_tokens_make_up_the_step_and_the_separator_after_it(
    write: Write, generation: Requests, temperature: float
) -> None:
    requests = [
        generation(question, separator=separator, temperature=temperature, seed=seed, top_logprobs=3, max_tokens=20)
        for question in QUESTIONS
        for separator in ("###", "1", " ")
        for seed in range(3)
    ]
    endings = set[str]()
    for request, found in zip(requests, write(requests), strict=True):
        endings.add(found.stop_reason)
        ended = request.separator if found.stop_reason == "separator" else ""
        assert "".join(token.text for token in found.tokens) == found.text + ended
        assert all(token.logprob <= 0 and len(token.top) == 3 for token in found.tokens)
        assert all(token.top[0].logprob >= token.top[1].logprob >= token.top[2].logprob for token in found.tokens)
    assert "limit" in endings


def test_log_probabilities_are_those_of_the_models_own_distribution(
    writer: Path, write: Write, generation: Requests, tokenizer: PreTrainedTokenizerFast
) -> None:
    request = generation("2", separator="###", max_tokens=6, temperature=1.0, presence_penalty=1.0, top_logprobs=2)
    (found,) = write([request])
    prompt = tokenizer(TEMPLATE.render(request.transcript, request.separator))["input_ids"]
    step = tokenizer(found.text, add_special_tokens=False)["input_ids"]
    assert len(step) == len(found.tokens), "the step was written in other tokens than it tokenises to: use another seed"
    expected = torch.log_softmax(next_logits(writer, [*prompt, *step])[len(prompt) - 1 : -1], -1)
    for token, own, row in zip(found.tokens, step, expected, strict=True):
        assert token.logprob == pytest.approx(float(row[own]), abs=1e-3)
        assert [one.logprob for one in token.top] == pytest.approx(row.topk(2).values.tolist(), abs=1e-3)
        assert token.text == tokenizer.decode([own])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_step_is_the_same_with_and_without_its_tokens(write: Write, generation: Requests, temperature: float) -> None:
    plain = [generation(question, temperature=temperature) for question in QUESTIONS]
    with_tokens = [generation(question, temperature=temperature, top_logprobs=0) for question in QUESTIONS]
    found = write([*plain, *with_tokens])
    for one, other in zip(found[: len(plain)], found[len(plain) :], strict=True):
        assert (one.text, one.usage.completion_tokens, one.tokens) == (other.text, other.usage.completion_tokens, None)
        assert all(token.top == () for token in other.tokens)


@pytest.mark.parametrize("fields", [{"top_logprobs": 1}, {"presence_penalty": 1.0}, {"frequency_penalty": -1.0}])
def test_a_step_with_tokens_or_penalties_reads_no_proposal(
    write: Write, generation: Requests, fields: dict[str, Any]
) -> None:
    proposal = Proposal("1+1: 1+1=2: 2.", "separator")
    with_proposal, without = write([generation(proposal=proposal, **fields), generation(**fields)])
    assert with_proposal == without
    assert with_proposal.prefix_match is None


@pytest.mark.parametrize(("presence", "frequency"), [(1.0, 0.0), (0.0, 0.5), (1.5, -0.25), (-2.0, 2.0)])
def test_a_penalty_is_taken_from_the_logit_of_what_was_written(presence: float, frequency: float) -> None:
    logits = torch.tensor([1.0, 2.0, 3.0, 4.0])
    penalties = TokenPenalties(presence, frequency, [2, 2])
    for token in (2, 0):
        penalties.take(token)
    expected = [1.0 - presence - frequency, 2.0, 3.0 - presence - 3 * frequency, 4.0]
    assert penalties.applied(logits).tolist() == pytest.approx(expected)
    assert logits.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_penalties_count_the_whole_answer_and_no_prompt(
    writer: Path, write: Write, generation: Requests, tokenizer: PreTrainedTokenizerFast
) -> None:
    transcript = Transcript("Compute 1+1.", (Step("1+1: 2.", "target"), Step("Then 7.", "draft")))
    request = generation(
        transcript=transcript, separator="###", max_tokens=8, presence_penalty=2.0, frequency_penalty=1.0
    )
    (found,) = write([request])
    prompt = tokenizer(TEMPLATE.render(transcript, "###"))["input_ids"]
    written: list[int] = tokenizer("1+1: 2.###Then 7.###", add_special_tokens=False)["input_ids"]
    step: list[int] = []
    for _ in range(found.usage.completion_tokens):
        logits = next_logits(writer, [*prompt, *step])[-1].clone()
        for token in {*written, *step}:
            logits[token] -= 2.0 + 1.0 * [*written, *step].count(token)
        step.append(int(logits.argmax()))
    assert str(tokenizer.decode(step)).partition("###")[0] == found.text
