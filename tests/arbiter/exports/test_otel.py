"""A run's spans, in the SDK's memory and at a collector."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from arbiter.data import Problem
from arbiter.exports.otel import NamedIds, export_spans
from arbiter.exports.otlp import send_spans
from arbiter.log.run import Run
from arbiter.protocols.errors import ReportError
from arbiter.protocols.events import CallRetried, CallStarted, Event, ProblemEnded, StartProblemEvent
from tests.arbiter.distributed.scripted_cluster import a_config, solved
from tests.arbiter.span_collector import SpanCollector

RecordRun = Callable[..., Run]


def spans_of(run: Run, *, texts: bool = False) -> list[ReadableSpan]:
    """The spans of a run, with computed ids."""
    memory, provider = InMemorySpanExporter(), TracerProvider(id_generator=NamedIds(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    made = export_spans(run, provider, texts=texts)
    spans = list(memory.get_finished_spans())
    provider.shutdown()
    assert made == len(spans)
    return spans


def place(span: ReadableSpan) -> SpanContext:
    """A span's ids."""
    assert span.context is not None
    return span.context


def attributes_of(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def requests(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if span.kind is SpanKind.CLIENT]


def one(spans: list[ReadableSpan], call: str) -> ReadableSpan:
    [span] = [span for span in spans if attributes_of(span).get("arbiter.call.id") == call]
    return span


def test_a_problem_is_a_trace_of_a_root_its_steps_and_their_requests(plain_run: Run) -> None:
    spans = spans_of(plain_run)
    by_id = {place(span).span_id: span for span in spans}
    roots = [span for span in spans if span.parent is None]
    assert {span.name for span in roots} == {f"solve {n}" for n in range(6)}
    assert len({place(span).trace_id for span in roots}) == 6
    for span in spans:
        if span.parent is not None:
            above = by_id[span.parent.span_id]
            assert place(above).trace_id == place(span).trace_id
            assert above.name.split()[0] == ("step" if span.kind is SpanKind.CLIENT else "solve")


def test_every_request_of_the_log_is_a_span(plain_run: Run) -> None:
    asked = {event.id for event in plain_run.events() if isinstance(event.payload, CallStarted)}
    assert {attributes_of(span)["arbiter.call.id"] for span in requests(spans_of(plain_run))} == asked


def test_spans_have_the_times_of_the_log(plain_run: Run) -> None:
    began: dict[str, float] = {}
    ended: dict[str, float] = {}
    for event in plain_run.events():
        if isinstance(event.payload, StartProblemEvent):
            began[f"solve {event.problem}"] = event.wall
        if isinstance(event.payload, ProblemEnded):
            ended[f"solve {event.problem}"] = event.wall
    for span in spans_of(plain_run):
        if span.parent is None:
            assert (span.start_time, span.end_time) == (round(began[span.name] * 1e9), round(ended[span.name] * 1e9))


def test_no_span_begins_before_or_ends_after_the_one_above_it(plain_run: Run) -> None:
    spans = spans_of(plain_run)
    times = {place(span).span_id: (span.start_time or 0, span.end_time or 0) for span in spans}
    for span in spans:
        if span.parent is not None:
            above, (begin, end) = times[span.parent.span_id], times[place(span).span_id]
            assert above[0] <= begin <= end <= above[1]


def test_a_generation_is_told_by_the_genai_conventions(plain_run: Run) -> None:
    span = one(spans_of(plain_run), "1/0/escalate_step/target/0")
    assert (span.name, span.kind) == ("text_completion nowhere", SpanKind.CLIENT)
    assert attributes_of(span) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "transformers",
        "gen_ai.request.model": "nowhere",
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.response.finish_reasons": ("stop",),
        "arbiter.stop_reason": "separator",
        "arbiter.role": "target",
        "arbiter.actor": "escalator",
        "arbiter.call.id": "1/0/escalate_step/target/0",
    }


def test_a_score_is_a_completion_of_no_tokens_whose_name_and_role_say_what_it_is(plain_run: Run) -> None:
    span = one(spans_of(plain_run), "1/0/step_drafted/router/0")
    assert (span.name, span.kind) == ("score nowhere", SpanKind.CLIENT)
    expected = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.usage.output_tokens": 0,
        "arbiter.score": 0.75,
        "arbiter.role": "router",
    }
    assert attributes_of(span).items() >= expected.items()
    assert not attributes_of(span).keys() & {"gen_ai.request.temperature", "gen_ai.response.finish_reasons"}


def test_a_score_is_an_evaluation_result(plain_run: Run) -> None:
    [event] = one(spans_of(plain_run), "1/0/step_drafted/router/0").events
    assert event.name == "gen_ai.evaluation.result"
    assert dict(event.attributes or {}) == {"gen_ai.evaluation.name": "router", "gen_ai.evaluation.score.value": 0.75}


def test_the_attributes_of_the_conventions_are_those_of_version_0_1_0(plain_run: Run, troubled_run: Run) -> None:
    spans = [span for run in (plain_run, troubled_run) for span in spans_of(run, texts=True)]
    attributes = {name for span in spans for name in attributes_of(span) if name.startswith("gen_ai.")}
    events = {event.name for span in spans for event in span.events}
    assert attributes == {
        "gen_ai.operation.name",
        "gen_ai.agent.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.request.max_tokens",
        "gen_ai.request.temperature",
        "gen_ai.request.top_p",
        "gen_ai.response.finish_reasons",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
    }
    assert events == {"gen_ai.client.inference.exception", "gen_ai.evaluation.result"}
    assert {attributes_of(span).get("gen_ai.operation.name") for span in spans} == {
        "invoke_workflow",
        "text_completion",
        None,
    }


def test_steps_and_problems_tell_how_they_were_decided_and_ended(plain_run: Run) -> None:
    spans = spans_of(plain_run)
    [root] = [span for span in spans if span.name == "solve 1"]
    [step] = [span for span in spans if span.name == "step 1" and span.parent == place(root)]
    assert attributes_of(step) == {
        "arbiter.step": 1,
        "arbiter.step.author": "target",
        "arbiter.step.verdict": "escalate",
    }
    expected = {"arbiter.problem.id": "1", "arbiter.problem.finish_reason": "answered", "arbiter.problem.right": True}
    assert attributes_of(root).items() >= expected.items()


def test_a_failure_is_an_error_of_the_request_and_of_the_problem(troubled_run: Run) -> None:
    spans = spans_of(troubled_run)
    failed = {span.name: span for span in spans if span.status.status_code is StatusCode.ERROR}
    assert failed.keys() == {"solve broken", "text_completion nowhere", "solve stuck"}
    assert attributes_of(failed["text_completion nowhere"])["error.type"] == "BackendError"
    assert attributes_of(failed["solve broken"])["error.type"] == "BackendError"
    assert attributes_of(failed["solve stuck"])["error.type"] == "timeout"
    assert "the model fell over" in (failed["solve broken"].status.description or "")
    [event] = failed["text_completion nowhere"].events
    assert event.name == "gen_ai.client.inference.exception"
    assert (event.attributes or {})["exception.type"] == "BackendError"
    assert attributes_of(failed["text_completion nowhere"])["gen_ai.response.finish_reasons"] == ("error",)


def test_a_cancelled_request_is_no_error_and_ends_with_its_problem(troubled_run: Run) -> None:
    spans = spans_of(troubled_run)
    [root] = [span for span in spans if span.name == "solve stuck"]
    cancelled = one(spans, "stuck/1/draft_step/draft/0")
    assert (attributes_of(cancelled)["arbiter.cancelled"], cancelled.status.status_code) == (True, StatusCode.UNSET)
    assert attributes_of(cancelled)["gen_ai.response.finish_reasons"] == ("error",)
    assert cancelled.end_time == root.end_time


def with_retry(run: Run, folder: Path) -> Run:
    """The run with a failed attempt after each request."""

    lines: list[Event] = []
    for event in run.events():
        lines.append(event)
        if isinstance(event.payload, CallStarted):
            retried = CallRetried(attempt=1, pause=0.5, error="ServerError: busy")
            lines.append(
                msgspec.structs.replace(event, id=f"{event.id}/retry", cause=event.id, payload=retried, to=None)
            )
    numbered = [msgspec.structs.replace(event, seq=number) for number, event in enumerate(lines)]
    (folder / "events.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(numbered))
    return Run.open(folder)


def test_a_retry_is_an_event_of_its_request(plain_run: Run, tmp_path: Path) -> None:
    span = one(spans_of(with_retry(plain_run, tmp_path)), "1/0/draft_step/draft/0")
    [event] = span.events
    assert event.name == "retry"
    expected = {"arbiter.retry.attempt": 1, "arbiter.retry.pause": 0.5, "error.type": "ServerError"}
    assert dict(event.attributes or {}).items() >= expected.items()
    assert attributes_of(span)["arbiter.retries"] == 1


def test_no_text_of_questions_steps_and_answers_is_in_a_span(record: RecordRun) -> None:
    spans = spans_of(record([Problem("p", "a secret", "a secret")]))
    assert spans
    assert not any("secret" in span.to_json() for span in spans)


def messages(span: ReadableSpan, side: str) -> list[dict[str, Any]]:
    return msgspec.json.decode(str(attributes_of(span)[f"gen_ai.{side}.messages"]))


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


def test_texts_are_exported_if_they_are_wanted(plain_run: Run) -> None:
    spans = spans_of(plain_run, texts=True)
    [root] = [span for span in spans if span.name == "solve 1"]
    written = one(spans, "1/1/draft_step/draft/0")
    question = {"role": "user", "parts": [text("1")]}
    assert messages(root, "input") == [question]
    [answer] = messages(root, "output")
    assert answer == {
        "role": "assistant",
        "parts": [text("First, 1\n\n\\boxed{1}")],
        "finish_reason": "stop",
    }
    assert messages(written, "input") == [question, {"role": "assistant", "parts": [text("First, 1")]}]
    assert [message["parts"] for message in messages(written, "output")] == [[text("\\boxed{1}")]]
    assert "gen_ai.input.messages" not in attributes_of(one(spans, "1/0/step_drafted/router/0"))


def test_texts_that_the_log_lacks_are_refused(record: RecordRun) -> None:
    run = record([Problem("1", "1", "1")], log={"record": "redacted"})
    with pytest.raises(ReportError, match=r'log\.record = "redacted"'):
        spans_of(run, texts=True)


def test_the_same_run_has_the_same_ids_each_time(plain_run: Run) -> None:
    first, again = ([place(span) for span in spans_of(plain_run)] for _ in range(2))
    assert first == again
    assert len({context.span_id for context in first}) == len(first)


def test_a_provider_with_ids_of_its_own_is_served_as_well(plain_run: Run) -> None:
    memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    assert export_spans(plain_run, provider) == len(memory.get_finished_spans()) > 0


@pytest.mark.parametrize("detail", ["redacted", "decisions"])
def test_a_log_without_texts_has_its_spans(record: RecordRun, detail: str) -> None:
    run = record([Problem("1", "1", "1")], log={"record": detail})
    spans = spans_of(run)
    assert len(requests(spans)) == 5
    assert len(spans) == 8


@pytest.fixture
def collector() -> Generator[SpanCollector]:
    opened = SpanCollector()
    yield opened
    opened.close()


def test_a_collector_is_sent_every_span(plain_run: Run, collector: SpanCollector) -> None:
    sent = send_spans(plain_run, collector.url)
    [resource] = [spans for request in collector.sent for spans in request.resource_spans]
    assert {pair.key: pair.value.string_value for pair in resource.resource.attributes}["service.name"] == "arbiter"
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert collector.paths == ["/v1/traces"]
    assert (len(spans), sent) == (len(spans_of(plain_run)), len(spans))
    assert {span.name for span in spans} >= {"solve 1", "step 1", "text_completion nowhere", "score nowhere"}


@pytest.mark.slow
def test_many_spans_are_sent_in_several_requests_and_none_is_lost(record: RecordRun, collector: SpanCollector) -> None:
    run = record([Problem(str(n), "1", "1") for n in range(120)])
    sent = send_spans(run, collector.url)
    counts = [
        len(scope.spans)
        for request in collector.sent
        for spans in request.resource_spans
        for scope in spans.scope_spans
    ]
    assert sum(counts) == sent > 512
    assert counts[:-1] == [512] * (len(counts) - 1)


def test_a_collector_that_refuses_is_an_error_that_says_why(plain_run: Run) -> None:
    refusing = SpanCollector(status=403)
    try:
        with pytest.raises(ReportError, match=r"cannot send spans to http://127\.0\.0\.1.*403"):
            send_spans(plain_run, refusing.url)
    finally:
        refusing.close()


def test_no_password_of_a_collector_is_in_an_error(plain_run: Run) -> None:
    refusing = SpanCollector(status=403)
    try:
        with pytest.raises(ReportError) as raised:
            send_spans(plain_run, refusing.url.replace("://", "://me:hidden@"))
    finally:
        refusing.close()
    assert refusing.url in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_the_command_sends_spans(arbiter: Callable[..., object], plain_run: Run, collector: SpanCollector) -> None:
    arbiter("export", str(plain_run.path.parent), "--otlp", collector.url)
    assert len(collector.sent) == 1


def test_a_glimpse_is_a_request_of_its_step_before_the_step_itself(tmp_path: Path) -> None:
    """Each step of a run with glimpses has the request for its first token, and one for the whole step."""
    config = a_config(run_type="glimpse", thresholds={"glimpse": 0.5})
    anyio.run(solved, tmp_path, config, None)
    run = Run.open(tmp_path)
    spans = spans_of(run)
    roots = {span.name: place(span).span_id for span in spans if span.parent is None}
    for problem in run.problems():
        for number, step in enumerate(problem.steps()):
            [shown] = [
                span
                for span in spans
                if span.parent
                and span.parent.span_id == roots[f"solve {problem.key[0]}"]
                and attributes_of(span).get("arbiter.step") == number + 1
            ]
            made = [span for span in requests(spans) if span.parent and span.parent.span_id == place(shown).span_id]
            first, *others = sorted(made, key=lambda span: span.start_time or 0)
            assert attributes_of(first)["arbiter.role"] == "draft"
            assert [attributes_of(span)["arbiter.role"] for span in others] == [step.kept.author]
            assert attributes_of(shown)["arbiter.step.verdict"] == step.verdict
