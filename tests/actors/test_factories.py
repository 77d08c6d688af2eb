"""How actors are made: built-in actors and replacements in the same way."""

from collections.abc import Awaitable, Callable

import pytest

from arbiter.actors.actor import ActorContext
from arbiter.actors.drafter import Drafter
from arbiter.actors.escalator import Escalator
from arbiter.actors.factories import ActorFactories
from arbiter.actors.mailboxes import Inbox
from arbiter.actors.policies import DraftOnly, LearnedRouter
from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.actors.router import Router
from arbiter.actors.verifier import Verifier
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import DrafterMail, Task
from arbiter.protocols.records import Solution

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]


def test_a_factory_receives_the_inbox_and_what_the_ring_is_made_of(
    in_virtual_time: Virtual, make_models: MakeModels, a_task: Tasks
) -> None:
    models, contexts = make_models(), list[ActorContext]()

    def drafter(inbox: Inbox[DrafterMail], context: ActorContext) -> Drafter:
        contexts.append(context)
        return Drafter(inbox, context)

    async def body() -> None:
        factories = ActorFactories(drafter=drafter)
        async with open_ring(models, lookahead=2, verify="on", salvage=True, factories=factories) as ring:
            assert (await ring.solve(a_task(policy=DraftOnly()))).finish_reason == "answered"

    in_virtual_time(body)
    [context] = contexts
    assert context.models is models
    assert (context.settings.lookahead, context.settings.verify, context.settings.salvage) == (2, "on", True)


def test_the_built_in_actors_are_made_as_replacement_actors_are(
    in_virtual_time: Virtual, make_models: MakeModels, a_task: Tasks
) -> None:
    solutions: list[Solution] = []

    async def body() -> None:
        for factories in (ActorFactories(), ActorFactories(Drafter, Verifier, Router, Escalator)):
            async with open_ring(make_models(), factories=factories) as ring:
                solutions.append(await ring.solve(a_task(policy=LearnedRouter(0.4))))

    in_virtual_time(body)
    assert solutions[0] == solutions[1]
    assert solutions[0].finish_reason == "answered"


def test_a_drafter_without_a_draft_model_does_not_open(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with open_ring(Models(), factories=ActorFactories(drafter=Drafter)):
            raise AssertionError("the ring must not open")

    with pytest.raises(ConfigError, match="a Drafter needs a draft model"):
        in_virtual_time(body)


def test_the_models_whose_work_a_replacement_actor_does_are_named() -> None:
    assert ActorFactories().replaced_models == frozenset()
    assert ActorFactories(drafter=Drafter, router=Router).replaced_models == {"draft"}
    assert ActorFactories(escalator=Escalator).replaced_models == {"target"}
    assert ActorFactories(verifier=Verifier).replaced_models == {"prm", "router", "judge"}
