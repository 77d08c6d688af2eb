"""Limits count the CPU time of the process, in worker processes."""

import time
from contextlib import suppress

import anyio
import anyio.to_process
import pytest

from arbiter.grading.limits import OutOfTime, cpu_limit

pytestmark = pytest.mark.slow


def computes_for_ever() -> bool:
    """Runs in a worker. Returns whether the limit ended it, although it catches every ordinary error."""
    try:
        with cpu_limit(0.2):
            while True:
                with suppress(Exception):
                    sum(range(1000))
    except OutOfTime:
        return True


def waits() -> bool:
    """Runs in a worker: it takes longer than its limit, but hardly any CPU time."""
    with cpu_limit(0.2):
        time.sleep(0.5)
    return True


def catches_everything() -> int:
    """Runs in a worker. Returns how often code that catches the limit is interrupted."""
    caught = 0
    try:
        with cpu_limit(0.1):
            for _ in range(2):
                try:
                    while True:
                        sum(range(1000))
                except OutOfTime:
                    caught += 1
            while True:
                sum(range(1000))
    except OutOfTime:
        return caught


@pytest.mark.asyncio
async def test_work_that_needs_more_cpu_time_is_ended() -> None:
    assert await anyio.to_process.run_sync(computes_for_ever)


@pytest.mark.asyncio
async def test_time_in_which_others_have_the_processor_does_not_count() -> None:
    assert await anyio.to_process.run_sync(waits)


@pytest.mark.asyncio
async def test_code_that_catches_everything_is_interrupted_again() -> None:
    assert await anyio.to_process.run_sync(catches_everything) == 2


@pytest.mark.asyncio
async def test_a_worker_can_be_used_again_after_its_limit() -> None:
    for _ in range(3):
        assert await anyio.to_process.run_sync(computes_for_ever)
        assert await anyio.to_process.run_sync(waits)
