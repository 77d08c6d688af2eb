"""The attributes and events of a request to a model, as OpenTelemetry's GenAI conventions name them (version 0.1.0).

The conventions know no operation that scores a text. So the request of a score is a ``text_completion`` of 0 tokens:
programs that read spans, such as Phoenix, count the tokens of known operations only. ``arbiter.role`` distinguishes
the two. Attributes that the conventions do not name start with ``arbiter.``. It needs the extra ``otel``.
"""

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span, Status, StatusCode

from arbiter.exports.called_names import called_names
from arbiter.exports.genai_messages import input_messages, output_message, tool_definitions
from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols import events
from arbiter.protocols.error_kinds import error_kind
from arbiter.protocols.records import Step, StepRecord, table_name
from arbiter.protocols.tools import content_of

Value = str | bool | int | float | list[str]

OPERATION = "text_completion"
"""The operation of each request to a model."""

FINISH_REASONS = {"separator": "stop", "end": "stop", "limit": "length", "call": "tool_call"}
"""The finish reasons of the conventions by stop reason, which ``arbiter.stop_reason`` has too."""

_CALLED = "tool_call"
_NO_ANSWER = "error"
"""The finish reason of a generation that failed, was cancelled, or had not ended."""


def request_attributes(
    problem: ProblemHistory, call: CallHistory, identity: Mapping[str, Any], actor: str
) -> dict[str, Value]:
    """Return the attributes that are known when ``actor`` makes a request. ``identity`` is that of the run."""
    table, rules = f"models.{table_of(problem, call)}", problem.task.rules
    cause, sampling = problem.message_of(call), problem.task.sampling
    shared: dict[str, Value | None] = {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": identity.get(f"{table}.backend"),
        "gen_ai.request.model": identity.get(f"{table}.model"),
        "gen_ai.request.max_tokens": getattr(cause and cause.payload, "max_tokens", None),
        "arbiter.role": call.model,
        "arbiter.target": problem.target_of(call),
        "arbiter.actor": actor,
        "arbiter.call.id": call.id,
        "arbiter.retries": len(call.retries) or None,
    }
    if not writes(call):
        return known_values(shared)
    offered = [tool.name for tool in rules.offered] if rules else None
    sampled: dict[str, Value | None] = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "arbiter.tools.offered": offered or None,
    }
    return known_values({**shared, **sampled})


def response_attributes(call: CallHistory) -> dict[str, Value]:
    """Return the attributes of the outcome of a request, without its texts."""
    outcome = call.outcome
    match outcome:
        case events.CallGenerated():
            return {
                **_usage(outcome, outcome.cost.completion_tokens),
                "gen_ai.response.finish_reasons": [finish_reason(outcome)],
                **known_values({"arbiter.tools.called": called_names(outcome) or None, "arbiter.valid": outcome.valid}),
                "arbiter.stop_reason": outcome.stop_reason,
            }
        case events.CallScored():
            return {**_usage(outcome, 0), "arbiter.score": outcome.value}
        case _:
            return {"gen_ai.response.finish_reasons": [_NO_ANSWER]} if writes(call) else {}


def text_attributes(problem: ProblemHistory, call: CallHistory, kept: list[StepRecord], step: int) -> dict[str, Value]:
    """Return the texts of a request that writes ``step``, after the steps ``kept``. A score has none."""
    if not writes(call):
        return {}
    read = input_messages(problem.task.transcript(Step(record.kept.text, record.kept.author) for record in kept[:step]))
    outcome, written = call.outcome, None
    if isinstance(outcome, events.CallGenerated):
        text = content_of(outcome.text, outcome.calls) if outcome.calls else outcome.text
        written = output_message(text, outcome.all_calls, finish_reason(outcome))
    tools = tool_definitions(problem.task.rules)
    return known_values(
        {"gen_ai.input.messages": read, "gen_ai.output.messages": written, "gen_ai.tool.definitions": tools}
    )


def add_outcome_events(span: Span, call: CallHistory, end: int) -> None:
    """Add the events of the outcome of a request at ``end``, in nanoseconds: an error, or a score."""
    match call.outcome:
        case events.CallFailed(error=error):
            kind = error_kind(error)
            about = {"exception.type": kind, "exception.message": error}
            span.add_event("gen_ai.client.inference.exception", about, end)
            fail(span, error, kind)
        case events.CallScored(value=value):
            about = {"gen_ai.evaluation.name": call.model, "gen_ai.evaluation.score.value": value}
            span.add_event("gen_ai.evaluation.result", about, end)
        case events.CallCancelled() | None:  # not an error: the answer was no longer needed
            span.set_attribute("arbiter.cancelled", True)
        case _:
            pass


def span_name(call: CallHistory, attributes: Mapping[str, Value]) -> str:
    """Return the name of the span of a request: its operation and model, as ``score MODEL`` for a score."""
    model = attributes.get("gen_ai.request.model")
    operation = OPERATION if writes(call) else "score"
    return f"{operation} {model}" if model else operation


def finish_reason(outcome: events.CallGenerated) -> str:
    """Return the finish reason of the conventions."""
    return _CALLED if outcome.calls else FINISH_REASONS[outcome.stop_reason]


def writes(call: CallHistory) -> bool:
    """Return whether a request writes a step; the others score one."""
    return call.model in ("draft", "target")


def table_of(problem: ProblemHistory, call: CallHistory) -> str:
    """Return the configuration table below ``models.`` of the model that a request goes to."""
    return table_name(call.model, problem.target_of(call))


def fail(span: Span, error: str, kind: str) -> None:
    """Set the status of ``span`` to the error of the given kind."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, error))


def known_values(values: Mapping[str, Value | None]) -> dict[str, Value]:
    """Return ``values`` without those that are not known."""
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _usage(outcome: events.CallGenerated | events.CallScored, written: int) -> dict[str, Value]:
    cost = outcome.cost
    cached: dict[str, Value] = (
        {"gen_ai.usage.cache_read.input_tokens": cost.cached_tokens} if cost.cached_tokens else {}
    )
    return {"gen_ai.usage.input_tokens": cost.prompt_tokens, "gen_ai.usage.output_tokens": written, **cached}
