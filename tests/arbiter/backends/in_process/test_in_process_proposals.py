"""A proposed step changes no answer. It only saves the tokens that the model would have written itself."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.prompts import PromptTemplate
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal
from arbiter.protocols.records import PrefixMatch, Step, StopReason, Transcript, Usage

Requests = Callable[..., GenerationRequest]
Served = Callable[..., list[Any]]
Write = Callable[[Sequence[GenerationRequest]], list[Generation]]

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
QUESTIONS = ("Compute 1+1.", "Compute (12+34)*5.", "Start with 7. Add 11.", "2", "Bob has 55 shells.")
SEPARATORS = ("\n\n", " ", "e", "1", ": ", "an")


@pytest.fixture(scope="module")
def loaded(writer: Path) -> Loaded:
    return open_model(str(writer), "generator", device="cpu")


@pytest.fixture(scope="module")
def write(loaded: Loaded, served: Served) -> Write:
    def answers(requests: Sequence[GenerationRequest]) -> list[Generation]:
        generator = InProcessGenerator(loaded, TEMPLATE, 8)
        return served(generator.generate, generator.engine.worker, requests)

    return answers


def with_proposal(request: GenerationRequest, text: str, ending: StopReason = "separator") -> GenerationRequest:
    return msgspec.structs.replace(request, proposal=Proposal(text, ending))


def step_of(made: Generation) -> tuple[str, StopReason, Usage]:
    return made.text, made.stop_reason, msgspec.structs.replace(made.usage, cached_tokens=0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.slow
def test_an_answer_is_the_same_with_a_proposal_of_any_kind(generation: Requests, write: Write, seed: int) -> None:
    draw = random.Random(seed)
    requests = [
        generation(question, separator=draw.choice(SEPARATORS), max_tokens=draw.randint(1, 20))
        for question in draw.choices(QUESTIONS, k=6)
    ]
    plain = write(requests)
    proposals = list[str]()
    for own in plain:
        cut = draw.randint(0, len(own.text))
        wrong = "".join(draw.choices("0123 abc=+:\n", k=draw.randint(0, 8)))
        proposals.append(draw.choice([own.text, own.text[:cut], own.text[:cut] + wrong, own.text + wrong, wrong]))
    endings: list[StopReason] = draw.choices(("separator", "end", "limit"), k=6)
    proposed = [
        with_proposal(request, text, ending) if draw.random() < 0.8 else request
        for request, text, ending in zip(requests, proposals, endings, strict=True)
    ]
    assert [step_of(made) for made in write(proposed)] == [step_of(made) for made in plain]


def test_a_step_that_the_model_would_have_written_itself_costs_one_pass(
    generation: Requests, write: Write, loaded: Loaded, served: Served
) -> None:
    request = generation(separator="an", max_tokens=40)
    own = write([request])[0]
    generator = InProcessGenerator(loaded, TEMPLATE, 8)
    proposed = [with_proposal(request, own.text, own.stop_reason)]
    [made] = served(generator.generate, generator.engine.worker, proposed)
    assert step_of(made) == step_of(own)
    assert own.usage.completion_tokens > 3
    assert generator.engine.passes == 1
    assert made.prefix_match is not None
    assert made.prefix_match.matched >= own.usage.completion_tokens - 1


def test_of_a_wrong_proposal_the_tokens_are_counted_that_were_read_for_nothing(
    generation: Requests, write: Write, loaded: Loaded
) -> None:
    request = generation(max_tokens=6)
    own = write([request])[0]
    wrong = "".join(chr(ord(character) ^ 1) for character in own.text)
    made = write([with_proposal(request, wrong, "limit")])[0]
    tokens = loaded.texts.encode(wrong, special=False)
    proposed = min(len(tokens), 5)
    assert step_of(made) == step_of(own)
    assert made.prefix_match == PrefixMatch(proposed, 0)
    assert made.overhead == Usage(prompt_tokens=proposed)


def test_without_a_proposal_there_is_no_agreement(generation: Requests, write: Write) -> None:
    made = write([generation(), with_proposal(generation(), "1")])
    assert made[0].prefix_match is None
    assert made[1].prefix_match is not None


def test_a_proposal_takes_part_in_a_batch_with_sampled_requests(generation: Requests, write: Write) -> None:
    sampled = generation(temperature=1.0, seed=7)
    alone = write([sampled])[0]
    own = write([generation()])[0]
    together = write([sampled, with_proposal(generation(), own.text[:5] + "?")])
    assert [step_of(made) for made in together] == [step_of(alone), step_of(own)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow
def test_what_is_kept_of_earlier_steps_changes_no_later_one(
    generation: Requests, write: Write, loaded: Loaded, served: Served, seed: int
) -> None:
    """A solution is written step by step, with proposals that are kept in part, and in fresh generators without."""
    draw = random.Random(seed)
    generator = InProcessGenerator(loaded, TEMPLATE, 4)
    transcripts = [Transcript(question) for question in QUESTIONS[:3]]
    reused = 0
    for _ in range(4):
        requests = [generation(transcript=transcript, max_tokens=9, separator="e") for transcript in transcripts]
        plain = write(requests)
        proposed = [
            with_proposal(request, own.text[: draw.randint(0, 9)] + draw.choice(("", "7", " + 3")), "limit")
            for request, own in zip(requests, plain, strict=True)
        ]
        made: list[Generation] = served(generator.generate, generator.engine.worker, proposed)
        assert [step_of(answer) for answer in made] == [step_of(answer) for answer in plain]
        reused = min(answer.usage.cached_tokens for answer in made)
        transcripts = [
            transcript.extended(Step(answer.text, "target"))
            for transcript, answer in zip(transcripts, made, strict=True)
        ]
    assert reused > 10
