"""Shadows take nothing that clients wait for, at any time; a run without free capacity has none."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.gateway.admission import Admission
from arbiter.gateway.app import Gateway
from arbiter.gateway.shadows import Shadows, ShadowSums
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from arbiter.runs.costs import prices_of

InVirtualTime = Callable[[Callable[[], Awaitable[None]]], None]
PRICE = {"prompt": 1.0, "completion": 1.0}
MODELS = {name: {"model": name, "prompt": "{question}", "price": PRICE} for name in ("draft", "target", "router")}


def write(request: GenerationRequest) -> Generation:
    return Generation(f"{request.step}", "end" if request.step == 2 else "separator", Usage(10, 3))


def rate(request: ScoreRequest) -> float:
    """The second step is escalated."""
    return 0.9 if request.step == 1 else 0.1


def configured(problems: int = 8) -> Config:
    return parse({"models": MODELS, "limits": {"problems": problems}, "serve": {"shadow": 1.0}}, "test")


def models(slots: int) -> Models:
    """Models whose answers take a second each; the target has ``slots``."""
    return Models(
        draft=ModelHandle(ScriptedGenerator(write, 1.0)),
        target=ModelHandle(ScriptedGenerator(write, 1.0), slots),
        scorers={"router": ModelHandle(ScriptedScorer(rate, 1.0))},
    )


async def shadowed(use: Callable[[Arbiter, Shadows], Awaitable[None]], slots: int = 4, problems: int = 8) -> None:
    """Call ``use`` with an Arbiter and the shadows of its questions."""
    config = configured(problems)
    arbiter = Arbiter(config, models=models(slots))
    shadows = Shadows(arbiter, Admission(100, problems), prices_of(config), 1.0)
    arbiter.watch(shadows)
    arbiter.on_close(shadows.cancel)
    async with arbiter:
        await use(arbiter, shadows)


async def answered(arbiter: Arbiter, shadows: Shadows, question: str) -> float:
    """Solve a question and offer it to the shadows; return its seconds."""
    task = arbiter.task(question)
    solution = await arbiter.run(task)
    shadows.offer(task, solution)
    return solution.seconds


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_question_takes_as_long_with_shadows_as_without(slots: int, in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, shadows: Shadows) -> None:
        seconds = [await answered(arbiter, shadows, f"{number}") for number in range(4)]
        assert seconds == [7.0] * 4
        assert shadows.sums.measured + shadows.sums.displaced + shadows.running == 4
        assert (shadows.sums.displaced > 0) == (slots == 1)

    in_virtual_time(lambda: shadowed(use, slots))


def test_no_shadow_starts_while_the_target_has_no_free_slot(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, shadows: Shadows) -> None:
        task = arbiter.task("first")
        solution = await arbiter.run(task)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: arbiter.solve("long", run_type="target"))
            await anyio.sleep(0.5)
            shadows.offer(task, solution)
        assert (shadows.running, shadows.sums.skipped) == (0, 1)

    in_virtual_time(lambda: shadowed(use, slots=1))


def test_a_failed_answer_has_no_shadow(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, shadows: Shadows) -> None:
        task = arbiter.task("one")
        shadows.offer(task, msgspec.structs.replace(await arbiter.run(task), finish_reason="failed", error="no"))
        assert (shadows.running, shadows.sums) == (0, ShadowSums())

    in_virtual_time(lambda: shadowed(use))


class WithoutConstraints(ScriptedGenerator):
    """A model whose engine fails under a constraint."""

    without_constraints = "It needs an extra."


def test_an_answer_that_the_target_cannot_write_has_no_shadow(in_virtual_time: InVirtualTime) -> None:
    async def use() -> None:
        config, draft = configured(), ScriptedGenerator(lambda _: Generation("{}", "end", Usage(10, 3)), 1.0)
        given = msgspec.structs.replace(
            models(4), draft=ModelHandle(draft), target=ModelHandle(WithoutConstraints(write, 1.0))
        )
        arbiter = Arbiter(config, models=given)
        shadows = Shadows(arbiter, Admission(100, 8), prices_of(config), 1.0)
        async with arbiter:
            task = arbiter.task("q", run_type="draft", schema={"type": "object"})
            shadows.offer(task, await arbiter.run(task))
            await anyio.sleep(10)
            assert (shadows.running, shadows.sums) == (0, ShadowSums())

    in_virtual_time(use)


def test_the_events_of_a_shadow_reach_no_other_hook_even_after_it_was_cancelled(
    in_virtual_time: InVirtualTime,
) -> None:
    seen: set[str | None] = set()

    async def use() -> None:
        config = configured()
        arbiter = Arbiter(config, models=models(4))
        shadows = Shadows(arbiter, Admission(100, 8), prices_of(config), 1.0)
        arbiter.watch(shadows.others(lambda event: seen.add(event.problem)))
        arbiter.watch(shadows)
        async with arbiter:
            task = arbiter.task("one")
            shadows.offer(task, await arbiter.run(task))
            shadows.cancel()
            await anyio.sleep(10)
            shadows.offer(task, await arbiter.run(task))
            await anyio.sleep(1.5)
            shadows.cancel()
            await anyio.sleep(10)
        assert (seen, shadows.sums.displaced, shadows.followed) == ({None, task.id}, 2, 0)

    in_virtual_time(use)


def test_the_end_of_an_arbiter_waits_for_no_shadow(in_virtual_time: InVirtualTime) -> None:
    times: list[float] = []

    async def use(arbiter: Arbiter, shadows: Shadows) -> None:
        await answered(arbiter, shadows, "one")
        assert shadows.running == 1
        times.append(anyio.current_time())

    async def whole() -> None:
        await shadowed(use)
        assert anyio.current_time() == times[0]

    in_virtual_time(whole)


def test_an_endpoint_without_its_target_has_no_shadows(in_virtual_time: InVirtualTime) -> None:
    async def use() -> None:
        config: Any = parse({"models": MODELS, "run_type": "draft", "serve": {"shadow": 0.5}}, "test")
        draft = Models(draft=ModelHandle(ScriptedGenerator(write)))
        arbiter = Arbiter(config, models=draft, run_types=["draft"])
        gateway = Gateway(arbiter)
        async with arbiter:
            with pytest.raises(ConfigError, match=r"serve\.shadow needs the target"):
                gateway.check()

    in_virtual_time(use)
