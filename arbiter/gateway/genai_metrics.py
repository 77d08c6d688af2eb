"""The endpoint's requests to models as metrics of OpenTelemetry's GenAI conventions, version 0.1.0.

Prometheus has its own rules for names: dots become underscores, counters end in ``_total``, and the unit is a part of
the name (``gen_ai.client.inference.duration`` is ``gen_ai_client_inference_duration_seconds``). A score is a
``text_completion`` that writes nothing, as in the spans (``arbiter.exports.genai_attributes``). The times of chunks are
missing: the ring does not record when a chunk of a model arrives.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

from arbiter.config.config import Config
from arbiter.log.identity import flat
from arbiter.log.live import EventFolder, LiveProblem
from arbiter.protocols import events
from arbiter.protocols.error_kinds import error_kind
from arbiter.protocols.records import table_name

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))
_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_OPERATION = "text_completion"
_PREFIX = "gen_ai_client_inference"


class GenAiMetrics(EventFolder):
    """Count the answered and failed requests to models in ``registry``. Cancelled requests are left out.

    Answers of an earlier run, which ``arbiter sweep`` stores, have no duration.
    """

    def __init__(self, config: Config, registry: CollectorRegistry) -> None:
        super().__init__()
        self._models = flat(config)

        def usage(name: str, text: str) -> Counter:
            labels = (*_LABELS, "gen_ai_token_modality")
            return Counter(f"{_PREFIX}_usage_{name}", text, labels, registry=registry)

        def per_request(name: str, text: str) -> Histogram:
            return Histogram(f"{_PREFIX}_operation_{name}", text, _LABELS, registry=registry, buckets=_TOKENS)

        self._read = usage("input_tokens", "Input tokens, including cached ones")
        self._written = usage("output_tokens", "Output tokens")
        self._cached = usage("cache_read_input_tokens", "Input tokens that were read from a cache")
        self._read_each = per_request("input_tokens", "Input tokens of a request")
        self._written_each = per_request("output_tokens", "Output tokens of a request")
        self._seconds = Histogram(
            f"{_PREFIX}_duration_seconds",
            "Seconds of requests to models, including retries",
            (*_LABELS, "error_type"),
            registry=registry,
            buckets=_SECONDS,
        )

    def call_ended(self, live: LiveProblem, call: events.CallStarted, outcome: events.Outcome) -> None:
        labels = self._labels(call)
        match outcome:
            case events.CallFailed(error=error, seconds=seconds):
                self._seconds.labels(*labels, error_kind(error)).observe(seconds)
                for counter in (self._read, self._written):
                    counter.labels(*labels, "unknown").inc(0)
            case events.CallGenerated() | events.CallScored() as answer:
                written = answer.cost.completion_tokens if isinstance(answer, events.CallGenerated) else 0
                self._read.labels(*labels, "text").inc(answer.cost.prompt_tokens)
                self._written.labels(*labels, "text").inc(written)
                self._cached.labels(*labels, "text").inc(answer.cost.cached_tokens)
                self._read_each.labels(*labels).observe(answer.cost.prompt_tokens)
                self._written_each.labels(*labels).observe(written)
                if not answer.stored:
                    self._seconds.labels(*labels, "").observe(answer.seconds)
            case _:
                pass

    def _labels(self, call: events.CallStarted) -> tuple[str, str, str]:
        table = table_name(call.model, call.target)
        provider, model = (str(self._models.get(f"models.{table}.{key}", "")) for key in ("backend", "model"))
        return _OPERATION, provider, model
