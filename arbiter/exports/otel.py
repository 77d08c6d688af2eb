"""Export a run as OpenTelemetry spans (the extra ``otel``; imported only to make spans).

Each problem is a trace: a root span, one span per step, and one span per request, with the recorded times. Requests
follow the GenAI semantic conventions; other attributes start with ``arbiter.``. Spans contain no text of questions,
steps or answers, and the text of an error only where something failed. Of tools and their calls they have the names and
the ids.
"""

import hashlib
from collections.abc import Iterator, Mapping

import msgspec
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from arbiter.exports.called_names import called_names
from arbiter.log.history import CallHistory, Key, ProblemHistory
from arbiter.log.run import Run
from arbiter.log.time_order import time_of
from arbiter.protocols import events
from arbiter.protocols.events import Event, Graded
from arbiter.protocols.records import Model, StepRecord
from arbiter.protocols.tools import AnswerRules

Value = str | bool | int | float | list[str]

FINISH_REASONS = {"separator": "stop", "end": "stop", "limit": "length"}
"""The convention's finish reasons by stop reason. ``arbiter.stop_reason`` distinguishes a separator from an end."""

_CALLED = "tool_call"
"""The convention's finish reason of an answer that calls tools."""

_GENERATE, _SCORE = "text_completion", "score"


class NamedIds(IdGenerator):
    """Compute ids from names, so that a second export of a run has the same ids and makes no duplicates.

    Pass it to the ``TracerProvider``. With another generator, the ids come from that generator.
    """

    def __init__(self) -> None:
        self.trace = self.span = ""

    def generate_trace_id(self) -> int:
        return _number(self.trace, 16)

    def generate_span_id(self) -> int:
        return _number(self.span, 8)


def export_spans(run: Run, tracer_provider: TracerProvider) -> int:
    """Make the spans of ``run`` with ``tracer_provider``, which exports them, and return their number.

    A request that was made again after an interruption has one span. The caller must flush and shut down the provider.
    Raises ``RunError`` if the log is damaged.
    """
    spans = _Spans(run, tracer_provider)
    grades = run.grades()
    for problem in run.problems():
        spans.problem(problem, grades)
    return spans.made


class _Spans:
    """Make spans with the times of the log."""

    def __init__(self, run: Run, provider: TracerProvider) -> None:
        self.made = 0
        self._identity = run.started.identity
        self._tracer: Tracer = provider.get_tracer("arbiter")
        self._ids = provider.id_generator if isinstance(provider.id_generator, NamedIds) else NamedIds()
        self._run = next(run.events()).run

    def problem(self, problem: ProblemHistory, grades: Mapping[Key, Graded]) -> None:
        """Make the spans of a problem."""
        end, grade = problem.end, grades.get(problem.key)
        last = problem.ended or max(_events(problem), key=time_of)
        about = _known(
            {
                "arbiter.run.id": self._run,
                "arbiter.run.type": self._identity.get("run_type"),
                "arbiter.problem.id": problem.key[0],
                "arbiter.problem.sample": problem.key[1],
                "arbiter.problem.finish_reason": end and end.finish_reason,
                "arbiter.problem.steps": end and end.steps,
                "arbiter.problem.right": grade and grade.right,
            }
        )
        root = self._begin(f"solve {problem.key[0]}", _name(problem), problem.start.wall, None, about)
        if end is not None and end.finish_reason == "failed":
            _fail(root, end.error or "failed", _kind(end.error or ""))
        elif end is not None and end.finish_reason == "deadline":
            _fail(root, "the problem exceeded its deadline", "timeout")
        kept = dict(enumerate(problem.steps()))
        for number in sorted({event.step for event in _events(problem) if event.step is not None}):
            self._step(problem, number, kept.get(number), root, last.wall)
        root.end(_ns(max(last.wall, problem.start.wall)))

    def _step(self, problem: ProblemHistory, number: int, record: StepRecord | None, root: Span, latest: float) -> None:
        times = [event.wall for event in _events(problem) if event.step == number]
        calls = [call for call in problem.calls.values() if _first(call).step == number]
        begin = min([*times, *map(_begun, calls)])
        about = _known(
            {
                "arbiter.step": number + 1,
                "arbiter.step.author": record and record.kept.author,
                "arbiter.step.verdict": record and record.verdict,
            }
        )
        step = self._begin(f"step {number + 1}", f"{_name(problem)}/{number}", begin, root, about)
        ends = [self._call(problem, call, step, latest) for call in calls]
        step.end(_ns(max([*times, *ends])))

    def _call(self, problem: ProblemHistory, call: CallHistory, step: Span, latest: float) -> float:
        """Make the span of a request and return its end. A request without an outcome ends with its problem."""
        outcome, model = call.outcome, self._model(call.model)
        operation = _GENERATE if call.model in ("draft", "target") else _SCORE
        about = {**self._request(problem, call, operation), **_response(outcome)}
        name = f"{operation} {model}" if model else operation
        span = self._begin(name, call.id, _begun(call), step, about, SpanKind.CLIENT)
        for retry in call.retries:
            if isinstance(retry.payload, events.CallRetried):
                facts = {"arbiter.retry.attempt": retry.payload.attempt, "arbiter.retry.pause": retry.payload.pause}
                error = {"error.type": _kind(retry.payload.error), "exception.message": retry.payload.error}
                span.add_event("retry", {**facts, **error}, _ns(retry.wall))
        match outcome:
            case events.CallFailed(error=error):
                _fail(span, error, _kind(error))
            case events.CallCancelled() | None:  # not an error: the answer was no longer needed
                span.set_attribute("arbiter.cancelled", True)
            case _:
                pass
        end = max(_begun(call), latest if call.ended is None else call.ended.wall)
        span.end(_ns(end))
        return end

    def _request(self, problem: ProblemHistory, call: CallHistory, operation: str) -> dict[str, Value]:
        cause = problem.message_of(call)
        sampling = problem.task.sampling
        generates = operation == _GENERATE
        return _known(
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": self._identity.get(f"models.{_table(call.model)}.backend"),
                "gen_ai.request.model": self._model(call.model),
                "gen_ai.request.max_tokens": getattr(cause and cause.payload, "max_tokens", None),
                "gen_ai.request.temperature": sampling.temperature if generates else None,
                "gen_ai.request.top_p": sampling.top_p if generates else None,
                "gen_ai.tool.definitions": _definitions(problem.task.rules) if generates else None,
                "arbiter.role": call.model,
                "arbiter.actor": _first(call).actor,
                "arbiter.call.id": call.id,
                "arbiter.retries": len(call.retries) or None,
            }
        )

    def _model(self, role: Model) -> str:
        return str(self._identity.get(f"models.{_table(role)}.model", ""))

    def _begin(
        self,
        shown: str,
        name: str,
        at: float,
        parent: Span | None,
        about: Mapping[str, Value],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        self._ids.span = f"{self._run}/{name}"
        if parent is None:
            self._ids.trace = self._ids.span
        context = Context() if parent is None else set_span_in_context(parent, Context())
        self.made += 1
        return self._tracer.start_span(shown, context, kind, about, start_time=_ns(at))


def _response(outcome: events.Outcome | None) -> dict[str, Value]:
    match outcome:
        case events.CallGenerated():
            return {
                **_usage(outcome),
                "gen_ai.usage.output_tokens": outcome.cost.completion_tokens,
                "gen_ai.response.finish_reasons": [_CALLED if outcome.calls else FINISH_REASONS[outcome.stop_reason]],
                **_known({"gen_ai.output.messages": _messages(outcome), "arbiter.valid": outcome.valid}),
                "arbiter.stop_reason": outcome.stop_reason,
            }
        case events.CallScored():
            return {**_usage(outcome), "gen_ai.evaluation.score.value": outcome.value}
        case _:
            return {}


def _definitions(rules: AnswerRules | None) -> str | None:
    """Return the offered tools as the conventions define them, without descriptions and schemas."""
    tools = [{"type": "function", "name": tool.name} for tool in rules.offered] if rules else []
    return msgspec.json.encode(tools).decode() if tools else None


def _messages(outcome: events.CallGenerated) -> str | None:
    """Return the calls of a step as the conventions define them, without arguments."""
    named = zip(outcome.calls, called_names(outcome), strict=True)
    parts = [{"type": "tool_call", "id": call.id, "name": name} for call, name in named]
    message = {"role": "assistant", "parts": parts, "finish_reason": _CALLED}
    return msgspec.json.encode([message]).decode() if parts else None


def _usage(outcome: events.CallGenerated | events.CallScored) -> dict[str, Value]:
    cost = outcome.cost
    cached: dict[str, Value] = (
        {"gen_ai.usage.cache_read.input_tokens": cost.cached_tokens} if cost.cached_tokens else {}
    )
    return {"gen_ai.usage.input_tokens": cost.prompt_tokens, **cached}


def _fail(span: Span, error: str, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, error))


def _kind(error: str) -> str:
    """Return the kind of an error text of the log, which has the form ``[actor, step n: ]Kind: text``."""
    head = error.partition(", caused by ")[0].split(": ")
    return next((part for part in head if part.isidentifier() and part[:1].isupper()), "_OTHER")


def _events(problem: ProblemHistory) -> Iterator[Event]:
    yield from problem.messages.values()
    for call in problem.calls.values():
        yield from (event for event in (call.started, *call.retries, call.ended) if event is not None)


def _first(call: CallHistory) -> Event:
    first = call.started or call.ended or next(iter(call.retries), None)
    assert first is not None  # noqa: S101 - a call has at least its first event
    return first


def _begun(call: CallHistory) -> float:
    """Return the start of a request. A log of decisions has only the end and the duration, so it is computed."""
    if call.started is None and call.outcome is not None:
        return _first(call).wall - call.outcome.seconds
    return _first(call).wall


def _table(role: Model) -> str:
    """Return the configuration table of a request's model."""
    return "prm" if role == "audit" else role


def _name(problem: ProblemHistory) -> str:
    return f"{problem.key[0]}#{problem.key[1]}"


def _known(values: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _number(name: str, size: int) -> int:
    """Return an id of ``size`` bytes computed from ``name``; never 0, which means no id."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=size).digest()) or 1


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
