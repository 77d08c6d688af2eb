"""What an Arbiter opens, and what it refuses."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest

from arbiter import Arbiter, Config, ConfigError, Usage
from arbiter.config.config import parse
from arbiter.extending import (
    ActorFactories,
    Candidate,
    ConcurrentActor,
    Generation,
    GenerationRequest,
    Generator,
    ModelHandle,
    Models,
    Rating,
    RewardThreshold,
    ScriptedGenerator,
    ScriptedScorer,
    StepDrafted,
    StepScored,
    TargetOnly,
    VerifierMail,
)

Virtual = Callable[[Callable[[], Awaitable[None]]], None]

SERVERS = {
    name: {"backend": "http", "url": "http://127.0.0.1:9", "model": "m", "prompt": "plain"}
    for name in ("draft", "target")
}


def at_once(request: GenerationRequest) -> Generation:
    return Generation("done", "end", Usage(completion_tokens=1))


def test_servers_are_refused_on_trio_with_the_reason() -> None:
    async def body() -> None:
        async with Arbiter(parse({"models": SERVERS, "run_type": "target"}, "test")):
            pass

    with pytest.raises(ConfigError, match=r"asyncio"):
        anyio.run(body, backend="trio")


def test_models_in_process_work_on_trio() -> None:
    async def body() -> None:
        async with Arbiter.from_config("pocket", run_types=["draft"]) as arbiter:
            steps = [step async for step in arbiter.stream("Compute 12+30.", run_type="draft")]
            assert "42" in steps[-1].kept.text

    anyio.run(body, backend="trio")


def pocket(run_type: str, **tables: Any) -> Config:
    draft = {"model": "pocket:draft", "prompt": "Problem: {question}\nSolution:\n"}
    return parse({"models": {"draft": draft, **tables}, "run_type": run_type}, "test")


def test_a_model_that_no_run_type_calls_is_not_opened() -> None:
    async def body() -> None:
        missing = {"model": "/nowhere/at/all", "prompt": "plain"}
        async with Arbiter(pocket("draft", target=missing), run_types=["draft"]) as arbiter:
            assert arbiter.run_types == ("draft",)
            with pytest.raises(ConfigError, match="'target' is not one of this Arbiter's"):
                arbiter.task("q", run_type="target")
            with pytest.raises(ConfigError, match="calls the target model"):
                arbiter.task("q", policy=TargetOnly())

    anyio.run(body)


def test_a_run_type_without_its_model_is_refused_when_it_is_opened(on_each_loop: Virtual) -> None:
    async def body() -> None:
        with pytest.raises(ConfigError, match=r"'rsd' calls the target model.*: add a table \[models.target\]"):
            await Arbiter(pocket("draft"), run_types=["rsd"]).__aenter__()

    on_each_loop(body)


def test_a_model_of_ones_own_stands_in_the_place_of_the_configured_one(on_each_loop: Virtual) -> None:
    missing = {"model": "/nowhere/at/all", "prompt": "plain"}
    own = ScriptedGenerator(at_once)

    async def body() -> None:
        config = parse({"models": {"target": missing}, "run_type": "target"}, "test")
        async with Arbiter(config, models=Models(target=ModelHandle[Generator](own))) as arbiter:
            assert (await arbiter.solve("q")).text == "done"

    on_each_loop(body)


class Liking(ConcurrentActor[VerifierMail]):
    """Gives every draft the same score, without a model."""

    name = "verifier"

    async def serve(self, message: VerifierMail) -> None:
        assert isinstance(message, StepDrafted)
        rated = (rated_as(message, 0.9),)
        await self._mailboxes.to_router(StepScored(message.context, message.id, rated), self.name)


def rated_as(message: StepDrafted, value: float) -> Candidate:
    return msgspec.structs.replace(message.draft, rating=Rating(value, Usage(), 0.0))


def test_models_whose_work_an_actor_of_ones_own_does_are_not_opened(on_each_loop: Virtual) -> None:
    missing = {"model": "/nowhere/at/all", "prompt": "plain"}
    own = ModelHandle[Generator](ScriptedGenerator(at_once))

    async def body() -> None:
        config = parse({"models": {"prm": missing, "router": missing}, "run_type": "rsd"}, "test")
        models = Models(draft=own, target=own)
        async with Arbiter(config, models=models, factories=ActorFactories(verifier=Liking)) as arbiter:
            solution = await arbiter.solve("q", policy=RewardThreshold(0.5))
            assert (solution.steps[0].kept.author, solution.steps[0].kept.score) == ("draft", 0.9)

    on_each_loop(body)


def test_the_run_types_that_a_call_may_choose_are_those_whose_models_are_there(on_each_loop: Virtual) -> None:
    own, scorer = ModelHandle[Generator](ScriptedGenerator(at_once)), ModelHandle(ScriptedScorer(lambda _: 0.5))

    async def body() -> None:
        async with Arbiter(models=Models(draft=own, target=own, scorers={"prm": scorer})) as arbiter:
            alone = ("draft", "target", "random", "confidence", "trigger", "paced", "glimpse", "pomdp")
            assert arbiter.run_types == ("rsd", "oracle", "generate", *alone)
            assert "router" in (arbiter.why_unavailable("router") or "")
            assert arbiter.why_unavailable("rsd") is None
        async with Arbiter(models=Models(target=own)) as arbiter:
            assert arbiter.run_types == ("target",)

    on_each_loop(body)
