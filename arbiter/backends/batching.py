"""Dynamic batching for models in process: whatever is waiting shares the next batch, and nothing waits for more."""

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
    """A request in a batch. The worker thread reads ``cancelled``, which only ever turns from False to True."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.cancelled = False
        self.answer = Future[Answer]()


Deliver = Callable[[Iterable[tuple[BatchJob[Ask, Answer], Answer | Exception]]], None]
Work = Callable[[Sequence[BatchJob[Ask, Answer]], Deliver[Ask, Answer]], None]


class Batcher(Generic[Ask, Answer]):
    """Runs ``work`` in a thread of its own, on up to ``largest`` jobs at once.

    ``work`` delivers each answer (or error) when it is there, in the middle of a batch if need be, and
    drops jobs that were cancelled. An exception that it raises is the error of all jobs left in the batch.
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
        """The answer. Cancelling takes the job out of its batch at the worker's next look."""
        if self._closed:
            raise ClosedError("the model was closed before the request was at it")
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
        """Give up all jobs, so that a batch at work ends at the worker's next look."""
        self._closed = True
        for job in (*self._waiting, *self._batch):
            job.cancelled = True
            job.answer.fail(ClosedError("the model was closed while a request was at it"))

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
        except Exception as error:  # whatever the model raised is the answer of those who asked
            for job in self._batch:
                job.answer.fail(error)
        self._batch = []


def _deliver(answers: Iterable[tuple[BatchJob[Ask, Answer], Answer | Exception]]) -> None:
    for job, answer in answers:
        if isinstance(answer, Exception):
            job.answer.fail(answer)
        else:
            job.answer.set(answer)
