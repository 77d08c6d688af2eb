"""Send the spans of the endpoint's problems to a collector while it serves (the extra ``otel``).

A thread sends the spans of each problem once it has ended, so neither the ring nor a client waits for the collector.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from arbiter.config.config import Config
from arbiter.exports.otel import ProblemSpans
from arbiter.exports.otlp import SpanSender
from arbiter.log.history import Key, ProblemHistory
from arbiter.log.identity import flat
from arbiter.protocols import events
from arbiter.protocols.errors import ArbiterError
from arbiter.protocols.events import Event

WAITING = 1024
"""The number of ended problems that may wait to be sent. Further ones are dropped."""

_BATCH = 64

_log = logging.getLogger("arbiter.spans")


class LiveSpans(Collector):
    """A hook that sends the spans of each problem to ``endpoint`` when it has ended. ``close`` must be called.

    ``texts`` adds the questions, steps and answers. ``arbiter_traces_total`` counts problems by outcome: ``sent``,
    ``refused`` (the collector did not take them) and ``dropped`` (too many were waiting).
    """

    def __init__(self, config: Config, endpoint: str, *, texts: bool = False, seconds: float | None = None) -> None:
        self._sender = SpanSender(endpoint, seconds)
        self._models = flat(config)
        self._texts = texts
        self._open: dict[Key, ProblemHistory] = {}
        self._waiting: Queue[ProblemHistory | None] = Queue(WAITING)
        self._counts = dict.fromkeys(("sent", "refused", "dropped"), 0)
        self._ended = False
        self._thread = Thread(target=self._work, name="spans", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        if event.problem is None:
            return
        key = event.problem, event.sample
        if isinstance(event.payload, events.StartProblemEvent):
            self._open[key] = ProblemHistory(event)
        elif key in self._open:
            self._open[key].add(event)
            if isinstance(event.payload, events.ProblemEnded):
                self.left(*key)

    def left(self, problem: str, sample: int = 0) -> None:
        """Send a problem, which may have no end because its client abandoned it. Does nothing if it is not open."""
        history = self._open.pop((problem, sample), None)
        if history is not None:
            try:
                self._waiting.put_nowait(history)
            except Full:
                self._counts["dropped"] += 1

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the metrics."""
        family = CounterMetricFamily(
            "arbiter_traces", "Ended problems by what became of their spans", labels=["outcome"]
        )
        for outcome, count in self._counts.items():
            family.add_metric([outcome], count)
        yield family

    def close(self, seconds: float = 10.0) -> None:
        """Send the waiting problems, for at most ``seconds``."""
        with suppress(Full):
            self._waiting.put(None, timeout=seconds)
        self._thread.join(seconds)
        if self._thread.is_alive():
            _log.warning("the collector is too slow: about %d traces were not sent", self._waiting.qsize())

    def _work(self) -> None:
        """Send problems until the end, many at once if many are waiting."""
        while batch := self._next():
            try:
                self._send(batch)
            except ArbiterError as error:
                _log.warning("%d traces were not sent: %s", len(batch), error)
                self._counts["refused"] += len(batch)
            else:
                self._counts["sent"] += len(batch)
        self._sender.close()

    def _send(self, batch: list[ProblemHistory]) -> None:
        provider, models, texts = self._sender.provider, self._models, self._texts
        with self._sender.sending():
            for problem in batch:
                ProblemSpans(provider, problem.start.run, models, texts=texts).add(problem)

    def _next(self) -> list[ProblemHistory]:
        """Wait for problems and return those that are waiting; none when the endpoint closes."""
        batch: list[ProblemHistory] = []
        while len(batch) < _BATCH and not self._ended:
            try:
                problem = self._waiting.get(block=not batch)
            except Empty:
                break
            if problem is None:
                self._ended = True
            else:
                batch.append(problem)
        return batch
