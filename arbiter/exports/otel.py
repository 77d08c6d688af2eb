"""Export a run as OpenTelemetry spans (the extra ``otel``; imported only to make spans).

Each problem is a trace: a root span, one span per step, and one span per request, with the recorded times. Problems and
requests follow the GenAI semantic conventions, version 0.1.0; other attributes start with ``arbiter.``. Unless the
caller wants texts, spans have no text of questions, steps or answers, and the text of an error only where something
failed. Of tools and calls they then have the names.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context

from arbiter.exports.genai_attributes import (
    Value,
    add_outcome_events,
    fail,
    known_values,
    request_attributes,
    response_attributes,
    span_name,
    text_attributes,
)
from arbiter.exports.genai_messages import input_messages, output_message
from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.log.run import Run
from arbiter.log.time_order import time_of
from arbiter.protocols import events
from arbiter.protocols.error_kinds import error_kind
from arbiter.protocols.errors import ReportError
from arbiter.protocols.events import Event, Graded
from arbiter.protocols.records import StepRecord

_FINISH_REASONS = {"answered": "stop", "stop": "stop", "tool_calls": "tool_call", "failed": "error"}
"""The finish reasons of the conventions by that of a problem; each other one is a limit."""


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


def export_spans(run: Run, tracer_provider: TracerProvider, *, texts: bool = False) -> int:
    """Make the spans of ``run`` with ``tracer_provider``, which exports them, and return their number.

    A request that was made again after an interruption has one span. With ``texts``, spans have the questions, steps
    and answers. The caller must flush and shut down the provider.

    Raises ``RunError`` if the log is damaged, ``ReportError`` if it lacks the texts that are wanted.
    """
    if texts and run.started.record != "full":
        raise ReportError(
            f'{run.path} has no texts, because it was recorded with log.record = "{run.started.record}": its spans '
            "cannot have them either (leave --otlp-texts out)"
        )
    grades, name = run.grades(), next(run.events()).run
    spans = ProblemSpans(tracer_provider, name, run.started.identity, texts=texts)
    for problem in run.problems():
        spans.add(problem, grades.get(problem.key))
    return spans.made


class ProblemSpans:
    """Make the spans of problems of the run with the id ``run``, with the times of their events.

    ``identity`` has the models of the run (``arbiter.log.identity``). ``made`` counts the spans.
    """

    def __init__(self, provider: TracerProvider, run: str, identity: Mapping[str, Any], *, texts: bool = False) -> None:
        self.made = 0
        self._identity = identity
        self._texts = texts
        self._tracer: Tracer = provider.get_tracer("arbiter")
        self._ids = provider.id_generator if isinstance(provider.id_generator, NamedIds) else NamedIds()
        self._run = run

    def add(self, problem: ProblemHistory, grade: Graded | None = None) -> None:
        """Make the spans of a problem. Raises ``RunError`` if its log is damaged."""
        end, kept = problem.end, problem.steps()
        last = problem.ended or max(_events(problem), key=time_of)
        about = {**self._about(problem, grade), **(_answer_texts(problem, kept) if self._texts else {})}
        root = self._begin(f"solve {problem.key[0]}", _name(problem), problem.start.wall, None, about)
        if end is not None and end.finish_reason == "failed":
            fail(root, end.error or "failed", error_kind(end.error or ""))
        elif end is not None and end.finish_reason == "deadline":
            fail(root, "the problem exceeded its deadline", "timeout")
        for number in sorted({event.step for event in _events(problem) if event.step is not None}):
            self._step(problem, number, kept, root, last.wall)
        root.end(_ns(max(last.wall, problem.start.wall)))

    def _about(self, problem: ProblemHistory, grade: Graded | None) -> dict[str, Value]:
        end = problem.end
        return known_values(
            {
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.agent.name": "arbiter",
                "arbiter.run.id": self._run,
                "arbiter.run.type": problem.task.policy.get("type"),
                "arbiter.problem.id": problem.key[0],
                "arbiter.problem.sample": problem.key[1],
                "arbiter.problem.finish_reason": end and end.finish_reason,
                "arbiter.problem.steps": end and end.steps,
                "arbiter.problem.right": grade and grade.right,
            }
        )

    def _step(self, problem: ProblemHistory, number: int, kept: list[StepRecord], root: Span, latest: float) -> None:
        times = [event.wall for event in _events(problem) if event.step == number]
        calls = [call for call in problem.calls.values() if _first(call).step == number]
        begin = min([*times, *map(_begun, calls)])
        record = kept[number] if number < len(kept) else None
        about = known_values(
            {
                "arbiter.step": number + 1,
                "arbiter.step.author": record and record.kept.author,
                "arbiter.step.target": record and record.kept.target,
                "arbiter.step.verdict": record and record.verdict,
            }
        )
        step = self._begin(f"step {number + 1}", f"{_name(problem)}/{number}", begin, root, about)
        ends = [self._call(problem, call, kept, step, latest) for call in calls]
        step.end(_ns(max([*times, *ends])))

    def _call(
        self, problem: ProblemHistory, call: CallHistory, kept: list[StepRecord], step: Span, latest: float
    ) -> float:
        """Make the span of a request and return its end. A request without an outcome ends with its problem."""
        first = _first(call)
        texts = text_attributes(problem, call, kept, first.step or 0) if self._texts else {}
        about = request_attributes(problem, call, self._identity, first.actor) | response_attributes(call) | texts
        span = self._begin(span_name(call, about), call.id, _begun(call), step, about, SpanKind.CLIENT)
        for retry in call.retries:
            if isinstance(retry.payload, events.CallRetried):
                facts = {"arbiter.retry.attempt": retry.payload.attempt, "arbiter.retry.pause": retry.payload.pause}
                error = {"error.type": error_kind(retry.payload.error), "exception.message": retry.payload.error}
                span.add_event("retry", {**facts, **error}, _ns(retry.wall))
        end = max(_begun(call), latest if call.ended is None else call.ended.wall)
        add_outcome_events(span, call, _ns(end))
        span.end(_ns(end))
        return end

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


def _answer_texts(problem: ProblemHistory, kept: list[StepRecord]) -> dict[str, Value]:
    """Return the question and the answer; of an unfinished problem, the steps kept so far."""
    solution = problem.solution()
    texts = [record.kept.content for record in kept]
    text = problem.task.separator.join(texts) if solution is None else solution.text
    calls = [call for record in kept for call in record.kept.calls]
    reason = "error" if solution is None else _FINISH_REASONS.get(solution.finish_reason, "length")
    return {
        "gen_ai.input.messages": input_messages(problem.task.transcript()),
        "gen_ai.output.messages": output_message(text, calls, reason),
    }


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


def _name(problem: ProblemHistory) -> str:
    return f"{problem.key[0]}#{problem.key[1]}"


def _number(name: str, size: int) -> int:
    """Return an id of ``size`` bytes computed from ``name``; never 0, which means no id."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=size).digest()) or 1


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
