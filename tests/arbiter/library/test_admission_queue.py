"""One ring for all calls: its limit, the order of waiting calls, and that calls are independent."""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter import Arbiter, ClosedError, Usage
from arbiter.extending import Generation, GenerationRequest, ScoreRequest, ScriptedGenerator, ScriptedScorer

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Arbiters = Callable[..., Arbiter]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def in_one_step(request: GenerationRequest) -> Generation:
    return Generation(request.transcript.question, "end", Usage(completion_tokens=1))


def test_never_more_problems_than_the_limit_are_in_the_ring_and_the_others_come_in_order(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    draft = ScriptedGenerator(in_one_step, seconds=1.0)
    ended: list[str] = []

    async def solve(arbiter: Arbiter, question: str) -> None:
        ended.append((await arbiter.solve(question)).question)

    async def body() -> None:
        async with an_arbiter(draft, keys={"limits": {"problems": 1}}) as arbiter, anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(solve, arbiter, str(number))
                await anyio.sleep(0.01)  # so that they arrive in this order
            assert (arbiter.running, arbiter.waiting) == (1, 5)
        assert draft.most_running == 1

    in_virtual_time(body)
    assert ended == [str(number) for number in range(6)]


def test_cancelling_one_call_touches_no_other(an_arbiter: Arbiters, on_each_loop: Virtual, until: Until) -> None:
    def seconds(request: GenerationRequest | ScoreRequest) -> float:
        return 3600.0 if request.transcript.question == "long" else 0.05

    draft = ScriptedGenerator(in_one_step, seconds=seconds)
    ended: list[str] = []

    async def solve(arbiter: Arbiter, scope: anyio.CancelScope, question: str) -> None:
        with scope:
            ended.append((await arbiter.solve(question)).question)

    async def body() -> None:
        async with an_arbiter(draft) as arbiter, anyio.create_task_group() as tasks:
            one = anyio.CancelScope()
            tasks.start_soon(solve, arbiter, one, "long")
            for number in range(5):
                tasks.start_soon(solve, arbiter, anyio.CancelScope(), str(number))
            await until(lambda: draft.running == 6)
            one.cancel()
        assert sorted(ended) == [str(number) for number in range(5)]
        assert (draft.cancelled, draft.running) == (1, 0)

    on_each_loop(body)


def test_a_call_that_is_cancelled_while_it_waits_gives_its_turn_to_the_next(
    an_arbiter: Arbiters, in_virtual_time: Virtual, until: Until
) -> None:
    draft = ScriptedGenerator(in_one_step, seconds=1.0)

    async def body() -> None:
        async with an_arbiter(draft, keys={"limits": {"problems": 1}}) as arbiter, anyio.create_task_group() as tasks:
            tasks.start_soon(arbiter.solve, "first")
            await until(lambda: arbiter.running == 1)
            with anyio.move_on_after(0.5):
                await arbiter.solve("second")
            assert (arbiter.running, arbiter.waiting) == (1, 0)
            assert (await arbiter.solve("third")).finish_reason == "answered"
        assert draft.calls == 2

    in_virtual_time(body)


def test_the_places_at_each_model_are_told(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        arbiter = an_arbiter()
        assert dict(arbiter.occupancy) == {}
        async with arbiter, anyio.create_task_group() as tasks:
            tasks.start_soon(arbiter.solve, "q")
            await anyio.sleep(0.5)
            assert arbiter.occupancy["draft"].taken == 1
            assert arbiter.occupancy["target"].taken == 0

    in_virtual_time(body)


CALLS = st.tuples(
    st.sampled_from(["solve", "stream", "leave", "map"]),
    st.sampled_from(["draft", "target", "rsd", "oracle"]),
    st.integers(0, 6),  # when it starts
    st.integers(1, 12),  # when it is cancelled, counted from there
)


async def call(arbiter: Arbiter, how: str, run_type: str, begins: int, patience: int, finished: list[str]) -> None:
    await anyio.sleep(begins + 0.5)
    with anyio.move_on_after(patience):
        try:
            match how:
                case "solve":
                    await arbiter.solve("q", run_type=run_type)  # pyright: ignore[reportArgumentType]
                case "map":
                    async for _ in arbiter.map(["a", "b", "c"], run_type=run_type):  # pyright: ignore[reportArgumentType]
                        pass
                case _:
                    async for _ in arbiter.stream("q", run_type=run_type):  # pyright: ignore[reportArgumentType]
                        if how == "leave":
                            break
        except ClosedError:
            finished.append("closed")
        else:
            finished.append("ended")


@given(
    calls=st.lists(CALLS, min_size=1, max_size=12),
    problems=st.integers(1, 4),
    leaves=st.integers(0, 15),
    drains=st.booleans(),
)
@pytest.mark.slow
def test_whatever_is_begun_cancelled_and_left_nothing_stays_behind(
    calls: list[tuple[str, str, int, int]],
    problems: int,
    leaves: int,
    drains: bool,
    an_arbiter: Arbiters,
    in_virtual_time: Virtual,
    three_steps: Callable[[GenerationRequest], Generation],
) -> None:
    draft, target = ScriptedGenerator(three_steps, seconds=1.0), ScriptedGenerator(three_steps, seconds=2.0)
    scorer, finished = ScriptedScorer(lambda request: 0.9 - request.step / 3, seconds=0.5), list[str]()

    async def body() -> None:
        leaving = "drain" if drains else "cancel"
        async with anyio.create_task_group() as tasks:
            async with an_arbiter(
                draft, target, scorer, {"limits": {"problems": problems}, "lookahead": 1}, leaving=leaving
            ) as arbiter:
                for how, run_type, begins, patience in calls:
                    tasks.start_soon(call, arbiter, how, run_type, begins, patience, finished)
                await anyio.sleep(leaves)
            for model in (draft, target, scorer):
                assert model.running == 0
            await anyio.sleep(0.1)
            assert (arbiter.running, arbiter.waiting) == (0, 0)
        assert draft.most_running <= 2 * problems  # a requested draft, and a pre-draft
        assert len(finished) <= len(calls)

    in_virtual_time(body)


@pytest.mark.parametrize("leaving", ["drain", "cancel"])
def test_leaving_right_after_a_call_was_cancelled_leaves_nothing(
    leaving: str, an_arbiter: Arbiters, on_each_loop: Virtual, until: Until
) -> None:
    draft = ScriptedGenerator(in_one_step, seconds=3600)

    async def body() -> None:
        async with an_arbiter(draft, leaving=leaving) as arbiter, anyio.create_task_group() as tasks:
            tasks.start_soon(arbiter.solve, "q")
            await until(lambda: draft.running == 1)
            tasks.cancel_scope.cancel()
        assert (draft.running, draft.cancelled) == (0, 1)

    on_each_loop(body)
