"""Tasks, rings of scripted models, and a clock that jumps as soon as nobody has anything to do."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from actors.policies import DraftOnly
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.ring import Models, open_ring, solve_all
from protocols.messages import Task
from protocols.ports import Generation, GenerationRequest, Generator, Policy, Scorer, Seat
from protocols.records import Solution, Transcript, Usage

Body = Callable[[], Awaitable[None]]

FOR_EVER = 1e9  # virtual seconds, longer than any scripted run: whoever reaches it waits for nothing


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


@pytest.fixture(scope="session")
def in_virtual_time() -> Callable[[Body], None]:
    """Run an async function to its end; a deadlock raises ``TooSlowError`` at once."""

    def run(body: Body) -> None:
        async def guarded() -> None:
            with trio.fail_after(FOR_EVER):
                await body()

        trio.run(guarded, clock=MockClock(autojump_threshold=0))

    return run


@pytest.fixture(scope="session")
def a_task() -> Callable[..., Task]:
    """A task with the fields that matter to a test."""

    def build(problem: str = "p", policy: Policy | None = None, **fields: Any) -> Task:
        return Task(id=problem, transcript=Transcript(f"question {problem}"), policy=policy or DraftOnly(), **fields)

    return build


@pytest.fixture(scope="session")
def cast() -> Callable[..., Models]:
    """All four models: those that matter to a test as given, the others with an answer of three steps, 1 s a call."""

    def build(
        draft: Generator | None = None,
        target: Generator | None = None,
        prm: Scorer | None = None,
        router: Scorer | None = None,
        in_flight: int = 1000,
    ) -> Models:
        return Models(
            draft=Seat(draft or ScriptedGenerator(_three_steps, seconds=1.0), in_flight),
            target=Seat(target or ScriptedGenerator(_three_steps, seconds=1.0), in_flight),
            scorers={
                "prm": Seat(prm or ScriptedScorer(lambda _: 0.5, seconds=1.0), in_flight),
                "router": Seat(router or ScriptedScorer(lambda _: 0.5, seconds=1.0), in_flight),
            },
        )

    return build


@pytest.fixture(scope="session")
def three_steps() -> Callable[[GenerationRequest], Generation]:
    """The script of the cast's own models: ``draft step 0`` and so on, three tokens each; the third ends the answer."""
    return _three_steps


@pytest.fixture(scope="session")
def solved(in_virtual_time: Callable[[Body], None]) -> Callable[..., list[Solution]]:
    """The solutions of tasks in a ring of its own, in the order in which they ended."""

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
        text=f"{request.role} step {request.step}",
        ending="end" if request.step == 2 else "separator",
        usage=Usage(prompt_tokens=10, completion_tokens=3),
    )
