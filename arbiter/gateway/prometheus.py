"""What the endpoint tells Prometheus: counters of its problems, steps, requests and tokens, and what goes on now.

Labels are models, authors, verdicts and ends alone: never a problem, a text or a client. ``model`` is the key behind
``models.`` (``targets.NAME`` of several targets); ``audit`` are the PRM's requests that serve the report.
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
"""Kept steps over which the recent acceptance is told."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)


class Metrics(EventFolder):
    """Counts the events of ``arbiter``, in a registry of its own.

    Of ended problems the sums of requests and tokens are those of ``Solution.calls``.
    """

    def __init__(self, arbiter: Arbiter) -> None:
        super().__init__()
        registry = self._registry = CollectorRegistry()
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._make_counters(registry)
        self._make_histograms(registry)
        about = {"version": version("arbiter-reasoning"), "run_type": arbiter.config.run_type}
        Info("arbiter_build", "What is running, and the run type of requests that choose none", registry=registry).info(
            about
        )
        registry.register(_Now(arbiter, self._recent))
        ProcessCollector(registry=registry)

    def render(self) -> tuple[bytes, str]:
        """The metrics at this moment in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def started(self, live: LiveProblem) -> None:
        self._started.inc()

    def asked(self, asked: events.CallStarted) -> None:
        if is_ahead(asked):
            self._predrafts_started.inc()

    def retried(self, asked: events.CallStarted, retried: events.CallRetried) -> None:
        self._retries(model_of(asked)).inc()

    def answered(self, asked: events.CallStarted, outcome: events.Outcome) -> None:
        model = model_of(asked)
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
                if not outcome.stored:  # its seconds are another run's
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
        """Those with labels are found through a cache: the library takes longer for it than for counting."""

        def counter(name: str, told: str) -> Counter:
            return Counter(f"arbiter_{name}", told, registry=registry)

        def labelled(name: str, told: str, *labels: str) -> Callable[..., Counter]:
            return cache(Counter(f"arbiter_{name}", told, labels, registry=registry).labels)

        self._started = counter("problems_started", "Problems that came into the ring")
        self._problems = labelled(
            "problems_ended",
            "Problems that ended, by their finish reason; cancelled: given up by the client",
            "finish_reason",
        )
        self._steps = labelled(
            "steps", "Kept steps by who wrote them and what the policy decided (none: no policy)", "author", "verdict"
        )
        self._accepted = counter("drafts_accepted", "Kept steps that the draft wrote; their share of all: acceptance")
        self._escalations = counter("escalations", "Kept steps that the policy had the target write anew")
        self._requests = labelled("requests", "Requests to models, by how they ended", "model", "outcome")
        self._retries = labelled("request_retries", "Attempts that failed and were made again", "model")
        self._tokens = labelled(
            "tokens",
            "Tokens of answered requests: read (prompt), of these cached, written (completion)",
            "model",
            "kind",
        )
        self._discarded = counter("discarded_draft_tokens", "Of ended problems: tokens of the draft in no kept step")
        self._predrafts_started = counter("predrafts_started", "Drafts begun before anybody asked for them")
        self._predrafts_used = counter("predrafts_used", "Of these those that became the draft of their step")

    def _make_histograms(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, told: str, *labels: str) -> Histogram:
            return Histogram(f"arbiter_{name}_seconds", told, labels, registry=registry, buckets=_SECONDS)

        self._problem_seconds = histogram("problem", "From when a problem came into the ring to its end")
        self._step_seconds = histogram("step", "From when a step was asked for to when it was chosen")
        requests = histogram("request", "Of answered requests, retries included", "model")
        self._request_seconds: Callable[..., Histogram] = cache(requests.labels)


class _Now(Collector):
    """What is so at the moment in which it is asked for."""

    def __init__(self, arbiter: Arbiter, recent: deque[bool]) -> None:
        self._arbiter = arbiter
        self._recent = recent

    def collect(self) -> Iterator[GaugeMetricFamily]:
        arbiter, recent = self._arbiter, self._recent
        yield _queue_depth(
            "accepting", "1 while requests are taken, 0 once the endpoint is being closed", arbiter.is_open
        )
        yield _queue_depth("problems_running", "Problems in the ring", arbiter.running)
        yield _queue_depth("problems_waiting", "Problems that wait for room in the ring", arbiter.waiting)
        yield _queue_depth("problems_limit", "So many problems may be in the ring", arbiter.config.limits.problems)
        if recent:
            told = f"Of the last {RECENT} kept steps the share that the draft wrote"
            yield _queue_depth("acceptance_ratio", told, sum(recent) / len(recent))
        yield from self._places()

    def _places(self) -> Iterator[GaugeMetricFamily]:
        running = GaugeMetricFamily("arbiter_requests_running", "Requests at the model", labels=["model"])
        waiting = GaugeMetricFamily("arbiter_requests_waiting", "Requests that wait for a place", labels=["model"])
        limit = GaugeMetricFamily("arbiter_requests_limit", "So many requests may be there at once", labels=["model"])
        for model, places in self._arbiter.occupancy.items():
            running.add_metric([model], places.taken)
            waiting.add_metric([model], places.waiting)
            limit.add_metric([model], places.limit)
        yield from (running, waiting, limit)


def _queue_depth(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"arbiter_{name}", told, value=float(value))
