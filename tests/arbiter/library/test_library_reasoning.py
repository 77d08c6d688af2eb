"""The thought of a solution, in the library."""

from collections.abc import Mapping

import anyio
import pytest

from arbiter import Arbiter, ConfigError
from arbiter.actors.ring_setup import Models
from arbiter.backends.bounded_steps import BoundedSteps
from arbiter.backends.step_boundaries import OutsideBlocks
from arbiter.config.config import parse
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.protocols.tools import Effort

TEXT = "\\boxed{1}\n</think>\n\n\\boxed{2}"


class Opened:
    """A model whose prompt opens a thought, unless none is requested."""

    opens_thought = True
    thinks = False
    efforts: Mapping[Effort, bool] = {"none": False, "high": True}

    def __init__(self, text: str = TEXT) -> None:
        self._text = text

    async def generate(self, request: GenerationRequest) -> Generation:
        return Generation(self._text, "end", Usage(1, 1))


class Plain:
    """A model that says nothing about thoughts."""

    async def generate(self, request: GenerationRequest) -> Generation:
        rules = request.transcript.rules
        return Generation(f"<think>a</think>{rules and rules.effort}", "end", Usage(1, 1))


def arbiter_of(model: Generator) -> Arbiter:
    return Arbiter(parse({"models": {}, "run_type": "draft"}, "test"), models=Models(draft=ModelHandle(model)))


@pytest.mark.parametrize(
    ("text", "effort", "reasoning", "content", "answer"),
    [
        (TEXT, None, "\\boxed{1}", "\\boxed{2}", "2"),
        (TEXT, "high", "\\boxed{1}", "\\boxed{2}", "2"),
        ("\\boxed{1}", "high", "\\boxed{1}", None, None),
        ("\\boxed{1}", None, "\\boxed{1}", None, None),
        ("\\boxed{1}", "none", "", "\\boxed{1}", "1"),
    ],
)
def test_a_solution_has_its_thought_and_what_follows(
    text: str, effort: Effort | None, reasoning: str, content: str | None, answer: str | None
) -> None:
    async def body() -> None:
        async with arbiter_of(Opened(text)) as arbiter:
            solution = await (arbiter.solve("q", reasoning_effort=effort) if effort else arbiter.solve("q"))
        assert (solution.reasoning, solution.content, solution.answer) == (reasoning, content, answer)
        assert solution.text == text

    anyio.run(body)


def test_a_model_that_says_nothing_about_thoughts_gets_the_effort_and_has_no_thought() -> None:
    async def body() -> None:
        async with arbiter_of(Plain()) as arbiter:
            solution = await arbiter.solve("q", reasoning_effort="max")
        assert (solution.reasoning, solution.content) == ("", "<think>a</think>max")

    anyio.run(body)


def test_the_efforts_and_thoughts_of_a_model_are_known_through_what_wraps_it() -> None:
    wrapped, plain = (BoundedSteps(one, OutsideBlocks(lambda _: False)) for one in (Opened(), Plain()))
    assert (wrapped.opens_thought, wrapped.thinks, wrapped.efforts) == (True, False, Opened.efforts)
    assert (plain.opens_thought, plain.thinks, plain.efforts) == (False, False, None)


def test_an_effort_that_the_model_does_not_take_is_refused() -> None:
    async def body() -> None:
        async with arbiter_of(Opened()) as arbiter:
            with pytest.raises(ConfigError, match=r"reasoning_effort: 'low' .* can request only none, high"):
                await arbiter.solve("q", reasoning_effort="low")
            with pytest.raises(ConfigError, match="reasoning_effort"):
                await arbiter.solve("q", reasoning_effort="much")  # pyright: ignore[reportArgumentType] - wrong on purpose

    anyio.run(body)
