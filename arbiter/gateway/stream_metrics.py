"""The times of streamed answers (``arbiter.log.stream_times``) as metrics for Prometheus."""

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram

from arbiter.actors.policies import PolicyBase
from arbiter.config.serve_tables import SloTable, StreamUnit
from arbiter.log.stream_times import StreamTimes
from arbiter.protocols.messages import Task

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
_EACH_SECONDS = (0.0005, 0.001, 0.0025, *_SECONDS)


class StreamMetrics:
    """Histograms of the times of streamed answers in ``registry``, and how many of them keep ``slo``."""

    def __init__(self, registry: CollectorRegistry, slo: SloTable) -> None:
        self._slo = slo

        def histogram(name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Callable[..., Histogram]:
            made = Histogram(
                f"arbiter_{name}_seconds", text, ("run_type", "stream"), registry=registry, buckets=buckets
            )
            return cache(made.labels)

        self._first = histogram("first_chunk", "Seconds from a request to the first text of its stream (TTFT)")
        self._first_output = histogram(
            "first_output", "Seconds from a request to the first text of its stream after the thought (TTFO)"
        )
        self._between = histogram("inter_token", "Mean seconds between the tokens of a stream (ITL)", _EACH_SECONDS)
        self._latency = histogram("stream", "Seconds from a request to the last text of its stream")
        self._kept: Callable[..., Counter] | None = None
        if slo.is_stated:
            text = "Streamed answers by whether they met serve.slo; the rate of those that did is the goodput"
            self._kept = cache(Counter("arbiter_slo_answers", text, ["outcome"], registry=registry).labels)

    def begun(self, task: Task, stream: StreamUnit, seconds: float) -> None:
        """Observe the time of the first text."""
        self._first(_run_type(task), stream).observe(seconds)

    def ended(self, task: Task, stream: StreamUnit, times: StreamTimes, tokens: int) -> None:
        """Observe the other times of an answer that has ended, which has ``tokens``."""
        labels, between = (_run_type(task), stream), times.between_tokens(tokens)
        found = ((self._first_output, times.first_output), (self._between, between), (self._latency, times.last))
        for metric, seconds in found:
            if seconds is not None:
                metric(*labels).observe(seconds)
        self._count(times.meets(self._slo, tokens))

    def failed(self) -> None:
        """Count an answer that failed: it does not meet the SLO."""
        self._count(False)

    def _count(self, is_met: bool) -> None:
        if self._kept is not None:
            self._kept("met" if is_met else "missed").inc()


def _run_type(task: Task) -> str:
    run_type = type(task.policy).__struct_config__.tag if isinstance(task.policy, PolicyBase) else None
    return str(run_type or "other")
