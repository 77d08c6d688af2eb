"""Arbiters with scripted models."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from arbiter import Arbiter, Config, Usage
from arbiter.config.config import parse
from arbiter.extending import Generation, GenerationRequest, ModelHandle, Models, ScriptedGenerator, ScriptedScorer
from arbiter.protocols.ports import Generator, Scorer

Body = Callable[[], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def on_each_loop(request: pytest.FixtureRequest) -> Callable[[Body], None]:
    """Run an async function on asyncio and on trio. A timeout fails the test."""

    def run(body: Body) -> None:
        async def guarded() -> None:
            with anyio.fail_after(60):
                await body()

        anyio.run(guarded, backend=request.param)

    return run


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until a condition holds, for some iterations of the event loop."""

    async def wait(is_so: Callable[[], bool]) -> None:
        for _ in range(1000):
            if is_so():
                return
            await anyio.lowlevel.checkpoint()
        raise AssertionError("it did not come to it")

    return wait


@pytest.fixture(scope="session")
def three_steps() -> Callable[[GenerationRequest], Generation]:
    """A script: ``draft step 0`` and so on, three tokens each. The third step ends the answer."""
    return _three_steps


@pytest.fixture(scope="session")
def a_config_of() -> Callable[..., Config]:
    """A configuration without model tables; the default run type is ``draft``."""

    def build(**keys: Any) -> Config:
        return parse({"models": {}, "run_type": "draft", **keys}, "test")

    return build


@pytest.fixture(scope="session")
def an_arbiter(a_config_of: Callable[..., Config]) -> Callable[..., Arbiter]:
    """An Arbiter with all four models. By default a call takes one virtual second, and scores are 0.5."""

    def build(
        draft: Generator | None = None,
        target: Generator | None = None,
        scorer: Scorer | None = None,
        keys: dict[str, Any] | None = None,
        **options: Any,
    ) -> Arbiter:
        scored = ModelHandle[Scorer](scorer or ScriptedScorer(lambda _: 0.5, seconds=1.0), 1000)
        models = Models(
            draft=ModelHandle(draft or ScriptedGenerator(_three_steps, seconds=1.0), 1000),
            target=ModelHandle(target or ScriptedGenerator(_three_steps, seconds=1.0), 1000),
            scorers={"prm": scored, "router": scored},
        )
        return Arbiter(a_config_of(**(keys or {})), models=models, **options)

    return build


def _three_steps(request: GenerationRequest) -> Generation:
    return Generation(
        text=f"{request.author} step {request.step}",
        stop_reason="end" if request.step == 2 else "separator",
        usage=Usage(prompt_tokens=10, completion_tokens=3),
    )
