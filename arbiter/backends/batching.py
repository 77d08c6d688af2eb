"""Dynamic batching for models in process: all waiting requests share the next batch, which never waits for more."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import TaskStatus

from arbiter.actors.future import Future
from arbiter.protocols.errors import ClosedError

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class BatchJob(Generic[Ask, Answer]):
    """A request in a batch. The worker thread reads ``cancelled``, which only changes from False to True."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.cancelled = False
        self.answer = Future[Answer]()


Deliver = Callable[[Iterable[tuple[BatchJob[Ask, Answer], Answer | Exception]]], None]
Work = Callable[[Sequence[BatchJob[Ask, Answer]], Deliver[Ask, Answer]], None]


class Batcher(Generic[Ask, Answer]):
    """Runs ``work`` in a separate thread, on batches of up to ``largest`` jobs.

    ``work`` delivers each answer or error as soon as it is known, also before the batch ends, and drops cancelled
    jobs. If it raises, the exception is the error of all jobs without an answer.
    """

    def __init__(self, work: Work[Ask, Answer], largest: int) -> None:
        self._work = work
        self._largest = largest
        self._waiting: deque[BatchJob[Ask, Answer]] = deque()
        self._batch: list[BatchJob[Ask, Answer]] = []
        self._arrived = anyio.Event()
        self._thread = anyio.CapacityLimiter(1)
        self._closed = False
        self.batches = 0

    async def submit(self, ask: Ask) -> Answer:
        """Run one request and return its answer. Raises its error, or ``ClosedError`` if the model is closed.

        If the caller is cancelled, the worker drops the job when it next checks.
        """
        if self._closed:
            raise ClosedError("the model was closed before the request reached it")
        job = BatchJob[Ask, Answer](ask)
        self._waiting.append(job)
        self._arrived.set()
        try:
            return await job.answer.wait()
        except BaseException:
            job.cancelled = True
            raise

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        task_status.started()
        while True:
            await self._arrived.wait()
            self._arrived = anyio.Event()
            while self._waiting:
                self._take()
                await self._serve()

    def close(self) -> None:
        """Fail all jobs with ``ClosedError``. A running batch ends when the worker next checks."""
        self._closed = True
        for job in (*self._waiting, *self._batch):
            job.cancelled = True
            job.answer.fail(ClosedError("the model was closed during a request"))

    def _take(self) -> None:
        self._batch = []
        while self._waiting and len(self._batch) < self._largest:
            job = self._waiting.popleft()
            if not job.cancelled:
                self._batch.append(job)

    async def _serve(self) -> None:
        if not self._batch:
            return
        self.batches += 1
        deliver = functools.partial(anyio.from_thread.run_sync, _deliver)
        try:
            await anyio.to_thread.run_sync(self._work, self._batch, deliver, limiter=self._thread)
        except Exception as error:  # every job of the batch fails with the model's error
            for job in self._batch:
                job.answer.fail(error)
        self._batch = []


def _deliver(answers: Iterable[tuple[BatchJob[Ask, Answer], Answer | Exception]]) -> None:
    for job, answer in answers:
        if isinstance(answer, Exception):
            job.answer.fail(answer)
        else:
            job.answer.set(answer)
