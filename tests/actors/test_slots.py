"""PrioritySemaphore: never more slots than the total, and the smallest rank gets the next one."""

from collections.abc import Awaitable, Callable

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.slots import Occupancy, PrioritySemaphore, Rank, granted, group_of

Virtual = Callable[[Callable[[], Awaitable[None]]], None]


def served(
    in_virtual_time: Virtual,
    total: int,
    ranks: list[Rank],
    impatient: frozenset[int] = frozenset(),
    grouped: bool = False,
) -> list[int]:
    """Return who got a slot, in order. Each keeps it for 2 s; the impatient give up after 1 s."""
    granted: list[int] = []

    async def body() -> None:
        slots, taken = PrioritySemaphore(total, grouped), 0

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
    total=st.integers(1, 4) | st.sampled_from([16, 24]),
    grouped=st.booleans(),
    ranks=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40),
    impatient=st.frozensets(st.integers(0, 39)),
)
def test_all_who_are_patient_are_served_once(
    in_virtual_time: Virtual, total: int, grouped: bool, ranks: list[Rank], impatient: frozenset[int]
) -> None:
    order = served(in_virtual_time, total, ranks, impatient, grouped)
    assert len(order) == len(set(order))
    assert set(order) >= set(range(len(ranks))) - impatient


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


@given(free=st.integers(-8, 64), waiting=st.integers(0, 64), group=st.integers(1, 16))
def test_a_grant_is_a_whole_group_or_all_that_wait_or_nothing(free: int, waiting: int, group: int) -> None:
    slots = granted(free, waiting, group)
    assert 0 <= slots <= waiting
    assert slots <= max(free, 0)
    assert slots == 0 or slots >= group or slots == waiting


@given(limit=st.integers(1, 1000), waiting=st.integers(1, 1000))
def test_some_request_gets_a_slot_when_none_is_in_use(limit: int, waiting: int) -> None:
    assert granted(limit, waiting, group_of(limit)) == min(limit, waiting)


def test_a_group_is_an_eighth_of_the_limit_and_small_limits_have_none() -> None:
    assert {limit: group_of(limit) for limit in (1, 8, 15, 16, 64, 100)} == {1: 1, 8: 1, 15: 1, 16: 2, 64: 8, 100: 12}


class Used(msgspec.Struct):
    """What a sequence of events has done so far: the numbers of requests that have a slot, and that wait for one."""

    running: set[int]
    waiting: dict[int, anyio.CancelScope]


Event = tuple[str, int]
EVENTS = st.lists(
    st.tuples(st.sampled_from(["take", "take", "take", "give", "cancel"]), st.integers(0, 99))
    | st.tuples(st.just("resize"), st.integers(1, 40)),
    max_size=120,
)


@given(total=st.integers(1, 40), events=EVENTS)
def test_no_sequence_of_events_exceeds_the_limit_or_leaves_a_request_waiting_for_ever(
    in_virtual_time: Virtual, total: int, events: list[Event]
) -> None:
    async def body() -> None:
        slots, used = PrioritySemaphore(total, grouped=True), Used(set(), {})
        async with anyio.create_task_group() as tasks:

            async def want(number: int) -> None:
                with anyio.CancelScope() as used.waiting[number]:
                    await slots.take((number % 3,))
                    used.running.add(number)
                used.waiting.pop(number)

            async def give(number: int) -> None:
                used.running.discard(number)
                slots.give()
                await anyio.sleep(1)

            limit = total
            for number, (kind, which) in enumerate(events):
                before = len(used.running)
                if kind == "take":
                    tasks.start_soon(want, number)
                elif kind == "give" and used.running:
                    await give(sorted(used.running)[which % before])
                elif kind == "cancel" and used.waiting:
                    used.waiting[sorted(used.waiting)[which % len(used.waiting)]].cancel()
                elif kind == "resize":
                    limit = which
                    slots.resize(limit)
                await anyio.sleep(1)  # all who were granted a slot or cancelled have noticed it
                assert len(used.running) <= max(limit, before)
                assert slots.occupancy == Occupancy(len(used.running), len(used.waiting), limit)
                free = limit - len(used.running)
                assert not used.waiting or free < min(group_of(limit), len(used.waiting))
                assert not used.waiting or used.running
            while used.running:  # what is returned is all that happens from here on
                await give(min(used.running))
        assert not used.waiting
        assert slots.load == pytest.approx(0)

    in_virtual_time(body)


def test_slots_are_granted_in_groups_by_rank_while_requests_wait(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        slots, order = PrioritySemaphore(16, grouped=True), list[int]()

        async def want(number: int) -> None:
            await slots.take((-number,))
            order.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(want, number)
                await anyio.sleep(1)
            assert order == list(range(16))  # nobody waits while no queue exists
            slots.give()
            await anyio.sleep(1)
            assert (len(order), slots.has_room, slots.take_now()) == (16, False, False)  # nobody overtakes the queue
            slots.give()
            await anyio.sleep(1)
            assert sorted(order[16:]) == [18, 19]
            slots.give()
            slots.give()
        assert sorted(order[18:]) == [16, 17]

    in_virtual_time(body)


def test_a_cancelled_request_frees_the_slots_that_were_kept_for_it(in_virtual_time: Virtual) -> None:
    async def body() -> None:
        slots, order = PrioritySemaphore(16, grouped=True), list[str]()

        async def want(name: str, scope: anyio.CancelScope) -> None:
            with scope:
                await slots.take((0,))
                order.append(name)

        scopes = {name: anyio.CancelScope() for name in ("stays", "leaves")}
        for _ in range(16):
            assert slots.take_now()
        async with anyio.create_task_group() as tasks:
            for name, scope in scopes.items():
                tasks.start_soon(want, name, scope)
            await anyio.sleep(1)
            slots.give()
            await anyio.sleep(1)
            assert order == []  # two wait: the slot is kept until there is one for each
            scopes["leaves"].cancel()
        assert order == ["stays"]

    in_virtual_time(body)
