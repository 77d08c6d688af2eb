"""The times of streamed answers, as programs that measure servers define them (AIPerf 0.13, guidellm 0.8)."""

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram

from arbiter.actors.policies import PolicyBase
from arbiter.config.serve_tables import SloTable, StreamUnit
from arbiter.protocols.messages import Task
from arbiter.structured.thoughts import AnswerDivider

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
_EACH_SECONDS = (0.0005, 0.001, 0.0025, *_SECONDS)


class StreamTimes:
    """When the text of an answer was ready to be sent, in seconds from its request.

    ``first`` is the time of its first text, ``first_output`` that of the first text or call after its thought, and
    ``last`` that of the last text. Each is None until then. ``divider`` finds the thought, wherever it is sent.
    """

    def __init__(self, divider: AnswerDivider) -> None:
        self.first: float | None = None
        self.first_output: float | None = None
        self.last: float | None = None
        self._divider = divider

    def add(self, text: str, now: float, *, has_calls: bool = False, has_ended: bool = False) -> None:
        """Add a part of the answer that is ready at ``now``."""
        output = self._divider.add(text)[1] + (self._divider.end()[1] if has_ended else "")
        if text or has_calls:
            self.last = now
        if self.first is None and (text or has_calls or has_ended):
            self.first = now
        if self.first_output is None and (output or has_calls):
            self.first_output = now

    def between_tokens(self, tokens: int) -> float | None:
        """Return the mean seconds between the ``tokens`` of the answer; None if it has fewer than two.

        As the programs do, this takes the first chunk for one token, whatever it has.
        """
        if self.first is None or self.last is None or tokens < 2:
            return None
        return (self.last - self.first) / (tokens - 1)


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
        slo = self._slo
        bounds = (
            (times.first, slo.first_token),
            (times.first_output, slo.first_output_token),
            (between, slo.inter_token),
            (times.last, slo.latency),
        )
        self._count(all(bound is None or (time is not None and time <= bound) for time, bound in bounds))

    def failed(self) -> None:
        """Count an answer that failed: it does not meet the SLO."""
        self._count(False)

    def _count(self, is_met: bool) -> None:
        if self._kept is not None:
            self._kept("met" if is_met else "missed").inc()


def _run_type(task: Task) -> str:
    run_type = type(task.policy).__struct_config__.tag if isinstance(task.policy, PolicyBase) else None
    return str(run_type or "other")
