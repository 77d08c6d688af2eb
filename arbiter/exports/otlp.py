"""Send spans to a collector by OTLP over HTTP (the extra ``otel``)."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from arbiter.exports.otel import NamedIds, export_spans
from arbiter.log.run import Run
from arbiter.protocols.errors import ReportError

BATCH = 512
"""The number of spans per request."""


class Batches(SpanProcessor):
    """Pass every span to ``exporter``, ``size`` spans per request. Raises ``ReportError`` if a request is refused.

    The SDK's batch processor is not used: it drops spans that are made faster than they are sent, as happens here.
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
        """Send the waiting spans. Raises ``ReportError`` if the request is refused."""
        batch, self._waiting = self._waiting, []
        if batch and self._exporter.export(batch) is not SpanExportResult.SUCCESS:
            raise ReportError("the collector did not accept the spans")


class SpanSender:
    """Send what ``provider`` makes to ``endpoint``. ``seconds`` is the time limit of a request.

    Headers, certificates and the default time limit come from the usual environment variables
    (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_TIMEOUT``, …).
    """

    def __init__(self, endpoint: str, seconds: float | None = None) -> None:
        self._endpoint = without_user(endpoint)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=seconds)
        self._batches = Batches(self._exporter)
        self.provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": "arbiter"}),
            id_generator=NamedIds(),
            shutdown_on_exit=False,
        )
        self.provider.add_span_processor(self._batches)

    @contextmanager
    def sending(self) -> Generator[None]:
        """Send the spans that are made inside, the last of them at the end.

        Raises ``ReportError`` if the collector refuses them or cannot be reached.
        """
        with _captured_warnings() as warnings:
            try:
                yield
                self._batches.send()
            except ReportError as error:
                why = f": {warnings[0]}" if warnings else ""
                raise ReportError(f"cannot send spans to {self._endpoint}: {error}{why}") from error

    def close(self) -> None:
        """Release the connection."""
        self._exporter.shutdown()


def without_user(endpoint: str) -> str:
    """Return a URL without its user and password, for messages and logs."""
    parts = urlsplit(endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def send_spans(run: Run, endpoint: str, *, texts: bool = False, seconds: float | None = None) -> int:
    """Send the spans of ``run`` to ``endpoint`` and return their number. Arguments are as in ``SpanSender``.

    With ``texts``, spans have the questions, steps and answers. Raises ``ReportError`` if the collector refuses the
    spans or cannot be reached, or if the log lacks the texts; ``RunError`` if the log is damaged.
    """
    sender = SpanSender(endpoint, seconds)
    try:
        with sender.sending():
            return export_spans(run, sender.provider, texts=texts)
    finally:
        sender.close()


@contextmanager
def _captured_warnings() -> Generator[list[str]]:
    """Collect what the exporter logs about a failure, for the error message, and do not print it."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(" ".join(record.getMessage().split()))

    logger, handler = logging.getLogger("opentelemetry"), Keep(logging.WARNING)
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
