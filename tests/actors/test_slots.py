"""PrioritySemaphore: never more slots than the total, and the smallest rank gets the next one."""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.slots import PrioritySemaphore, Rank

Virtual = Callable[[Callable[[], Awaitable[None]]], None]


def served(
    in_virtual_time: Virtual, total: int, ranks: list[Rank], impatient: frozenset[int] = frozenset()
) -> list[int]:
    """Return who got a slot, in order. Each keeps it for 2 s; the impatient give up after 1 s."""
    granted: list[int] = []

    async def body() -> None:
        slots, taken = PrioritySemaphore(total), 0

        async def want(number: int) -> None:
            nonlocal taken
            with anyio.move_on_after(1 if number in impatient else 1000):
                await slots.take(ranks[number])
                try:
                    taken += 1
                    assert taken <= total
                    granted.append(number)
                    await anyio.sleep(2)
                finally:
                    taken -= 1
                    slots.give()

        async with anyio.create_task_group() as tasks:
            for number in range(len(ranks)):
                tasks.start_soon(want, number)
                await anyio.sleep(0.001)
        assert slots.has_room
        assert slots.load == pytest.approx(0)

    in_virtual_time(body)
    return granted


def test_places_are_given_by_rank_and_then_by_arrival(in_virtual_time: Virtual) -> None:
    ranks: list[Rank] = [(0, 9), (1, 0), (0, 5), (0, 2), (0, 5)]
    assert served(in_virtual_time, 1, ranks) == [0, 3, 2, 4, 1]


def test_whoever_is_cancelled_while_waiting_is_passed_over(in_virtual_time: Virtual) -> None:
    assert served(in_virtual_time, 1, [(0,), (0,), (0,)], frozenset({1})) == [0, 2]


def test_a_place_given_in_the_moment_of_a_cancellation_goes_on(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        slots, granted = PrioritySemaphore(1), list[str]()

        async def want(name: str) -> None:
            await slots.take((0,))
            granted.append(name)
            slots.give()

        async with anyio.create_task_group() as tasks:
            await slots.take((0,))
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(want, "cancelled")
                await anyio.sleep(1)
                tasks.start_soon(want, "next")
                await anyio.sleep(1)
                slots.give()
                cancelled.cancel_scope.cancel()
            await anyio.sleep(1)
        assert granted[-1] == "next"  # the other one may have got it, too: that depends on which task wakes first
        assert slots.has_room

    in_virtual_time(body)


@given(
    total=st.integers(1, 4),
    ranks=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=10),
    impatient=st.frozensets(st.integers(0, 9)),
)
def test_all_who_are_patient_are_served_once(
    in_virtual_time: Virtual, total: int, ranks: list[Rank], impatient: frozenset[int]
) -> None:
    granted = served(in_virtual_time, total, ranks, impatient)
    assert len(granted) == len(set(granted))
    assert set(granted) >= set(range(len(ranks))) - impatient


def test_load_is_the_share_of_places_that_are_taken(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        slots = PrioritySemaphore(4)
        await slots.take((0,))
        assert (slots.load, slots.has_room) == (0.25, True)
        for _ in range(3):
            await slots.take((0,))
        assert (slots.load, slots.has_room) == (1.0, False)

    in_virtual_time(body)


@given(totals=st.lists(st.integers(1, 6), min_size=1, max_size=8), wanting=st.integers(1, 12))
def test_a_place_that_is_had_is_kept_and_none_stays_free_while_somebody_waits(
    in_virtual_time: Virtual, totals: list[int], wanting: int
) -> None:
    async def body() -> None:
        slots, granted = PrioritySemaphore(totals[0]), set[int]()
        waiting = set(range(wanting))

        async def want(number: int) -> None:
            await slots.take((number,))
            waiting.discard(number)
            granted.add(number)
            await anyio.sleep(3)
            granted.discard(number)
            slots.give()

        async with anyio.create_task_group() as tasks:
            for number in range(wanting):
                tasks.start_soon(want, number)
            for total in totals:
                before = len(granted)
                slots.resize(total)
                await anyio.sleep(0.7)
                assert len(granted) <= max(total, before)
                assert not waiting or len(granted) >= total

    in_virtual_time(body)
