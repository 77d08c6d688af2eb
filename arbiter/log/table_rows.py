"""The rows of the tables of a run (``Run.table``)."""

from collections.abc import Iterator
from typing import Any

import msgspec

from arbiter.log.history import ProblemHistory
from arbiter.log.timing import seconds_waited, step_times
from arbiter.protocols.events import Event, Graded
from arbiter.protocols.records import StepRecord

Row = dict[str, Any]
"""The values of a row by the names of the columns. All rows of a table have the same columns in the same order."""


def event_row(event: Event) -> Row:
    """Return the row of an event. Its payload is JSON."""
    fields: Row = msgspec.structs.asdict(event)
    return {**fields, "payload": msgspec.json.encode(event.payload).decode(), "kind": event.kind}


def problem_row(problem: ProblemHistory, grade: Graded | None) -> Row:
    """Return the row of a problem, or of one of its samples."""
    steps = problem.steps()
    return {
        "problem": problem.key[0],
        "sample": problem.key[1],
        "question": problem.task.question,
        "finish_reason": problem.end and problem.end.finish_reason,
        "error": problem.end and problem.end.error,
        "right": grade and grade.right,
        "answer": grade and grade.answer,
        "steps": len(steps),
        "accepted": sum(step.kept.author == "draft" for step in steps),
        "escalated": sum(step.verdict == "escalate" for step in steps),
        "tokens": sum(step.kept.usage.completion_tokens for step in steps),
        "target_calls": sum(call.model == "target" for call in problem.calls.values()),
        "started": problem.start.mono,
        "seconds": problem.end and problem.end.seconds,
    }


def step_rows(problem: ProblemHistory) -> Iterator[Row]:
    """Yield the row of each kept step of a problem, in order."""
    for step, record in enumerate(problem.steps()):
        yield _step_row(problem, step, record)


def record_row(record: StepRecord) -> Row:
    """Return what a row of a step has of its record, without its times."""
    draft, target = record.draft, next(iter(record.targets), None)
    return {
        "author": record.kept.author,
        "target": record.kept.target,
        "verdict": record.verdict,
        "text": record.kept.text,
        "stop_reason": record.kept.stop_reason,
        "tokens": record.kept.usage.completion_tokens,
        "draft_text": draft and draft.text,
        "draft_score": draft and draft.score,
        "draft_confidence": draft and draft.confidence,
        "glimpse_confidence": record.glimpse and record.glimpse.confidence,
        "target_text": target and target.text,
        "target_score": target and target.score,
        "audit_draft": record.audit and record.audit.draft,
        "audit_target": record.audit and record.audit.target,
    }


def _step_row(problem: ProblemHistory, step: int, record: StepRecord) -> Row:
    times = step_times(problem, step)
    return {
        "problem": problem.key[0],
        "sample": problem.key[1],
        "step": step,
        **record_row(record),
        "seconds": times and times.total,
        "queue_seconds": times and times.queue,
        "draft_seconds": times and times.draft,
        "score_seconds": times and times.score,
        "target_seconds": times and times.target,
    }


def call_rows(problem: ProblemHistory) -> Iterator[Row]:
    """Yield the row of each request for a problem, in the order of the log."""
    for call in problem.calls.values():
        outcome, started = call.outcome, call.started
        usage = getattr(outcome, "usage", None)
        yield {
            "problem": problem.key[0],
            "sample": problem.key[1],
            "step": (started or call.ended or problem.start).step,
            "id": call.id,
            "model": call.model,
            "target": problem.target_of(call),
            "started": started and started.mono,
            "waited": seconds_waited(problem, call),
            "seconds": outcome and outcome.seconds,
            "outcome": call.ended and call.ended.kind,
            "retries": len(call.retries),
            "prompt_tokens": usage and usage.prompt_tokens,
            "completion_tokens": usage and usage.completion_tokens,
            "cached_tokens": usage and usage.cached_tokens,
            "value": getattr(outcome, "value", None),
            "error": getattr(outcome, "error", None),
        }
