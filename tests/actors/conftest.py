"""Rings of scripted models."""

from collections.abc import Awaitable, Callable, Iterable

import pytest

from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Scorer
from arbiter.protocols.records import Solution, Usage

Body = Callable[[], Awaitable[None]]


@pytest.fixture(scope="session")
def make_models() -> Callable[..., Models]:
    """All four models: the given ones, and defaults for the others that answer in three steps, 1 s per call."""

    def build(
        draft: Generator | None = None,
        target: Generator | None = None,
        prm: Scorer | None = None,
        router: Scorer | None = None,
        in_flight: int = 1000,
    ) -> Models:
        return Models(
            draft=ModelHandle(draft or ScriptedGenerator(_three_steps, seconds=1.0), in_flight),
            target=ModelHandle(target or ScriptedGenerator(_three_steps, seconds=1.0), in_flight),
            scorers={
                "prm": ModelHandle(prm or ScriptedScorer(lambda _: 0.5, seconds=1.0), in_flight),
                "router": ModelHandle(router or ScriptedScorer(lambda _: 0.5, seconds=1.0), in_flight),
            },
        )

    return build


@pytest.fixture(scope="session")
def three_steps() -> Callable[[GenerationRequest], Generation]:
    """The script of the default models: ``draft step 0`` and so on, three tokens each. The third ends the answer."""
    return _three_steps


@pytest.fixture(scope="session")
def solved(in_virtual_time: Callable[[Body], None]) -> Callable[..., list[Solution]]:
    """Solve tasks in a new ring. Return the solutions in the order in which they ended."""

    def solve(models: Models, tasks: Iterable[Task], concurrency: int = 1000, mailbox: int = 1) -> list[Solution]:
        solutions: list[Solution] = []

        async def done(solution: Solution) -> None:
            solutions.append(solution)

        async def body() -> None:
            async with open_ring(models, mailbox) as ring:
                await solve_all(ring, tasks, concurrency, done)

        in_virtual_time(body)
        return solutions

    return solve


def _three_steps(request: GenerationRequest) -> Generation:
    return Generation(
        text=f"{request.author} step {request.step}",
        stop_reason="end" if request.step == 2 else "separator",
        usage=Usage(prompt_tokens=10, completion_tokens=3),
    )
