"""Which requests a worker takes, and which answer or error each gets."""

import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import pytest

from arbiter.actors.supervision import services
from arbiter.backends.in_process.worker import Deliver, Job, Take, Worker
from arbiter.protocols.errors import ClosedError

Asks = Callable[[], Coroutine[Any, Any, None]]

PATIENCE = 30  # seconds, never waited for unless something hangs


def all_of(take: Take) -> list[Job]:
    """Return all jobs that wait."""
    return list(iter(take, None))


class Desk:
    """Records the jobs of each call of the work, and the answer or error of each request.

    ``negate`` is work that waits for ``gate``.
    """

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.answers: dict[int, int | Exception] = {}
        self.begun = anyio.Event()
        self.gate = threading.Semaphore(0)

    async def ask(self, worker: Worker, number: int) -> None:
        try:
            self.answers[number] = await worker.submit(number)
        except Exception as error:
            self.answers[number] = error

    def asks(self, worker: Worker, *numbers: int) -> list[Asks]:
        return [partial(self.ask, worker, number) for number in numbers]

    def begin(self, jobs: list[Job]) -> None:
        self.calls.append([job.ask for job in jobs])
        anyio.from_thread.run_sync(self.begun.set)

    def wait(self) -> None:
        assert self.gate.acquire(timeout=PATIENCE)

    def negate(self, take: Take, deliver: Deliver) -> None:
        jobs = all_of(take)
        self.begin(jobs)
        self.wait()
        deliver([(job, -job.ask) for job in jobs])


async def served(worker: Worker, *asks: Asks) -> None:
    """Queue all of ``asks``, then serve them until they end."""
    with anyio.fail_after(PATIENCE):
        async with services() as service, anyio.create_task_group() as asking:
            for ask in asks:
                asking.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            await service.start(worker.run)


@pytest.mark.asyncio
async def test_a_request_waits_for_no_company() -> None:
    desk = Desk()
    desk.gate.release()
    worker = Worker(desk.negate)
    await served(worker, *desk.asks(worker, 7))
    assert (desk.calls, desk.answers) == ([[7]], {7: -7})


@pytest.mark.asyncio
async def test_requests_are_taken_in_the_order_in_which_they_came() -> None:
    desk = Desk()
    desk.gate.release()
    worker = Worker(desk.negate)
    await served(worker, *desk.asks(worker, 3, 1, 2))
    assert desk.calls == [[3, 1, 2]]


@pytest.mark.asyncio
async def test_a_request_that_arrives_during_the_work_can_be_taken_by_it() -> None:
    desk = Desk()

    def work(take: Take, deliver: Deliver) -> None:
        early = all_of(take)
        desk.begin(early)
        desk.wait()
        late = all_of(take)
        desk.begin(late)
        deliver([(job, -job.ask) for job in (*late, *early)])

    worker = Worker(work)

    async def late() -> None:
        await desk.begun.wait()
        async with anyio.create_task_group() as asking:
            for ask in desk.asks(worker, 2, 3):
                asking.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            desk.gate.release()

    await served(worker, late, *desk.asks(worker, 1))
    assert (desk.calls, desk.answers) == ([[1], [2, 3]], {1: -1, 2: -2, 3: -3})


@pytest.mark.asyncio
async def test_a_request_that_the_work_did_not_take_starts_it_again() -> None:
    desk = Desk()
    worker = Worker(desk.negate)

    async def late() -> None:
        await desk.begun.wait()
        async with anyio.create_task_group() as asking:
            for ask in desk.asks(worker, 2, 3, 4):
                asking.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            desk.gate.release(2)

    await served(worker, late, *desk.asks(worker, 1))
    assert (desk.calls, desk.answers) == ([[1], [2, 3, 4]], {1: -1, 2: -2, 3: -3, 4: -4})


@pytest.mark.asyncio
async def test_work_may_leave_requests_for_its_next_call() -> None:
    desk = Desk()

    def work(take: Take, deliver: Deliver) -> None:
        job = take()
        assert job is not None
        desk.begin([job])
        deliver([(job, -job.ask)])

    worker = Worker(work)
    await served(worker, *desk.asks(worker, 1, 2, 3))
    assert (desk.calls, desk.answers) == ([[1], [2], [3]], {1: -1, 2: -2, 3: -3})


@pytest.mark.asyncio
async def test_a_delivered_answer_arrives_before_the_work_ends() -> None:
    desk, received = Desk(), list[int]()

    def work(take: Take, deliver: Deliver) -> None:
        first, second = all_of(take)
        deliver([(first, 10)])
        desk.wait()
        deliver([(second, 20)])

    worker = Worker(work)

    async def first() -> None:
        received.append(await worker.submit(1))
        desk.gate.release()

    await served(worker, first, *desk.asks(worker, 2))
    assert (received, desk.answers) == ([10], {2: 20})


@pytest.mark.asyncio
async def test_a_job_cancelled_while_it_waits_is_never_taken() -> None:
    desk = Desk()
    desk.gate.release()
    worker = Worker(desk.negate)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await worker.submit(1)
    await served(worker, *desk.asks(worker, 2))
    assert (desk.calls, desk.answers) == ([[2]], {2: -2})


@pytest.mark.asyncio
async def test_work_sees_which_of_its_jobs_were_cancelled_and_the_others_are_answered() -> None:
    desk, seen = Desk(), dict[int, bool]()

    def work(take: Take, deliver: Deliver) -> None:
        jobs = all_of(take)
        desk.begin(jobs)
        desk.wait()
        seen.update({job.ask: job.cancelled for job in jobs})
        deliver([(job, -job.ask) for job in jobs])

    worker = Worker(work)

    async def impatient() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as asking:
                asking.start_soon(desk.ask, worker, 1)
                await desk.begun.wait()
                scope.cancel()
        desk.gate.release()

    await served(worker, impatient, *desk.asks(worker, 2))
    assert (seen, desk.answers) == ({1: True, 2: False}, {2: -2})


@pytest.mark.asyncio
async def test_an_error_of_the_work_is_that_of_the_jobs_still_open() -> None:
    desk, error = Desk(), ValueError("the model fell over")

    def work(take: Take, deliver: Deliver) -> None:
        jobs = all_of(take)
        deliver([(jobs[0], 10)])
        raise error

    worker = Worker(work)
    await served(worker, *desk.asks(worker, 1, 2, 3))
    assert desk.answers == {1: 10, 2: error, 3: error}


@pytest.mark.asyncio
async def test_a_delivered_error_is_that_of_its_job_alone() -> None:
    desk, error = Desk(), ValueError("too long")

    def work(take: Take, deliver: Deliver) -> None:
        first, second = all_of(take)
        deliver([(first, error), (second, 20)])

    worker = Worker(work)
    await served(worker, *desk.asks(worker, 1, 2))
    assert desk.answers == {1: error, 2: 20}


@pytest.mark.asyncio
async def test_work_that_failed_does_not_touch_the_jobs_that_it_did_not_take() -> None:
    desk, error = Desk(), ValueError("the model fell over")

    def work(take: Take, deliver: Deliver) -> None:
        job = take()
        assert job is not None
        if job.ask == 1:
            raise error
        deliver([(job, -job.ask)])

    worker = Worker(work)
    await served(worker, *desk.asks(worker, 1, 2))
    assert desk.answers == {1: error, 2: -2}


@pytest.mark.asyncio
async def test_closing_gives_up_all_jobs_at_work_and_waiting() -> None:
    desk, seen = Desk(), list[bool]()

    def work(take: Take, deliver: Deliver) -> None:
        job = take()
        if job is None:
            return
        desk.begin([job])
        desk.wait()
        seen.append(job.cancelled)
        deliver([(job, -job.ask)])

    worker = Worker(work)

    async def close() -> None:
        await desk.begun.wait()
        worker.close()
        desk.gate.release()

    await served(worker, close, *desk.asks(worker, 1, 2, 3))
    assert {number: type(answer) for number, answer in desk.answers.items()} == dict.fromkeys((1, 2, 3), ClosedError)
    assert (seen, desk.calls) == ([True], [[1]])


@pytest.mark.asyncio
async def test_a_closed_worker_refuses_requests() -> None:
    worker = Worker(Desk().negate)
    worker.close()
    with pytest.raises(ClosedError, match="before the request"):
        await worker.submit(1)


@pytest.mark.asyncio
async def test_an_answer_that_was_delivered_outlives_the_closing() -> None:
    desk = Desk()
    desk.gate.release()
    worker = Worker(desk.negate)
    await served(worker, *desk.asks(worker, 1))
    worker.close()
    assert desk.answers == {1: -1}
