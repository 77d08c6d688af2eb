"""A run as OpenTelemetry spans (the extra ``otel``; imported only when they are made).

A trace a problem: its root span, a span a step, a span a request, with the times that they took then. Requests follow
the GenAI semantic conventions; what these do not name is below ``arbiter.``. No text of questions, steps or
answers is in a span, and an error's text only where something failed.
"""

import hashlib
from collections.abc import Iterator, Mapping

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from arbiter.log.history import CallHistory, Key, ProblemHistory
from arbiter.log.run import Run
from arbiter.protocols import events
from arbiter.protocols.events import Event, Graded
from arbiter.protocols.records import Model, StepRecord

Value = str | bool | int | float | list[str]

FINISH_REASONS = {"separator": "stop", "end": "stop", "limit": "length"}
"""What the convention calls the endings of a generation; ``arbiter.stop_reason`` tells a separator from an end."""

_GENERATE, _SCORE = "text_completion", "score"


class NamedIds(IdGenerator):
    """Ids that are computed from names: a run that is exported again has the same, so that nothing is there twice.

    To be given to the ``TracerProvider``; with another generator the ids are that one's.
    """

    def __init__(self) -> None:
        self.trace = self.span = ""

    def generate_trace_id(self) -> int:
        return _number(self.trace, 16)

    def generate_span_id(self) -> int:
        return _number(self.span, 8)


def export_spans(run: Run, tracer_provider: TracerProvider) -> int:
    """Make the spans of ``run`` with ``tracer_provider``, which exports them; how many there were.

    A request that was made again after an interruption is there once. Flushing and shutting down the provider is the
    caller's. Raises ``RunError`` if the log is damaged.
    """
    spans = _Spans(run, tracer_provider)
    grades = run.grades()
    for problem in run.problems():
        spans.problem(problem, grades)
    return spans.made


class _Spans:
    """Makes spans whose times are those of the log."""

    def __init__(self, run: Run, provider: TracerProvider) -> None:
        self.made = 0
        self._identity = run.started.identity
        self._tracer: Tracer = provider.get_tracer("arbiter")
        self._ids = provider.id_generator if isinstance(provider.id_generator, NamedIds) else NamedIds()
        self._run = next(run.events()).run

    def problem(self, problem: ProblemHistory, grades: Mapping[Key, Graded]) -> None:
        """The spans of a problem."""
        end, grade = problem.end, grades.get(problem.key)
        last = problem.ended or max(_events(problem), key=lambda event: event.seq)
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
            _fail(root, "the problem's time was up", "timeout")
        kept = dict(enumerate(problem.steps()))
        for number in sorted({event.step for event in _events(problem) if event.step is not None}):
            self._step(problem, number, kept.get(number), root, last.wall)
        root.end(_ns(max(last.wall, problem.start.wall)))

    def _step(self, problem: ProblemHistory, number: int, record: StepRecord | None, root: Span, latest: float) -> None:
        told = [event.wall for event in _events(problem) if event.step == number]
        calls = [call for call in problem.calls.values() if _first(call).step == number]
        begin = min([*told, *map(_begun, calls)])
        about = _known(
            {
                "arbiter.step": number + 1,
                "arbiter.step.author": record and record.kept.author,
                "arbiter.step.verdict": record and record.verdict,
            }
        )
        step = self._begin(f"step {number + 1}", f"{_name(problem)}/{number}", begin, root, about)
        ends = [self._call(problem, call, step, latest) for call in calls]
        step.end(_ns(max([*told, *ends])))

    def _call(self, problem: ProblemHistory, call: CallHistory, step: Span, latest: float) -> float:
        """A request's span; when it ended. One that has no end in the log ended with its problem."""
        outcome, model = call.outcome, self._model(call.model)
        operation = _GENERATE if call.model in ("draft", "target") else _SCORE
        about = {**self._request(problem, call, operation), **_response(outcome)}
        name = f"{operation} {model}" if model else operation
        span = self._begin(name, call.id, _begun(call), step, about, SpanKind.CLIENT)
        for retry in call.retries:
            if isinstance(retry.payload, events.CallRetried):
                told = {"arbiter.retry.attempt": retry.payload.attempt, "arbiter.retry.pause": retry.payload.pause}
                error = {"error.type": _kind(retry.payload.error), "exception.message": retry.payload.error}
                span.add_event("retry", {**told, **error}, _ns(retry.wall))
        match outcome:
            case events.CallFailed(error=error):
                _fail(span, error, _kind(error))
            case events.CallCancelled() | None:  # not an error: nobody needed the answer any more
                span.set_attribute("arbiter.cancelled", True)
            case _:
                pass
        end = max(_begun(call), latest if call.ended is None else call.ended.wall)
        span.end(_ns(end))
        return end

    def _request(self, problem: ProblemHistory, call: CallHistory, operation: str) -> dict[str, Value]:
        asked = problem.message_of(call)
        sampling = problem.task.sampling
        generates = operation == _GENERATE
        return _known(
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": self._identity.get(f"models.{_table(call.model)}.backend"),
                "gen_ai.request.model": self._model(call.model),
                "gen_ai.request.max_tokens": getattr(asked and asked.payload, "max_tokens", None),
                "gen_ai.request.temperature": sampling.temperature if generates else None,
                "gen_ai.request.top_p": sampling.top_p if generates else None,
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
                "gen_ai.response.finish_reasons": [FINISH_REASONS[outcome.stop_reason]],
                "arbiter.stop_reason": outcome.stop_reason,
            }
        case events.CallScored():
            return {**_usage(outcome), "gen_ai.evaluation.score.value": outcome.value}
        case _:
            return {}


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
    """The kind of an error as the log tells it: ``[actor, step n: ]Kind: text``."""
    head = error.partition(", caused by ")[0].split(": ")
    return next((part for part in head if part.isidentifier() and part[:1].isupper()), "_OTHER")


def _events(problem: ProblemHistory) -> Iterator[Event]:
    yield from problem.messages.values()
    for call in problem.calls.values():
        yield from (event for event in (call.asked, *call.retries, call.ended) if event is not None)


def _first(call: CallHistory) -> Event:
    first = call.asked or call.ended or next(iter(call.retries), None)
    assert first is not None  # noqa: S101 - a call is made of its first event
    return first


def _begun(call: CallHistory) -> float:
    """When it was asked, as far as the log tells; one that keeps decisions only tells how long the answer took."""
    if call.asked is None and call.outcome is not None:
        return _first(call).wall - call.outcome.seconds
    return _first(call).wall


def _table(role: Model) -> str:
    """The table of the configuration that a request's model is from."""
    return "prm" if role == "audit" else role


def _name(problem: ProblemHistory) -> str:
    return f"{problem.key[0]}#{problem.key[1]}"


def _known(values: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _number(name: str, size: int) -> int:
    """A number of ``size`` bytes that names something; never 0, which means none."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=size).digest()) or 1


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
