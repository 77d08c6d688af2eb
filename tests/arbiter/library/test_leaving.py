"""Opening, leaving and closing: which calls are awaited or cancelled, and which errors they get."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest
from anyio.abc import TaskGroup

from arbiter import Arbiter, ArbiterError, ClosedError
from arbiter.extending import ActorFactories, ConcurrentActor, ScriptedGenerator, VerifierMail
from arbiter.protocols.messages import Message

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Arbiters = Callable[..., Arbiter]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Callers:
    """Calls ``solve`` and records how each call ended."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}

    async def solve(self, arbiter: Arbiter, question: str) -> None:
        try:
            self.ended[question] = (await arbiter.solve(question)).finish_reason
        except Exception as error:
            self.ended[question] = type(error).__name__

    async def stream(self, arbiter: Arbiter, question: str) -> None:
        try:
            steps = [step async for step in arbiter.stream(question)]
            self.ended[question] = str(len(steps))
        except Exception as error:
            self.ended[question] = type(error).__name__

    async def map(self, arbiter: Arbiter, questions: list[str]) -> None:
        solutions = arbiter.map(questions, concurrency=1)
        try:
            async for solution in solutions:
                self.ended[solution.question] = solution.finish_reason
        except Exception as error:
            self.ended["map"] = type(error).__name__


def begin(tasks: TaskGroup, callers: Callers, arbiter: Arbiter) -> None:
    """Three calls: one in the ring, two that wait."""
    for question in ("a", "b", "c"):
        tasks.start_soon(callers.solve, arbiter, question)


ONE = {"limits": {"problems": 1}}


def test_leaving_waits_for_all_calls_those_without_room_as_well(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks:
            async with an_arbiter(keys=ONE) as arbiter:
                begin(tasks, callers, arbiter)
                await anyio.sleep(0.5)
                assert (arbiter.running, arbiter.waiting) == (1, 2)
            assert (arbiter.running, arbiter.waiting) == (0, 0)
            assert anyio.current_time() >= 9  # three problems of three seconds, one after another
        assert callers.ended == dict.fromkeys("abc", "answered")

    in_virtual_time(body)


def test_leaving_cancels_all_calls_if_asked_to(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    draft = ScriptedGenerator(lambda _: "never", seconds=100)

    async def body() -> None:
        callers, arbiter = Callers(), an_arbiter(draft, keys=ONE, leaving="cancel")
        async with anyio.create_task_group() as tasks:
            async with arbiter:
                begin(tasks, callers, arbiter)
                await anyio.sleep(0.5)
            assert (draft.running, draft.cancelled) == (0, 1)
        assert callers.ended == dict.fromkeys("abc", "ClosedError")
        assert (arbiter.running, arbiter.waiting) == (0, 0)

    in_virtual_time(body)


def test_an_error_of_the_block_cancels_whatever_was_asked_and_comes_out_as_itself(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    error, callers = ValueError("mine"), Callers()

    async def fail(tasks: TaskGroup) -> None:
        async with an_arbiter(keys=ONE, leaving="drain") as arbiter:
            begin(tasks, callers, arbiter)
            await anyio.sleep(0.5)
            raise error

    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            with pytest.raises(ValueError, match="mine") as raised:
                await fail(tasks)
            assert raised.value is error
        assert callers.ended == dict.fromkeys("abc", "ClosedError")

    in_virtual_time(body)


def test_who_is_cancelled_while_he_waits_for_the_others_leaves_nothing_behind(
    an_arbiter: Arbiters, on_each_loop: Virtual, until: Until
) -> None:
    draft = ScriptedGenerator(lambda _: "never", seconds=3600)

    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.05) as waiting:
                async with an_arbiter(draft) as arbiter:
                    begin(tasks, callers, arbiter)
                    await until(lambda: draft.running == 3)
            assert waiting.cancelled_caught
        assert callers.ended == dict.fromkeys("abc", "ClosedError")
        assert (draft.running, draft.cancelled) == (0, 3)

    on_each_loop(body)


def test_close_takes_no_more_calls_and_waits_as_long_as_it_is_told(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks, an_arbiter(keys=ONE) as arbiter:
            begin(tasks, callers, arbiter)
            await anyio.sleep(0.5)
            tasks.start_soon(arbiter.close, 3.0)
            await anyio.sleep(0.5)
            assert not arbiter.is_open
            with pytest.raises(ClosedError, match="takes no more calls"):
                await arbiter.solve("d")
        assert sorted(callers.ended.values()) == ["ClosedError", "ClosedError", "answered"]

    in_virtual_time(body)


def test_two_may_close_at_once(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks, an_arbiter(keys=ONE) as arbiter:
            begin(tasks, callers, arbiter)
            await anyio.sleep(0.5)
            tasks.start_soon(arbiter.close)
            tasks.start_soon(arbiter.close)
        assert callers.ended == dict.fromkeys("abc", "answered")

    in_virtual_time(body)


def test_streams_that_are_going_on_are_waited_for(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks, an_arbiter() as arbiter:
            tasks.start_soon(callers.stream, arbiter, "a")
            await anyio.sleep(0.5)
        assert callers.ended == {"a": "3"}

    in_virtual_time(body)


def test_streams_end_with_closed_error_if_they_are_not_waited_for(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks, an_arbiter(leaving="cancel") as arbiter:
            tasks.start_soon(callers.stream, arbiter, "a")
            await anyio.sleep(1.5)
        assert callers.ended == {"a": "ClosedError"}

    in_virtual_time(body)


def test_a_map_has_the_solutions_that_are_on_their_way_and_takes_no_more_questions(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        callers = Callers()
        async with anyio.create_task_group() as tasks, an_arbiter() as arbiter:
            tasks.start_soon(callers.map, arbiter, ["a", "b"])
            await anyio.sleep(0.5)
        assert callers.ended == {"a": "answered", "map": "ClosedError"}

    in_virtual_time(body)


def test_a_map_that_nobody_takes_from_does_not_hold_up_who_leaves(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            solutions = arbiter.map(["a", "b", "c"], concurrency=2)
            await anext(solutions)
        with pytest.raises(ClosedError):
            await anext(solutions)

    in_virtual_time(body)


def test_before_it_is_opened_and_after_it_was_left_every_call_is_refused(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def refused(arbiter: Arbiter, message: str) -> None:
        with pytest.raises(ClosedError, match=message):
            await arbiter.solve("q")
        with pytest.raises(ClosedError, match=message):
            arbiter.stream("q")
        with pytest.raises(ClosedError, match=message):
            arbiter.map(["q"])

    async def body() -> None:
        arbiter = an_arbiter()
        assert not arbiter.is_open
        await refused(arbiter, "is not open: use it in `async with")
        async with arbiter:
            assert arbiter.is_open
        await refused(arbiter, "is closed")

    in_virtual_time(body)


def test_a_stream_that_begins_after_the_arbiter_was_left_is_refused_each_time(
    an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        async with an_arbiter() as arbiter:
            steps = arbiter.stream("q")
        for _ in range(2):
            with pytest.raises(ClosedError):
                await anext(steps)

    in_virtual_time(body)


def test_it_may_be_opened_again_and_not_twice_at_once(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        arbiter = an_arbiter()
        for _ in range(2):
            async with arbiter:
                with pytest.raises(ArbiterError, match="already open"):
                    await arbiter.__aenter__()
                assert (await arbiter.solve("q")).finish_reason == "answered"

    in_virtual_time(body)


class Crashing(ConcurrentActor[VerifierMail]):
    """A verifier that crashes the ring: its bug is outside of serving messages."""

    name = "verifier"

    async def serve(self, message: VerifierMail) -> None:
        """Is never called."""

    async def _serve(self, message: Message) -> None:
        raise RuntimeError("the actor is broken")


def test_an_actor_that_crashes_ends_the_block_with_its_error_and_every_call_with_closed_error(
    an_arbiter: Arbiters, on_each_loop: Virtual, three_steps: Callable[..., object]
) -> None:
    draft = ScriptedGenerator(three_steps)  # pyright: ignore[reportArgumentType]

    arbiter, callers = (
        an_arbiter(draft, keys={"run_type": "rsd"}, factories=ActorFactories(verifier=Crashing)),
        Callers(),
    )

    async def use(tasks: TaskGroup) -> None:
        async with arbiter:
            tasks.start_soon(callers.solve, arbiter, "a")
            tasks.start_soon(callers.stream, arbiter, "b")
            await anyio.sleep_forever()

    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            with pytest.raises(ExceptionGroup) as raised:
                await use(tasks)
            assert raised.group_contains(RuntimeError, match="the actor is broken")
        assert callers.ended == {"a": "ClosedError", "b": "ClosedError"}
        assert (arbiter.running, arbiter.waiting, arbiter.is_open) == (0, 0, False)

    on_each_loop(body)


def test_leaving_in_another_task_than_the_one_that_entered_is_an_error_that_says_so(
    an_arbiter: Arbiters, on_each_loop: Callable[[Callable[[], Awaitable[None]]], None]
) -> None:
    found: list[str] = []

    async def body() -> None:
        arbiter = an_arbiter()

        async def enter() -> None:
            await arbiter.__aenter__()
            entered.set()
            await anyio.sleep_forever()

        entered = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
            await entered.wait()
            try:
                await arbiter.__aexit__(None, None, None)
            except ArbiterError as error:
                found.append(str(error))
            assert not arbiter.is_open
            tasks.cancel_scope.cancel()

    with suppress(BaseExceptionGroup, RuntimeError):  # what is not left properly ends with errors of its own
        on_each_loop(body)
    [message] = found
    assert message.startswith("the Arbiter was entered in one task and is left in another")
