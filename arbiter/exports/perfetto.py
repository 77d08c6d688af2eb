"""Export a run as a trace for the Perfetto UI (the extra ``trace``; imported only to write a trace).

::

    arbiter RUN            parent of all other tracks
      problems in flight   counter
      requests of MODEL    counters
      ring                 one slice per problem; the messages that the ring sends
      assembler, …         the messages that the actor sends, as instants
        ACTOR's requests   one slice per request, in lanes

The lanes of an actor are sibling tracks of the same name, which the UI merges into one track with several rows.
Overlapping requests never share a lane. Arrows lead from a message to the requests that it caused, and from these to
the message that the actor sent next. The packets of a problem are written when it has ended; the UI sorts them by time.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import DebugAnnotation, TrackEvent

from arbiter.exports.called_names import called_names
from arbiter.exports.files import replacing
from arbiter.exports.spans import CallSpan, ProblemSpan, Spans
from arbiter.exports.tracks import Tracks, ns, number
from arbiter.log.history import Key
from arbiter.log.run import Run
from arbiter.protocols import events
from arbiter.protocols.events import Event, Graded

Fact = str | int | float | bool | None


def write_trace(run: Run, path: Path) -> None:
    """Write the trace of ``run`` to ``path``.

    Raises ``RunError`` if the log is damaged, ``ReportError`` if the file cannot be written.
    """
    grades = run.grades()
    with replacing(path) as file:
        trace, spans = Tracks(file), Spans()
        for event in run.timeline():
            if event.seq == 0:
                trace.open(event, str(run.started.identity.get("run_type", "")))
            for problem in spans.add(event):
                _write_problem(trace, problem, grades, spans.now)
            trace.count(event, "problems in flight", spans.problems)
            for model, requests in spans.requests.items():
                trace.count(event, f"requests of {model}", requests)
        for problem in spans.rest():
            _write_problem(trace, problem, grades, spans.now)


def _write_problem(trace: Tracks, problem: ProblemSpan, grades: Mapping[Key, Graded], now: float) -> None:
    grade = grades.get(problem.key)
    ended = now if problem.ended is None else problem.ended.mono
    trace.slice(trace.lane("ring", problem.lane), problem.start.mono, ended, _problem_event(problem, grade))
    arrows = _Arrows(problem)
    marks = [(ns(call.begin), call.first.seq, call) for call in problem.calls]
    marks += [(ns(message.mono), message.seq, message) for message in problem.messages]
    for _, _, mark in sorted(marks, key=lambda mark: mark[:2]):
        if isinstance(mark, CallSpan):
            event = _call_event(problem, mark)
            arrows.onto(event, mark.attempt)
            trace.slice(trace.lane(mark.actor, mark.lane), mark.begin, now if mark.end is None else mark.end, event)
        else:
            event = _message_event(mark)
            arrows.onto(event, mark.id)
            trace.instant(trace.actor(mark.actor), mark.mono, event)


class _Arrows:
    """The arrows from cause to effect in a problem. An arrow's id is computed from the ids at its two ends."""

    def __init__(self, problem: ProblemSpan) -> None:
        self._out: dict[str, list[int]] = {}
        self._in: dict[str, list[int]] = {}
        begun = {message.id: message.mono for message in problem.messages}
        begun |= {call.attempt: call.begin for call in problem.calls}
        for source, target in _causes(problem):
            if source in begun and begun[source] <= begun[target]:
                arrow = number(f"{source}\n{target}")
                self._out.setdefault(source, []).append(arrow)
                self._in.setdefault(target, []).append(arrow)

    def onto(self, event: TrackEvent, name: str) -> None:
        """Attach the arrows of the message or request ``name`` to ``event``, which shows it."""
        event.flow_ids.extend(self._out.get(name, ()))
        event.terminating_flow_ids.extend(self._in.get(name, ()))


def _causes(problem: ProblemSpan) -> Iterator[tuple[str, str]]:
    """Yield pairs of cause and effect: a message and its requests, an actor's answered requests and its message."""
    answered: dict[tuple[str, str], list[str]] = {}
    for call in problem.calls:
        if call.outcome is not None:
            answered.setdefault((call.cause, call.actor), []).append(call.attempt)
    yield from ((call.cause, call.attempt) for call in problem.calls)
    for message in problem.messages:
        cause = message.cause or ""
        for source in answered.get((cause, message.actor), [cause]):
            yield source, message.id


def _problem_event(problem: ProblemSpan, grade: Graded | None) -> TrackEvent:
    end, (name, sample) = problem.end, problem.key
    finish = "unfinished" if end is None else end.finish_reason
    label = f"{name} #{sample}" if sample else name
    event = TrackEvent(name=f"{finish.upper()} {label}" if finish in _BAD else label, categories=["problem", finish])
    _annotate(
        event,
        {
            "problem": name,
            "sample": sample,
            "finish_reason": finish,
            "right": grade and grade.right,
            "steps": end and end.steps,
            "error": end and end.error,
        },
    )
    return event


_BAD = ("failed", "deadline", "unfinished")
_OUTCOMES = {"call_failed": "failed", "call_cancelled": "cancelled", None: "unfinished"}


def _call_event(problem: ProblemSpan, call: CallSpan) -> TrackEvent:
    outcome, name = call.outcome, problem.key[0]
    kind = None if outcome is None else str(outcome.__struct_config__.tag)
    wrong = _OUTCOMES.get(kind)
    step = (call.first.step or 0) + 1
    label = f"{call.model} {name} step {step}"
    event = TrackEvent(
        name=f"{wrong.upper()} {label}" if wrong else label, categories=["request", call.model, wrong or "answered"]
    )
    usage = outcome.usage if isinstance(outcome, events.CallGenerated | events.CallScored) else None
    cause = next((message for message in problem.messages if message.id == call.cause), None)
    _annotate(
        event,
        {
            "problem": name,
            "sample": problem.key[1],
            "step": step,
            "model": call.model,
            "ended": wrong or "answered",
            "stop_reason": getattr(outcome, "stop_reason", None),
            "score": getattr(outcome, "value", None),
            "calls": ", ".join(called_names(outcome)) or None,
            "valid": getattr(outcome, "valid", None),
            "prompt_tokens": usage and usage.prompt_tokens,
            "completion_tokens": usage and usage.completion_tokens,
            "waited_seconds": cause and max(0.0, round(call.begin - cause.mono, 6)),
            "retries": len(call.retries),
            "retried_for": "; ".join(str(getattr(retry.payload, "error", "")) for retry in call.retries) or None,
            "error": getattr(outcome, "error", None),
            "id": call.id,
        },
    )
    return event


_SHOWN = ("verdict", "author", "rejects", "max_tokens", "failed_kind", "error")
"""The payload fields shown for messages. A trace has the times and decisions of a run, but no text of questions."""


def _message_event(message: Event) -> TrackEvent:
    event = TrackEvent(name=message.kind, categories=["message"])
    facts = {name: getattr(message.payload, name, None) for name in _SHOWN}
    step = None if message.step is None else message.step + 1
    _annotate(event, {**facts, "problem": message.problem, "step": step, "to": message.to, "id": message.id})
    return event


def _annotate(event: TrackEvent, facts: Mapping[str, Fact]) -> None:
    """Add ``facts`` to ``event``, for the UI's details of the event. Those that are None are left out."""
    for name, value in facts.items():
        match value:
            case None:
                continue
            case bool():
                event.debug_annotations.append(DebugAnnotation(name=name, bool_value=value))
            case int():
                event.debug_annotations.append(DebugAnnotation(name=name, int_value=value))
            case float():
                event.debug_annotations.append(DebugAnnotation(name=name, double_value=value))
            case _:
                event.debug_annotations.append(DebugAnnotation(name=name, string_value=value))
