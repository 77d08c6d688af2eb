"""Steps of whole blocks by a model in process: they are the steps that it writes one by one, joined."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.backends.bounded_steps import BoundedSteps
from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import Loaded, open_model
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.step_boundaries import OutsideBlocks
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal
from arbiter.protocols.records import Step

Requests = Callable[..., GenerationRequest]
Served = Callable[..., list[Any]]
Write = Callable[[Sequence[GenerationRequest]], list[Generation]]

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
SEPARATOR = " "
TOGETHER = 3


@pytest.fixture(scope="module")
def loaded(writer: Path) -> Loaded:
    return open_model(str(writer), "generator", device="cpu")


@pytest.fixture(scope="module")
def write(loaded: Loaded, served: Served) -> Callable[..., Generation]:
    def answer(request: GenerationRequest, whole: bool = False) -> Generation:
        generator = InProcessGenerator(loaded, TEMPLATE, 8)
        blocks = BoundedSteps(generator, OutsideBlocks(lambda text: text.count(SEPARATOR) < TOGETHER))
        [made] = served((blocks if whole else generator).generate, generator.engine.worker, [request])
        return made

    return answer


def alone(request: GenerationRequest, write: Callable[..., Generation]) -> list[Generation]:
    """The steps of which a block is made, each written by a request of its own with the tokens that are left."""
    steps = list[Generation]()
    while len(steps) < TOGETHER and (not steps or steps[-1].stop_reason == "separator"):
        steps.append(write(request))
        transcript = request.transcript.extended(Step(steps[-1].text, request.author))
        left = request.max_tokens - steps[-1].usage.completion_tokens
        request = msgspec.structs.replace(request, transcript=transcript, max_tokens=left)
    return steps


@pytest.mark.parametrize("confidence", [None, "mean", "first"])
def test_a_block_is_what_the_model_writes_step_by_step(
    generation: Requests, write: Callable[..., Generation], confidence: str | None
) -> None:
    request = generation(separator=SEPARATOR, max_tokens=60, confidence=confidence)
    steps, block = alone(request, write), write(request, whole=True)
    assert len(steps) == TOGETHER
    assert (block.text, block.stop_reason) == (SEPARATOR.join(one.text for one in steps), steps[-1].stop_reason)
    assert block.usage.prompt_tokens == steps[0].usage.prompt_tokens
    assert block.usage.completion_tokens == sum(one.usage.completion_tokens for one in steps)
    assert (block.confidence is None) == (confidence is None)


def test_a_proposed_block_is_kept_as_far_as_the_model_agrees(
    generation: Requests, write: Callable[..., Generation]
) -> None:
    request = generation(separator=SEPARATOR, max_tokens=60)
    block = write(request, whole=True)
    own = write(msgspec.structs.replace(request, proposal=Proposal(block.text, "separator")), whole=True)
    other = write(msgspec.structs.replace(request, proposal=Proposal("0" + block.text, "separator")), whole=True)
    for made in (own, other):
        assert (made.text, made.stop_reason) == (block.text, block.stop_reason)
        assert made.usage.completion_tokens == block.usage.completion_tokens
    assert own.prefix_match is not None
    assert other.prefix_match is not None
    assert own.prefix_match.matched >= block.usage.completion_tokens - TOGETHER
    assert other.prefix_match.matched == 0
