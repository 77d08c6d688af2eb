"""The endpoint's metrics for Prometheus: counters of problems, steps, requests and tokens, and gauges of the load.

Labels are only models, run types, authors, verdicts, outcomes, finish reasons, kinds of tokens and of streams: never a
problem, a text or a client. ``model`` is the key below ``models.``: ``targets.NAME`` for one of several targets.
``audit`` is the PRM's requests for audits.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from arbiter.library.arbiter import Arbiter
from arbiter.log.live import EventFolder, LiveProblem, is_ahead, model_of
from arbiter.protocols import events
from arbiter.protocols.records import StepRecord

RECENT = 200
"""The number of kept steps that the recent acceptance rate covers."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)


class Metrics(EventFolder):
    """Count the events of ``arbiter``, in a separate registry.

    For ended problems, the sums of requests and tokens equal those of ``Solution.requests``.
    """

    def __init__(self, arbiter: Arbiter) -> None:
        super().__init__()
        registry = self._registry = CollectorRegistry()
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._make_counters(registry)
        self._make_histograms(registry)
        build = {"version": version("arbiter-reasoning"), "run_type": arbiter.config.run_type}
        Info("arbiter_build", "Version of Arbiter, and the default run type", registry=registry).info(build)
        registry.register(_Gauges(arbiter, self._recent))
        ProcessCollector(registry=registry)

    def render(self) -> tuple[bytes, str]:
        """Return the current metrics in Prometheus' text format, and their content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    @property
    def registry(self) -> CollectorRegistry:
        """The registry, for further metrics."""
        return self._registry

    def started(self, live: LiveProblem) -> None:
        self._started.inc()

    def call_started(self, call: events.CallStarted) -> None:
        if is_ahead(call):
            self._predrafts_started.inc()

    def call_retried(self, call: events.CallStarted, retried: events.CallRetried) -> None:
        self._retries(model_of(call)).inc()

    def call_ended(self, live: LiveProblem, call: events.CallStarted, outcome: events.Outcome) -> None:
        model = model_of(call)
        match outcome:
            case events.CallFailed():
                self._requests(model, "failed").inc()
            case events.CallCancelled():
                self._requests(model, "cancelled").inc()
            case _:
                self._requests(model, "answered").inc()
                self._tokens(model, "prompt").inc(outcome.cost.prompt_tokens)
                self._tokens(model, "cached").inc(outcome.cost.cached_tokens)
                self._tokens(model, "completion").inc(outcome.cost.completion_tokens)
                if not outcome.stored:  # a stored answer has the seconds of another run
                    self._request_seconds(model).observe(outcome.seconds)

    def reused(self) -> None:
        self._predrafts_used.inc()

    def kept(self, live: LiveProblem, step: StepRecord, seconds: float) -> None:
        by_draft = step.kept.author == "draft"
        self._recent.append(by_draft)
        self._steps(step.kept.author, step.verdict or "none").inc()
        if by_draft:
            self._accepted.inc()
        if step.verdict == "escalate":
            self._escalations.inc()
        self._step_seconds.observe(seconds)

    def ended(self, live: LiveProblem, end: events.ProblemEnded | None) -> None:
        self._problems("cancelled" if end is None else end.finish_reason).inc()
        self._discarded.inc(live.drafted - live.draft_kept)
        if end is not None:
            self._problem_seconds.observe(end.seconds)

    def _make_counters(self, registry: CollectorRegistry) -> None:
        """Make the counters. Counters with labels are cached: the library's look-up takes longer than counting."""

        def counter(name: str, text: str) -> Counter:
            return Counter(f"arbiter_{name}", text, registry=registry)

        def labelled(name: str, text: str, *labels: str) -> Callable[..., Counter]:
            return cache(Counter(f"arbiter_{name}", text, labels, registry=registry).labels)

        self._started = counter("problems_started", "Problems that entered the ring")
        self._problems = labelled(
            "problems_ended",
            "Ended problems by finish reason; cancelled means that the client disconnected",
            "finish_reason",
        )
        self._steps = labelled(
            "steps", "Kept steps by author and by the policy's decision (none means no decision)", "author", "verdict"
        )
        self._accepted = counter("drafts_accepted", "Kept steps that the draft wrote")
        self._escalations = counter("escalations", "Kept steps that the policy escalated to the target")
        self._requests = labelled("requests", "Requests to models by outcome", "model", "outcome")
        self._retries = labelled("request_retries", "Failed attempts of requests that were made again", "model")
        self._tokens = labelled(
            "tokens",
            "Tokens of answered requests: prompt (read), cached (part of prompt), completion (written)",
            "model",
            "kind",
        )
        self._discarded = counter("discarded_draft_tokens", "Draft tokens of ended problems in no kept step")
        self._predrafts_started = counter("predrafts_started", "Drafts begun ahead, before their step was requested")
        self._predrafts_used = counter("predrafts_used", "Drafts begun ahead that were used for their step")

    def _make_histograms(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"arbiter_{name}_seconds", text, labels, registry=registry, buckets=_SECONDS)

        self._problem_seconds = histogram("problem", "Seconds from a problem's entry into the ring to its end")
        self._step_seconds = histogram("step", "Seconds from the request for a step to the decision")
        requests = histogram("request", "Seconds of answered requests, including retries", "model")
        self._request_seconds: Callable[..., Histogram] = cache(requests.labels)


class _Gauges(Collector):
    """The gauges, computed at each scrape."""

    def __init__(self, arbiter: Arbiter, recent: deque[bool]) -> None:
        self._arbiter = arbiter
        self._recent = recent

    def collect(self) -> Iterator[GaugeMetricFamily]:
        arbiter, recent = self._arbiter, self._recent
        yield _gauge("accepting", "1 while the endpoint accepts requests, 0 while it shuts down", arbiter.is_open)
        yield _gauge("problems_running", "Problems in the ring", arbiter.running)
        yield _gauge("problems_waiting", "Problems waiting to enter the ring", arbiter.waiting)
        yield _gauge("problems_limit", "Maximum number of problems in the ring", arbiter.config.limits.problems)
        if recent:
            text = f"Acceptance rate: the draft's share of the last {RECENT} kept steps"
            yield _gauge("acceptance_ratio", text, sum(recent) / len(recent))
        yield from self._slots()

    def _slots(self) -> Iterator[GaugeMetricFamily]:
        running = GaugeMetricFamily("arbiter_requests_running", "Requests in flight", labels=["model"])
        waiting = GaugeMetricFamily("arbiter_requests_waiting", "Requests waiting for a slot", labels=["model"])
        limit = GaugeMetricFamily("arbiter_requests_limit", "Maximum number of requests in flight", labels=["model"])
        for model, slots in self._arbiter.occupancy.items():
            running.add_metric([model], slots.taken)
            waiting.add_metric([model], slots.waiting)
            limit.add_metric([model], slots.limit)
        yield from (running, waiting, limit)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"arbiter_{name}", text, value=float(value))
