"""Blocks of steps from models that write and score one after the other, and through the generators over them."""

from collections.abc import Callable
from typing import Any

import pytest

from arbiter.backends.bounded_steps import BoundedSteps
from arbiter.backends.calling import CallingGenerator
from arbiter.backends.fences import open_fence
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.backends.step_blocks import scored_together, written_in_turn
from arbiter.backends.step_boundaries import OutsideBlocks
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ScoreRequest
from arbiter.protocols.records import Step, StopReason, Transcript, Usage

REQUEST = GenerationRequest("p", 1, 0, "draft", Transcript("q", (Step("first", "target"),)), "\n\n", 50, 0.0, 1.0, 0)


def writing(last: int, ending: StopReason = "end") -> tuple[list[GenerationRequest], Any]:
    asked: list[GenerationRequest] = []

    def write(request: GenerationRequest) -> Generation:
        asked.append(request)
        return Generation(f"step {request.step}", ending if request.step == last else "separator", Usage(9, 3))

    return asked, write


@pytest.mark.parametrize(("last", "ending", "count"), [(9, "end", 4), (3, "end", 3), (2, "limit", 2), (1, "end", 1)])
def test_each_step_of_a_block_is_written_after_the_ones_before_it(
    in_virtual_time: Callable[..., None], last: int, ending: StopReason, count: int
) -> None:
    async def body() -> None:
        asked, write = writing(last, ending)
        written = await written_in_turn(ScriptedGenerator(write).generate, REQUEST, 4)
        assert [step.text for step in written] == [f"step {number}" for number in range(1, count + 1)]
        before = ("first", *(step.text for step in written))
        for request in asked:
            assert tuple(step.text for step in request.transcript.steps) == before[: request.step]

    in_virtual_time(body)


def test_the_scores_of_a_block_come_in_order_and_an_error_is_raised_alone(in_virtual_time: Callable[..., None]) -> None:
    def request(step: int) -> ScoreRequest:
        return ScoreRequest("p", step, "prm", Transcript("q"), f"step {step}", "draft", "\n\n")

    def rate(request: ScoreRequest) -> float:
        if request.step > 4:
            raise BackendError("too long")
        return request.step / 10

    async def body() -> None:
        scorer = ScriptedScorer(rate, seconds=lambda request: 9.0 - request.step)
        found = await scored_together(scorer.score, tuple(map(request, range(4))))
        assert [score.value for score in found] == [0.0, 0.1, 0.2, 0.3]
        with pytest.raises(BackendError, match="too long"):
            await scored_together(scorer.score, tuple(map(request, range(3, 6))))

    in_virtual_time(body)


@pytest.mark.parametrize(
    ("inner", "can"),
    [
        (ScriptedGenerator(lambda _: "a step", writes_blocks=True), True),
        (ScriptedGenerator(lambda _: "a step"), False),
        (BoundedSteps(ScriptedGenerator(lambda _: "a step", writes_blocks=True), OutsideBlocks(open_fence)), False),
    ],
    ids=["a model that can", "a model that cannot", "steps of whole blocks of code"],
)
def test_a_model_that_may_call_tools_writes_blocks_if_the_model_below_does(
    in_virtual_time: Callable[..., None], inner: Generator, can: bool
) -> None:
    async def body() -> None:
        model = CallingGenerator(inner, None)
        assert model.writes_blocks is can
        if can:
            assert [step.text for step in await model.generate_block(REQUEST, 2)] == ["a step", "a step"]

    in_virtual_time(body)
