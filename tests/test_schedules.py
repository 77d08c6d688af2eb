"""The schedules of ``benchmarks/schedules.py``: what they request, and in which order."""

import anyio
import pytest

from tests.test_benchmarks import load


def test_the_published_schedule_scores_drafts_alone() -> None:
    schedules, fleets = load("schedules"), load("simulated_fleet")
    world = schedules.SyntheticWorkload(4)
    fleet = fleets.Fleet(world, 64, mixed=False)
    fleets.run_on(fleet, schedules.published)
    steps = sum(world.length(name) for name in world.names())
    assert {name: server.load.requests for name, server in fleet.servers.items()} == dict.fromkeys(fleet.servers, steps)


def test_the_seconds_that_are_left_of_a_problem_decrease_with_each_step() -> None:
    waiting, fleets = load("waiting"), load("simulated_fleet")
    world = load("schedules").SyntheticWorkload(8)
    for name in world.names():
        left = waiting.seconds_left(fleets.Fleet(world, 64, mixed=False), name)
        assert len(left) == world.length(name)
        assert left == sorted(left, reverse=True)
        assert left[-1] > 0


@pytest.mark.parametrize(("group", "granted"), [(1, [0, 1, 9, 5, 7]), (2, [0, 1, 5, 7, 9])])
def test_slots_go_to_the_smallest_rank_and_in_groups(group: int, granted: list[int]) -> None:
    """Slots 0 and 1 are free; 9 waits, and then 5 and 7 with better ranks. The slots are given back one by one."""
    slots, order = load("waiting").GroupedSlots(2, group), list[int]()

    async def wait(rank: int) -> None:
        await slots.take(rank)
        order.append(rank)

    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            for rank in (0, 1, 9):
                tasks.start_soon(wait, rank)
                await anyio.wait_all_tasks_blocked()
            if group == 1:
                slots.give()
                await anyio.wait_all_tasks_blocked()
            for rank in (7, 5):
                tasks.start_soon(wait, rank)
                await anyio.wait_all_tasks_blocked()
            for free in range(4):
                slots.give()
                await anyio.wait_all_tasks_blocked()
                if group == 2 and free == 0:
                    assert order == [0, 1]

    anyio.run(body)
    assert order == granted
