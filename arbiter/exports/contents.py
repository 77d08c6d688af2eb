"""The data that the page shows of a run, as values for JSON. A key whose value is unknown is left out."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from arbiter.config.run_tables import RunType
from arbiter.exports.spans import CallSpan, ProblemSpan, Spans
from arbiter.grading import Grade
from arbiter.grading.answers import Reference
from arbiter.log.explain import turn_lines
from arbiter.log.history import Key, ProblemHistory, histories
from arbiter.log.run import Run, grades_in
from arbiter.log.timing import step_times
from arbiter.protocols import events
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Event, Graded
from arbiter.protocols.records import Candidate, StepRecord
from arbiter.runs.results import Result, Summary, summarise

Json = dict[str, Any]


def contents(run: Run, names: Collection[str] = ()) -> Json:
    """Return the run, its figures, and its problems ordered by start.

    With ``names``, these are the figures of the problems with these ids, and only their part of the log is read. Raises
    ``RunError`` if the log is damaged or has no problem with one of the ids.
    """
    chosen = [*run.events_of(*names)] if names else None

    def log() -> Iterator[Event]:
        return run.events() if chosen is None else iter(chosen)

    missing = [] if chosen is None else sorted({*names} - {event.problem for event in chosen})
    if missing:
        raise RunError(f"{run.path} has no problem {missing[0]!r}; arbiter show lists the problems of a run")
    grades, calls = grades_in(log()), _calls(log())
    problems: dict[Key, Json] = {}
    results: list[Result] = []
    for history in histories(log()):  # a problem that was started again is there as it was solved last
        problems[history.key] = _problem(history, grades.get(history.key), calls.get(history.key, []))
        solution = history.solution()
        if solution is not None:
            grade = grades.get(history.key) or Graded(right=None)
            results.append(Result(solution, Grade.recorded(grade), grader=grade.grader, grader_name=grade.grader_name))
    first, last = _ends(log())
    return {
        "run": _run(run, first, last),
        "figures": _figures(summary(run, results, last - first.mono), len(problems)),
        "problems": sorted(problems.values(), key=lambda problem: problem["begin"]),
    }


def summary(run: Run, results: list[Result], seconds: float) -> Summary:
    """Return the figures of ``results``, computed as the run itself did; ``seconds`` is the run's duration."""
    identity = run.started.identity
    run_type = cast("RunType", identity.get("run_type", "router"))
    threshold = identity.get(f"thresholds.{run_type}")
    return summarise(results, run_type, threshold, seconds, samples=identity.get("sampling.samples", 1))


def _ends(log: Iterator[Event]) -> tuple[Event, float]:
    """Return the first event, and the last time on the run's clock."""
    first = next(log)
    return first, max((event.mono for event in log), default=first.mono)


def _run(run: Run, first: Event, last: float) -> Json:
    identity = run.started.identity
    models = {
        name: identity[f"models.{name}.model"]
        for name in ("draft", "target", "prm", "router", "judge")
        if f"models.{name}.model" in identity
    }
    return {
        "id": first.run,
        "name": _name(run.path),
        "begun": first.wall,
        "seconds": round(last, 6),
        "record": run.started.record,
        "models": models,
        "versions": run.started.versions,
        "identity": identity,
    }


def _name(log: Path) -> str:
    """Return the name of the run's folder, or that of the log file if it is not named ``events.jsonl``."""
    path = log.absolute()
    return path.parent.name if path.name.startswith("events.jsonl") else path.name


def _figures(figures: Summary, problems: int) -> Json:
    return _known(
        type=figures.run_type,
        threshold=figures.threshold,
        problems=problems,
        ended=figures.decoded,
        failed=figures.failed,
        accuracy=figures.accuracy,
        interval=figures.accuracy_interval,
        acceptance=figures.acceptance_rate,
        mean=figures.latency.mean,
        tokens={model: tokens.kept + tokens.discarded for model, tokens in figures.tokens.items()},
        requests={model: calls.requests for model, calls in figures.requests.items()},
    )


def _problem(history: ProblemHistory, grade: Graded | None, calls: list[Json]) -> Json:
    end, records = history.end, history.steps()
    return _known(
        id=history.key[0],
        sample=history.key[1] or None,
        tools=[tool.name for tool in history.task.rules.tools] if history.task.rules else None,
        turns=turn_lines(history.task.turns) or None,
        question=history.task.question,
        after=turn_lines(history.task.after) or None,
        given=[{"author": step.author, "text": step.text} for step in history.task.steps] or None,
        begin=history.start.mono,
        end=history.ended and history.ended.mono,
        seconds=end and end.seconds,
        finish_reason=end and end.finish_reason,
        error=end and end.error,
        right=grade and grade.right,
        answer=grade and grade.answer,
        reason=grade and grade.reason,
        reference=reference_text(grade),
        steps=[_step(history, number, record) for number, record in enumerate(records)],
        calls=calls,
    )


def reference_text(grade: Graded | None) -> str | None:
    """Return the right answer that a grade was given for, as text; None if it is not known."""
    match None if grade is None else grade.reference:
        case dict() as reference:
            return str(msgspec.convert(reference, Reference))
        case reference:
            return reference


def _step(history: ProblemHistory, number: int, record: StepRecord) -> Json:
    times = step_times(history, number)
    kept = [
        message.mono
        for message in history.messages.values()
        if message.step == number and message.to == "assembler" and isinstance(message.payload, events.StepKeptEvent)
    ]
    return {
        **_candidate(record.kept),
        **_known(
            verdict=record.verdict,
            others=[_candidate(one) for one in record.candidates if one is not record.kept] or None,
            audit=record.audit and [record.audit.draft, record.audit.target],
            glimpse=record.glimpse and record.glimpse.confidence,
            end=min(kept, default=None),
            times=times and {name: round(getattr(times, name), 6) for name in times.__struct_fields__},
        ),
    }


def _candidate(candidate: Candidate) -> Json:
    return _known(
        author=candidate.author,
        text=candidate.text,
        stop_reason=candidate.stop_reason,
        tokens=candidate.usage.completion_tokens,
        score=candidate.score,
        calls=[{"name": call.name, "arguments": call.arguments} for call in candidate.calls] or None,
        valid=candidate.valid,
        violation=candidate.violation,
    )


def _calls(log: Iterator[Event]) -> dict[Key, list[Json]]:
    """Return the requests of each problem; for a problem that was started again, those of its last start."""
    spans, found = Spans(), dict[Key, list[Json]]()
    for event in log:
        for problem in spans.add(event):
            found[problem.key] = [_call(problem, call) for call in problem.calls]
    for problem in spans.rest():
        found[problem.key] = [_call(problem, call) for call in problem.calls]
    return found


_ENDED = {"call_failed": "failed", "call_cancelled": "cancelled"}


def _call(problem: ProblemSpan, call: CallSpan) -> Json:
    outcome = call.outcome
    kind = "unfinished" if outcome is None else str(outcome.__struct_config__.tag)
    usage = outcome.usage if isinstance(outcome, events.CallGenerated | events.CallScored) else None
    sent = next((message.mono for message in problem.messages if message.id == call.cause), None)
    return _known(
        actor=call.actor,
        model=call.model,
        step=call.first.step,
        begin=call.begin,
        end=call.end,
        ended=_ENDED.get(kind, kind),
        waited=None if sent is None else max(0.0, round(call.begin - sent, 6)),
        score=getattr(outcome, "value", None),
        read=usage and usage.prompt_tokens,
        written=usage and usage.completion_tokens,
        retries=[str(getattr(retry.payload, "error", "")) for retry in call.retries] or None,
        error=getattr(outcome, "error", None),
    )


def _known(**values: object) -> Json:
    return {name: value for name, value in values.items() if value is not None}
