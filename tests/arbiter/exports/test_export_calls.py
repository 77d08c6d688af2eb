"""Exports of runs whose answers call tools: calls are data, and no export has more of them than its log."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from arbiter.config.config import Config
from arbiter.exports.contents import contents
from arbiter.exports.eval_tools import calls_of, messages_of, offered
from arbiter.exports.html import write_page
from arbiter.exports.otel import NamedIds, export_spans
from arbiter.exports.perfetto import write_trace
from arbiter.log.run import Run
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall
from tests.arbiter.tool_runs import AFTER, RULES, record_run, tool_models

Configs = Callable[..., Config]
SECRETS = ("secret", "forty-two", "I add.")


@pytest.fixture(scope="module", params=["full", "redacted", "decisions"])
def any_run(a_config: Configs, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    config = a_config(run_type="router", log={"record": request.param})
    return record_run(config, tmp_path_factory.mktemp("called") / "run", tool_models())


@pytest.fixture(scope="module")
def run(a_config: Configs, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return record_run(a_config(run_type="router"), tmp_path_factory.mktemp("called") / "run", tool_models())


def spans_of(run: Run, *, texts: bool = False) -> dict[str, ReadableSpan]:
    """The spans of requests by their ids."""
    memory, provider = InMemorySpanExporter(), TracerProvider(id_generator=NamedIds(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    export_spans(run, provider, texts=texts)
    spans = memory.get_finished_spans()
    provider.shutdown()
    return {str((span.attributes or {}).get("arbiter.call.id")): span for span in spans}


def test_the_page_has_calls_tools_and_the_conversation_as_the_log_has_them(any_run: Run, tmp_path: Path) -> None:
    problems = {problem["id"]: problem for problem in contents(any_run)["problems"]}
    [_, step] = problems["broken"]["steps"]
    is_full = any_run.started.record == "full"
    assert [call["name"] for call in step["calls"]] == ["add"]
    assert (step["calls"][0]["arguments"] == '{"a": 1}') == is_full
    [draft] = step["others"]
    assert (step["valid"], draft["valid"], "at /a" in draft["violation"]) == (True, False, is_full)
    assert problems["told"]["tools"] == ["add"]
    assert ("tool: forty-two" in problems["told"]["after"]) == is_full
    page = write_page(any_run, tmp_path / "page.html")
    text = Path(page).read_text(encoding="utf-8")
    assert [word in text for word in SECRETS] == [is_full] * len(SECRETS)


def attributes_of(spans: dict[str, ReadableSpan], call: str) -> dict[str, Any]:
    return dict(spans[call].attributes or {})


def test_spans_have_the_names_of_tools_without_arguments(any_run: Run) -> None:
    spans = spans_of(any_run)
    attributes = attributes_of(spans, "broken/1/escalate_step/target/0")
    assert attributes["gen_ai.response.finish_reasons"] == ("tool_call",)
    assert (attributes["arbiter.tools.called"], attributes["arbiter.tools.offered"]) == (("add",), ("add",))
    assert attributes["arbiter.valid"] is True
    broken = attributes_of(spans, "broken/1/draft_step/draft/0")
    assert broken["arbiter.valid"] is False
    assert "add" not in broken["arbiter.tools.called"]
    assert "arbiter.tools.called" not in attributes_of(spans, "broken/0/draft_step/draft/0")
    opted = {"gen_ai.output.messages", "gen_ai.input.messages", "gen_ai.tool.definitions"}
    assert not any(opted & attributes_of(spans, call).keys() for call in spans)
    exported = "".join(span.to_json() for span in spans.values())
    assert [word for word in SECRETS if word in exported] == []


def test_spans_with_texts_have_the_calls_and_tools_of_the_conventions(run: Run) -> None:
    attributes = attributes_of(spans_of(run, texts=True), "broken/1/escalate_step/target/0")
    [message] = json.loads(attributes["gen_ai.output.messages"])
    [*_, part] = message["parts"]
    assert (message["role"], message["finish_reason"]) == ("assistant", "tool_call")
    assert (part["type"], part["name"], part["arguments"]) == ("tool_call", "add", {"a": 1})
    [tool] = json.loads(attributes["gen_ai.tool.definitions"])
    assert (tool["type"], tool["name"], tool["parameters"]["type"]) == ("function", "add", "object")


def test_a_trace_names_the_tools_that_a_request_calls(any_run: Run, tmp_path: Path) -> None:
    write_trace(any_run, tmp_path / "trace.pftrace")
    data = (tmp_path / "trace.pftrace").read_bytes()
    events = [packet.track_event for packet in Trace.FromString(data).packet if packet.HasField("track_event")]
    facts = [
        {fact.name: getattr(fact, fact.WhichOneof("value") or "") for fact in event.debug_annotations}
        for event in events
    ]
    found = {str(fact.get("id")): (fact.get("calls"), fact.get("valid")) for fact in facts if "model" in fact}
    assert found["broken/1/escalate_step/target/0"] == ("add", True)
    assert found["broken/1/draft_step/draft/0"][1] is False
    assert found["kept/0/draft_step/draft/0"] == (None, None)
    assert not any(word.encode() in data for word in SECRETS)


def test_conversations_and_calls_have_the_shapes_of_inspect() -> None:
    assistant, tool = messages_of(AFTER)
    assert assistant["tool_calls"] == [{"id": "c1", "function": "add", "arguments": {"a": 41}}]
    assert (tool["role"], tool["tool_call_id"], tool["function"], tool["content"]) == ("tool", "c1", "add", "forty-two")
    assert calls_of(()) is None
    assert calls_of((ToolCall("c", "add", "[1]"),)) == [
        {"id": "c", "function": "add", "arguments": {}, "parse_error": "[1]"}
    ]


@pytest.mark.parametrize(
    ("rules", "choice"),
    [
        (None, "none"),
        (RULES, "auto"),
        (AnswerRules(RULES.tools, "none"), "none"),
        (AnswerRules(RULES.tools, "required"), "any"),
        (AnswerRules(RULES.tools, "required", ("add",)), {"name": "add"}),
    ],
)
def test_the_choice_of_tools_is_that_of_inspect(rules: AnswerRules | None, choice: Any) -> None:
    found = offered(rules)
    assert found["tool_choice"] == choice
    assert bool(found["tools"]) == (choice != "none")


def test_a_tool_keeps_its_whole_schema_where_inspect_knows_only_a_part_of_it() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["null", "string"], "not": {"const": "x"}}, "b": True}}
    tool = Tool("f", "Does it.", json.dumps(schema))
    [shown] = offered(AnswerRules((tool,)))["tools"]
    assert shown["parameters"] == {"properties": {"a": {}, "b": {}}, "required": []}
    assert shown["options"] == {"parameters": schema}
