"""Spans on their way to a collector, by OTLP over HTTP (the extra ``otel``)."""

import logging
from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from arbiter.exports.otel import NamedIds, export_spans
from arbiter.log.run import Run
from arbiter.protocols.errors import ReportError

BATCH = 512
"""Spans of one request."""


class Batches(SpanProcessor):
    """Hands every span to ``exporter``, in requests of ``size``. Raises ``ReportError`` as soon as one is refused.

    The SDK's own batches drop spans that are made faster than they are sent, as those of a log are.
    """

    def __init__(self, exporter: SpanExporter, size: int = BATCH) -> None:
        self._exporter = exporter
        self._size = size
        self._waiting: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._waiting.append(span)
        if len(self._waiting) >= self._size:
            self.send()

    def send(self) -> None:
        """Send what is waiting."""
        batch, self._waiting = self._waiting, []
        if batch and self._exporter.export(batch) is not SpanExportResult.SUCCESS:
            raise ReportError("the collector did not take the spans")


def send_spans(run: Run, endpoint: str, seconds: float = 10.0) -> int:
    """Send the spans of ``run`` to ``endpoint``, with ``seconds`` for each request; how many there were.

    Headers and certificates are those of the usual variables (``OTEL_EXPORTER_OTLP_HEADERS``, …). Raises
    ``ReportError`` if the collector refuses or is not there, ``RunError`` if the log is damaged.
    """
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=seconds)
    batches = Batches(exporter)
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource.create({"service.name": "arbiter"}),
        id_generator=NamedIds(),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(batches)
    with _complaints() as complaints:
        try:
            made = export_spans(run, provider)
            batches.send()
        except ReportError as error:
            why = f": {complaints[0]}" if complaints else ""
            raise ReportError(f"cannot send spans to {endpoint}: {error}{why}") from error
        finally:
            exporter.shutdown()
    return made


@contextmanager
def _complaints() -> Generator[list[str]]:
    """What the exporter logs about a failure, kept for the error instead of being printed beside it."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(" ".join(record.getMessage().split()))

    logger, handler = logging.getLogger("opentelemetry"), Keep(logging.WARNING)
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
