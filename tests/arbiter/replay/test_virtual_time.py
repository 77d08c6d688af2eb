"""Virtual time fixes the order of tasks with two private names of trio. A trio without them fails here."""

import random
from importlib import import_module
from typing import Any

import pytest
import trio

from arbiter.replay.virtual_time import run_virtually

scheduler: Any = import_module("trio._core._run")


@pytest.fixture
def by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as in a program: hypothesis makes trio run tasks in a fixed order in the whole process."""
    monkeypatch.setattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", False)


def order_of_tasks() -> list[tuple[int, int]]:
    """Return the order in which thirty tasks run that are always ready at the same time."""
    order: list[tuple[int, int]] = []

    async def run(number: int) -> None:
        for turn in range(5):
            order.append((turn, number))
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(run, number)

    run_virtually(main)
    return order


def test_trio_has_the_names_that_fix_the_order() -> None:
    assert isinstance(scheduler._ALLOW_DETERMINISTIC_SCHEDULING, bool)
    assert isinstance(scheduler._r, random.Random)


@pytest.mark.usefixtures("by_chance")
def test_tasks_that_are_ready_at_the_same_time_run_in_the_same_order_each_time() -> None:
    orders = [order_of_tasks() for _ in range(5)]
    assert len(orders[0]) == 150
    assert all(order == orders[0] for order in orders)


@pytest.mark.usefixtures("by_chance")
def test_trio_is_left_as_it_was() -> None:
    state = scheduler._r.getstate()
    order_of_tasks()
    assert scheduler._ALLOW_DETERMINISTIC_SCHEDULING is False
    assert scheduler._r.getstate() == state
