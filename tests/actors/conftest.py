"""Rings of scripted models."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest

from arbiter.actors import ring
from arbiter.actors.drafter import Drafter
from arbiter.actors.escalator import Escalator
from arbiter.actors.factories import ActorFactories
from arbiter.actors.ring import Ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.router import Router
from arbiter.actors.verifier import Verifier
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Scorer
from arbiter.protocols.records import Solution, Usage

Body = Callable[[], Awaitable[None]]
OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]


@pytest.fixture(scope="session")
def make_models() -> Callable[..., Models]:
    """All four models: the given ones, and defaults for the others that answer in three steps, 1 s per call."""

    def build(
        draft: Generator | None = None,
        target: Generator | None = None,
        prm: Scorer | None = None,
        router: Scorer | None = None,
        in_flight: int = 1000,
        pauses: bool = False,
    ) -> Models:
        return Models(
            draft=ModelHandle(draft or ScriptedGenerator(_three_steps, seconds=1.0), in_flight, pauses=pauses),
            target=ModelHandle(target or ScriptedGenerator(_three_steps, seconds=1.0), in_flight, pauses=pauses),
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


@pytest.fixture(scope="session", params=["direct", "mailboxes"])
def open_ring(request: pytest.FixtureRequest) -> OpenRing:
    """Opens rings whose messages are delivered directly, or through mailboxes as those of replacement actors."""
    return (
        ring.open_ring
        if request.param == "direct"
        else partial(with_mailboxes, ("drafter", "verifier", "router", "escalator"))
    )


@pytest.fixture(scope="session")
def solved(in_virtual_time: Callable[[Body], None], open_ring: OpenRing) -> Callable[..., list[Solution]]:
    """Solve tasks in a new ring. Return the solutions in the order in which they ended."""

    def solve(models: Models, tasks: Iterable[Task], concurrency: int = 1000, mailbox: int = 1) -> list[Solution]:
        solutions: list[Solution] = []

        async def done(solution: Solution) -> None:
            solutions.append(solution)

        async def body() -> None:
            async with open_ring(models, mailbox) as opened:
                await solve_all(opened, tasks, concurrency, done)

        in_virtual_time(body)
        return solutions

    return solve


def with_mailboxes(
    replaced: Collection[str], models: Models, *options: Any, **named: Any
) -> AbstractAsyncContextManager[Ring]:
    """Open a ring in which the built-in actors named in ``replaced`` are made as replacement actors are.

    An actor without a model is not replaced.
    """
    actors: dict[str, Any] = {"verifier": Verifier, "router": Router}
    if models.draft:
        actors["drafter"] = Drafter
    if models.target or models.targets:
        actors["escalator"] = Escalator
    factories = ActorFactories(**{name: actor for name, actor in actors.items() if name in replaced})
    return ring.open_ring(models, *options, factories=factories, **named)


def _three_steps(request: GenerationRequest) -> Generation:
    return Generation(
        text=f"{request.author} step {request.step}",
        stop_reason="end" if request.step == 2 else "separator",
        usage=Usage(prompt_tokens=10, completion_tokens=3),
    )
