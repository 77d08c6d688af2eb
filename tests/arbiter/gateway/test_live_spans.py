"""The endpoint sends the spans of each problem when it has ended, and no client waits for the collector."""

from collections.abc import Generator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from arbiter.config.config import parse
from arbiter.gateway.inprocess_client import BASE
from arbiter.gateway.live_spans import LiveSpans
from tests.arbiter.gateway.conftest import Open, Served, a_config
from tests.arbiter.span_collector import SpanCollector

pytestmark = pytest.mark.asyncio

MODELS = {
    "draft": {"model": "small", "prompt": "{question}"},
    "target": {"model": "large", "prompt": "{question}"},
    "router": {"model": "judge", "prompt": "{question}"},
}


@pytest.fixture
def collector() -> Generator[SpanCollector]:
    opened = SpanCollector()
    yield opened
    opened.close()


def attributes_of(span: Span) -> dict[str, object]:
    kinds = {pair.key: pair.value.WhichOneof("value") or "string_value" for pair in span.attributes}
    return {pair.key: getattr(pair.value, kinds[pair.key]) for pair in span.attributes}


async def traces(served: Served) -> dict[str, float]:
    answer = await served.client.get(f"{BASE}/metrics")
    lines = [line for line in answer.text.splitlines() if line.startswith("arbiter_traces_total{")]
    return {line.partition('"')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_a_problem_of_a_client_is_a_trace_with_the_tokens_of_its_answer(
    endpoint: Open, collector: SpanCollector
) -> None:
    spans = LiveSpans(parse({"models": MODELS}, "test"), collector.url)
    async with endpoint(spans=spans) as served:
        usage = [(await served.chat(question)).json()["usage"] for question in ("one", "two")]
        spans.close()
        counts = await traces(served)
    assert counts == {"sent": 2, "refused": 0, "dropped": 0}
    requests = [attributes_of(span) for span in collector.spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert {attributes["gen_ai.request.model"] for attributes in requests} == {"small", "large", "judge"}
    writing = [attributes for attributes in requests if attributes["arbiter.role"] != "router"]
    written = sum(int(str(attributes["gen_ai.usage.output_tokens"])) for attributes in writing)
    assert written == sum(one["completion_tokens"] for one in usage)
    steps = [attributes_of(span) for span in collector.spans if span.name.startswith("step ")]
    assert [step["arbiter.step.verdict"] for step in steps] == ["keep_draft", "escalate", "keep_draft"] * 2
    assert "one" not in str(collector.spans)


async def test_texts_are_sent_if_they_are_wanted(endpoint: Open, collector: SpanCollector) -> None:
    spans = LiveSpans(a_config(), collector.url, texts=True)
    async with endpoint(spans=spans) as served:
        await served.chat("a question of the client")
        spans.close()
    [root] = [span for span in collector.spans if span.name.startswith("solve ")]
    assert "a question of the client" in str(attributes_of(root)["gen_ai.input.messages"])


async def test_a_collector_that_refuses_costs_no_answer(endpoint: Open) -> None:
    refusing = SpanCollector(status=400)
    spans = LiveSpans(a_config(), refusing.url)
    try:
        async with endpoint(spans=spans) as served:
            answer = await served.chat("one")
            spans.close()
            counts = await traces(served)
    finally:
        refusing.close()
    assert (answer.status_code, counts) == (200, {"sent": 0, "refused": 1, "dropped": 0})


async def test_each_request_is_counted_by_the_names_of_the_conventions(endpoint: Open) -> None:
    async with endpoint(config={"models": MODELS}) as served:
        usage = (await served.chat("one")).json()["usage"]
        lines = (await served.client.get(f"{BASE}/metrics")).text.splitlines()
    labels = 'gen_ai_operation_name="text_completion",gen_ai_provider_name="transformers",gen_ai_request_model='
    written = f"gen_ai_client_inference_usage_output_tokens_total{{{labels}"
    found = [line for line in lines if line.startswith(written)]
    assert {line.removeprefix(written).partition(",")[0] for line in found} == {'"small"', '"large"', '"judge"'}
    assert sum(float(line.rpartition(" ")[2]) for line in found) == usage["completion_tokens"]
    seconds = f'gen_ai_client_inference_duration_seconds_count{{error_type="",{labels}"small"}} 3.0'
    assert seconds in lines
    assert {line.split("{")[0] for line in lines if line.startswith("gen_ai") and "_created" not in line} == {
        "gen_ai_client_inference_duration_seconds_bucket",
        "gen_ai_client_inference_duration_seconds_count",
        "gen_ai_client_inference_duration_seconds_sum",
        "gen_ai_client_inference_operation_input_tokens_bucket",
        "gen_ai_client_inference_operation_input_tokens_count",
        "gen_ai_client_inference_operation_input_tokens_sum",
        "gen_ai_client_inference_operation_output_tokens_bucket",
        "gen_ai_client_inference_operation_output_tokens_count",
        "gen_ai_client_inference_operation_output_tokens_sum",
        "gen_ai_client_inference_usage_cache_read_input_tokens_total",
        "gen_ai_client_inference_usage_input_tokens_total",
        "gen_ai_client_inference_usage_output_tokens_total",
    }
