"""Hand requests from the event loop to a model that works in a thread of its own, and answers back."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import TaskStatus

from arbiter.actors.future import Future
from arbiter.protocols.errors import ClosedError


class Job:
    """A request. The worker thread reads ``cancelled``, which only changes from False to True."""

    def __init__(self, ask: Any) -> None:  # noqa: ANN401 - the port's request
        self.ask = ask
        self.cancelled = False
        self.answer = Future[Any]()


Deliver = Callable[[Iterable[tuple[Job, Any]]], None]
"""Gives jobs their answers, or the exceptions that they raise. To be called in the worker thread."""
Take = Callable[[], Job | None]
"""Returns the next waiting job; None if none waits. To be called in the worker thread."""


class Worker:
    """Runs ``work`` in a separate thread while requests wait.

    ``work`` takes jobs, also those that arrive while it works, and delivers each answer as soon as it is known. It
    drops cancelled jobs, and returns when it has no job left. If it raises, all jobs that it has get the exception.
    """

    def __init__(self, work: Callable[[Take, Deliver], None]) -> None:
        self._work = work
        self._waiting: deque[Job] = deque()
        self._taken: set[Job] = set()
        self._arrived = anyio.Event()
        self._thread = anyio.CapacityLimiter(1)
        self._closed = False
        self._lock = threading.Lock()  # of ``_taken`` and ``_closed``, which both threads use

    async def submit(self, ask: Any) -> Any:  # noqa: ANN401 - the port's request and answer
        """Run one request and return its answer. Raises its error, or ``ClosedError`` if the model is closed.

        If the caller is cancelled, the worker drops the job when it next checks.
        """
        if self._closed:
            raise ClosedError("the model was closed before the request reached it")
        job = Job(ask)
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
                await self._serve()

    def close(self) -> None:
        """Fail all jobs with ``ClosedError``. The worker drops them when it next checks."""
        with self._lock:
            self._closed = True
            jobs = [*self._waiting, *self._taken]
        for job in jobs:
            job.cancelled = True
            job.answer.fail(ClosedError("the model was closed during a request"))

    def _take(self) -> Job | None:
        while self._waiting:
            with self._lock:
                job = self._waiting.popleft()
                if not (job.cancelled or self._closed):
                    self._taken = {other for other in self._taken if not other.cancelled}
                    self._taken.add(job)
                    return job
        return None

    async def _serve(self) -> None:
        try:
            await anyio.to_thread.run_sync(self._work, self._take, self._deliver, limiter=self._thread)
        except Exception as error:  # every job that the worker has fails with the model's error
            for job in self._taken:
                job.answer.fail(error)
        with self._lock:
            self._taken.clear()

    def _deliver(self, answers: Iterable[tuple[Job, Any]]) -> None:
        anyio.from_thread.run_sync(self._answer, answers)

    def _answer(self, answers: Iterable[tuple[Job, Any]]) -> None:
        for job, answer in answers:
            with self._lock:
                self._taken.discard(job)
            if isinstance(answer, Exception):
                job.answer.fail(answer)
            else:
                job.answer.set(answer)
