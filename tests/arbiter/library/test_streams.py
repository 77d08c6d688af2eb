"""Steps as they are kept, and leaving the loop early."""

import gc
import threading
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from arbiter import Arbiter, ClosedError, ConfigError, DataError, Overrides, Solution, StepPiece, StepRecord, Steps
from arbiter.extending import Generation, GenerationRequest, ScriptedGenerator

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Arbiters = Callable[..., Arbiter]
Script = Callable[[GenerationRequest], Generation]

HOUR = 3600.0  # leaving the loop cancels it


@pytest.fixture
def slow(three_steps: Script) -> ScriptedGenerator:
    """A draft whose first step arrives immediately, and the others after an hour."""
    return ScriptedGenerator(three_steps, seconds=lambda request: HOUR if request.step else 0.0)


async def settled(draft: ScriptedGenerator, running: int = 0) -> None:
    """Wait until the model has this number of requests, for a few iterations of the event loop."""
    for _ in range(50):
        await anyio.lowlevel.checkpoint()
    assert draft.running == running


def test_each_step_comes_when_it_is_final_and_before_the_next_one_is_written(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            began, steps = anyio.current_time(), arbiter.stream("q", run_type="rsd", threshold=0.4)
            seen = [(anyio.current_time() - began, step.kept.text, step.kept.score) async for step in steps]
        # one second for the draft's step, and one for its score
        assert seen == [(2.0, "draft step 0", 0.5), (4.0, "draft step 1", 0.5), (6.0, "draft step 2", 0.5)]

    in_virtual_time(body)


def test_a_step_tells_its_author_and_the_rejected_candidate(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            steps = [step async for step in arbiter.stream("q", run_type="rsd", threshold=0.6)]
        assert [step.kept.author for step in steps] == ["target"] * 3
        assert [step.draft.score for step in steps if step.draft] == [0.5] * 3

    in_virtual_time(body)


def test_behind_the_last_step_there_is_the_solution(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            steps = arbiter.stream("q")
            with pytest.raises(ClosedError, match="no solution"):
                _ = steps.solution
            seen = [step async for step in steps]
            assert tuple(seen) == steps.solution.steps

    in_virtual_time(body)


def test_a_failed_problem_just_ends_and_its_solution_has_the_error(
    an_arbiter: Arbiters, in_virtual_time: Virtual, three_steps: Script
) -> None:
    def script(request: GenerationRequest) -> Generation:
        if request.step:
            raise OSError("the cable is out")
        return three_steps(request)

    async def body() -> None:
        async with an_arbiter(ScriptedGenerator(script)) as arbiter:
            steps = arbiter.stream("q")
            assert [step.kept.text async for step in steps] == ["draft step 0"]
            assert "the cable is out" in str(steps.solution.error)

    in_virtual_time(body)


def test_what_is_wrong_with_a_question_is_raised_before_anything_is_iterated(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            with pytest.raises(DataError):
                arbiter.stream("")
            with pytest.raises(ConfigError):
                arbiter.stream("q", max_steps=0)

    in_virtual_time(body)


def test_nothing_is_asked_before_somebody_iterates(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    draft = ScriptedGenerator(lambda _: "never")

    async def body() -> None:
        async with an_arbiter(draft) as arbiter:
            steps = arbiter.stream("q")
            await anyio.sleep(10)
            assert draft.calls == 0
            del steps

    in_virtual_time(body)


def test_who_leaves_the_loop_early_cancels_the_problem_at_the_model(
    an_arbiter: Arbiters, on_each_loop: Virtual, slow: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(slow) as arbiter:
            async for _ in arbiter.stream("q"):
                break
            await settled(slow)
            assert (slow.cancelled, arbiter.running) == (1, 0)

    on_each_loop(body)


def test_an_error_in_the_loop_cancels_the_problem_as_well(
    an_arbiter: Arbiters, on_each_loop: Virtual, slow: ScriptedGenerator
) -> None:
    async def fail(arbiter: Arbiter) -> None:
        async for _ in arbiter.stream("q"):
            raise ValueError("mine")

    async def body() -> None:
        async with an_arbiter(slow) as arbiter:
            with pytest.raises(ValueError, match="mine"):
                await fail(arbiter)
            await settled(slow)
            assert slow.cancelled == 1

    on_each_loop(body)


def test_a_cancelled_task_cancels_the_problem_that_it_waits_for_even_if_it_keeps_the_iterator(
    an_arbiter: Arbiters, on_each_loop: Virtual, slow: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(slow) as arbiter:
            steps = arbiter.stream("q")

            async def read() -> None:
                async for _ in steps:
                    pass

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await settled(slow, running=1)
                tasks.cancel_scope.cancel()
            await settled(slow)
            assert slow.cancelled == 1
            assert [step async for step in steps] == []

    on_each_loop(body)


def test_a_kept_iterator_goes_on_until_it_is_closed(
    an_arbiter: Arbiters, on_each_loop: Virtual, slow: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(slow) as arbiter:
            steps = arbiter.stream("q")
            async for _ in steps:
                break
            await settled(slow, running=1)
            await steps.aclose()
            await settled(slow)
            with pytest.raises(StopAsyncIteration):
                await anext(steps)
            with pytest.raises(ClosedError, match="it was cancelled"):
                _ = steps.solution

    on_each_loop(body)


def test_async_with_closes_it(an_arbiter: Arbiters, on_each_loop: Virtual, slow: ScriptedGenerator) -> None:
    async def body() -> None:
        async with an_arbiter(slow) as arbiter:
            async with arbiter.stream("q") as steps:
                assert (await anext(steps)).kept.text == "draft step 0"
            await settled(slow)
            assert slow.cancelled == 1

    on_each_loop(body)


def test_one_that_was_closed_before_it_began_asks_for_nothing(
    an_arbiter: Arbiters, on_each_loop: Virtual, slow: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(slow) as arbiter:
            steps = arbiter.stream("q")
            await steps.aclose()
            assert [step async for step in steps] == []
            assert slow.calls == 0

    on_each_loop(body)


class Knot:
    """Keeps an iterator in a reference cycle, which only the garbage collector breaks."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.me = self


@pytest.mark.slow
def test_the_collector_may_drop_a_stream_in_another_thread(
    an_arbiter: Arbiters, on_each_loop: Virtual, slow: ScriptedGenerator
) -> None:
    async def body() -> None:
        async with an_arbiter(slow) as arbiter:
            knot = Knot(arbiter.stream("q"))
            await anext(knot.steps)
            await settled(slow, running=1)
            del knot
            collector = threading.Thread(target=gc.collect)
            collector.start()
            await anyio.to_thread.run_sync(collector.join)
            await settled(slow)
            assert slow.cancelled == 1

    on_each_loop(body)


@pytest.mark.slow
def test_a_stream_may_be_dropped_after_its_event_loop(
    an_arbiter: Arbiters, on_each_loop: Virtual, slow: ScriptedGenerator
) -> None:
    kept: list[Steps] = []

    async def body() -> None:
        async with an_arbiter(slow, leaving="cancel") as arbiter:
            kept.extend([arbiter.stream("q"), arbiter.stream("q")])
            await anext(kept[0])

    on_each_loop(body)
    kept.clear()
    gc.collect()  # a warning or an unraisable error would fail this test


def test_other_calls_do_not_notice_that_one_is_left(
    an_arbiter: Arbiters, in_virtual_time: Virtual, three_steps: Script
) -> None:
    async def body() -> None:
        solutions: list[Solution] = []

        async def solve(arbiter: Arbiter) -> None:
            solutions.append(await arbiter.solve("q"))

        async with (
            an_arbiter(ScriptedGenerator(three_steps, seconds=1.0)) as arbiter,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(solve, arbiter)
            async for _ in arbiter.stream("p"):
                break
        assert [solution.finish_reason for solution in solutions] == ["answered"]

    in_virtual_time(body)


def test_who_iterates_slowly_has_all_steps_even_after_the_arbiter_was_left(
    an_arbiter: Arbiters, on_each_loop: Virtual, three_steps: Script
) -> None:
    async def body() -> None:
        async with an_arbiter(ScriptedGenerator(three_steps)) as arbiter:
            steps = arbiter.stream("q")
            seen: list[StepRecord] = [await anext(steps)]
        seen.extend([step async for step in steps])
        assert [step.kept.text for step in seen] == ["draft step 0", "draft step 1", "draft step 2"]
        assert steps.solution.finish_reason == "answered"

    on_each_loop(body)


@pytest.mark.parametrize(
    ("overrides", "heard"),
    [
        (Overrides(run_type="rsd", threshold=0.6), "target"),
        (Overrides(run_type="target"), "target"),
        (Overrides(run_type="draft"), "draft"),
    ],
    ids=["rejected drafts", "target", "draft"],
)
def test_pieces_of_a_step_come_before_it_and_only_where_nothing_can_reject_it(
    an_arbiter: Arbiters, in_virtual_time: Virtual, three_steps: Script, overrides: Overrides, heard: str
) -> None:
    models = ScriptedGenerator(three_steps, 2.0, lambda request: [request.author])

    async def body() -> None:
        async with an_arbiter(models, models) as arbiter:
            pieces = arbiter.stream_pieces("q", **overrides)
            items = [item async for item in pieces]
            assert tuple(item for item in items if isinstance(item, StepRecord)) == pieces.solution.steps
            assert [item.text for item in items if isinstance(item, StepPiece)] == [heard] * 3
            assert isinstance(items[0], StepPiece)

    in_virtual_time(body)


def test_leaving_the_loop_at_a_piece_cancels_the_step(
    an_arbiter: Arbiters, in_virtual_time: Virtual, three_steps: Script
) -> None:
    draft = ScriptedGenerator(three_steps, HOUR, lambda request: [request.author])

    async def body() -> None:
        async with an_arbiter(draft) as arbiter:
            async for piece in arbiter.stream_pieces("q"):
                assert isinstance(piece, StepPiece)
                break
            await settled(draft)
            assert draft.cancelled == 1

    in_virtual_time(body)
