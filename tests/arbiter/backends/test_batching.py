"""Which requests share a batch, and which answer or error each gets."""

import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest
from arbiter.backends.batching import Batcher, BatchJob, Deliver

from arbiter.actors.supervision import services
from arbiter.protocols.errors import ClosedError

Asks = Callable[[], Coroutine[Any, Any, None]]
Jobs = Sequence[BatchJob[int, int]]
Delivery = Deliver[int, int]

PATIENCE = 30  # seconds, never waited for unless something hangs


class Desk:
    """Records each batch, and the answer or error of each request. ``negate`` is work that waits for ``gate``."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.answers: dict[int, int | Exception] = {}
        self.begun = anyio.Event()
        self.gate = threading.Semaphore(0)

    async def ask(self, batcher: Batcher[int, int], number: int) -> None:
        try:
            self.answers[number] = await batcher.submit(number)
        except Exception as error:
            self.answers[number] = error

    def asks(self, batcher: Batcher[int, int], *numbers: int) -> list[Asks]:
        return [partial(self.ask, batcher, number) for number in numbers]

    def negate(self, jobs: Jobs, deliver: Delivery) -> None:
        self.batches.append([job.ask for job in jobs])
        anyio.from_thread.run_sync(self.begun.set)
        assert self.gate.acquire(timeout=PATIENCE)
        deliver([(job, -job.ask) for job in jobs])


async def served(batcher: Batcher[int, int], *asks: Asks) -> None:
    """Queue all of ``asks``, then serve them until they end."""
    with anyio.fail_after(PATIENCE):
        async with services() as service, anyio.create_task_group() as asking:
            for ask in asks:
                asking.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await service.start(batcher.run)


@pytest.mark.asyncio
async def test_a_request_waits_for_no_company() -> None:
    desk = Desk()
    desk.gate.release()
    batcher = Batcher(desk.negate, 100)
    await served(batcher, *desk.asks(batcher, 7))
    assert (desk.batches, desk.answers) == ([[7]], {7: -7})


@pytest.mark.asyncio
async def test_what_came_during_a_batch_shares_the_next_one() -> None:
    desk = Desk()
    batcher = Batcher(desk.negate, 100)

    async def late() -> None:
        await desk.begun.wait()
        async with anyio.create_task_group() as asking:
            for ask in desk.asks(batcher, 2, 3, 4):
                asking.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            desk.gate.release(2)

    await served(batcher, late, *desk.asks(batcher, 1))
    assert (desk.batches, desk.answers) == ([[1], [2, 3, 4]], {1: -1, 2: -2, 3: -3, 4: -4})


@pytest.mark.asyncio
async def test_no_batch_is_larger_than_the_largest_and_all_are_counted() -> None:
    desk = Desk()
    desk.gate.release(3)
    batcher = Batcher(desk.negate, 2)
    await served(batcher, *desk.asks(batcher, 1, 2, 3, 4, 5))
    assert (desk.batches, batcher.batches) == ([[1, 2], [3, 4], [5]], 3)


@pytest.mark.asyncio
async def test_an_answer_that_is_there_is_delivered_before_its_batch_ends() -> None:
    desk, told = Desk(), list[int]()

    def work(jobs: Jobs, deliver: Delivery) -> None:
        deliver([(jobs[0], 10)])
        assert desk.gate.acquire(timeout=PATIENCE)
        deliver([(jobs[1], 20)])

    batcher = Batcher(work, 2)

    async def first() -> None:
        told.append(await batcher.submit(1))
        desk.gate.release()

    await served(batcher, first, *desk.asks(batcher, 2))
    assert (told, desk.answers) == ([10], {2: 20})


@pytest.mark.asyncio
async def test_a_job_cancelled_while_it_waits_is_in_no_batch() -> None:
    desk = Desk()
    desk.gate.release()
    batcher = Batcher(desk.negate, 100)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await batcher.submit(1)
    await served(batcher, *desk.asks(batcher, 2))
    assert (desk.batches, desk.answers) == ([[2]], {2: -2})


@pytest.mark.asyncio
async def test_cancelled_jobs_alone_make_no_batch() -> None:
    desk = Desk()
    batcher = Batcher(desk.negate, 100)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await batcher.submit(1)
    await served(batcher)
    assert (desk.batches, batcher.batches) == ([], 0)


@pytest.mark.asyncio
async def test_work_sees_which_of_its_jobs_were_cancelled_and_the_others_are_answered() -> None:
    desk, seen = Desk(), dict[int, bool]()

    def work(jobs: Jobs, deliver: Delivery) -> None:
        desk.negate(jobs, deliver)
        seen.update({job.ask: job.cancelled for job in jobs})

    batcher = Batcher(work, 2)

    async def impatient() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as asking:
                asking.start_soon(desk.ask, batcher, 1)
                await desk.begun.wait()
                scope.cancel()
        desk.gate.release()

    await served(batcher, impatient, *desk.asks(batcher, 2))
    assert (seen, desk.answers) == ({1: True, 2: False}, {2: -2})


@pytest.mark.asyncio
async def test_an_error_of_the_work_is_that_of_the_jobs_still_open() -> None:
    desk, error = Desk(), ValueError("the model fell over")

    def work(jobs: Jobs, deliver: Delivery) -> None:
        deliver([(jobs[0], 10)])
        raise error

    batcher = Batcher(work, 3)
    await served(batcher, *desk.asks(batcher, 1, 2, 3))
    assert desk.answers == {1: 10, 2: error, 3: error}


@pytest.mark.asyncio
async def test_a_delivered_error_is_that_of_its_job_alone() -> None:
    desk, error = Desk(), ValueError("too long")
    batcher = Batcher[int, int](lambda jobs, deliver: deliver([(jobs[0], error), (jobs[1], 20)]), 2)
    await served(batcher, *desk.asks(batcher, 1, 2))
    assert desk.answers == {1: error, 2: 20}


@pytest.mark.asyncio
async def test_a_batch_that_failed_does_not_touch_the_next_one() -> None:
    desk, error = Desk(), ValueError("the model fell over")

    def work(jobs: Jobs, deliver: Delivery) -> None:
        if jobs[0].ask == 1:
            raise error
        deliver([(job, -job.ask) for job in jobs])

    batcher = Batcher(work, 1)
    await served(batcher, *desk.asks(batcher, 1, 2))
    assert desk.answers == {1: error, 2: -2}


@pytest.mark.asyncio
async def test_closing_gives_up_all_jobs_at_work_and_waiting() -> None:
    desk, seen = Desk(), list[bool]()

    def work(jobs: Jobs, deliver: Delivery) -> None:
        desk.negate(jobs, deliver)
        seen.extend(job.cancelled for job in jobs)

    batcher = Batcher(work, 1)

    async def close() -> None:
        await desk.begun.wait()
        batcher.close()
        desk.gate.release()

    await served(batcher, close, *desk.asks(batcher, 1, 2, 3))
    assert {number: type(answer) for number, answer in desk.answers.items()} == dict.fromkeys((1, 2, 3), ClosedError)
    assert (seen, desk.batches) == ([True], [[1]])


@pytest.mark.asyncio
async def test_an_answer_that_was_delivered_outlives_the_closing() -> None:
    desk = Desk()
    desk.gate.release()
    batcher = Batcher(desk.negate, 1)
    await served(batcher, *desk.asks(batcher, 1))
    batcher.close()
    assert desk.answers == {1: -1}
