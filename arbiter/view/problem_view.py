"""One problem of a run as the API shows it: its transcript, with what each step was chosen from, and its requests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from arbiter.exports.contents import reference_text
from arbiter.log.explain import Story, failures, result_of, stories
from arbiter.log.history import CallHistory, Key, ProblemHistory, histories
from arbiter.log.run import Run, grades_in
from arbiter.log.timing import seconds_waited
from arbiter.protocols.errors import RequestError
from arbiter.protocols.events import CallGenerated, CallRetried, CallScored, Graded
from arbiter.protocols.records import Candidate, StepRecord
from arbiter.view.row_index import RowIndex
from arbiter.view.word_diff import DiffPart, word_diff

Json = dict[str, Any]

_OUTCOMES = {"call_generated": "generated", "call_scored": "scored", "call_failed": "failed"}
_SHARED_TIMES = "the times are those of the sweep, where answers shared with other points took no time"
_NO_TEXTS = "the log has no texts (log.record = {record!r})"


def problem_view(log: Path, rows: RowIndex, row: int) -> Json:
    """Return the problem of a row. Raises ``RequestError`` if there is none, ``RunError`` if the log is damaged."""
    key = rows.key_of(row)
    if key is None:
        raise RequestError(f"there is no row {row} in this run", status=404, code="no_problem")
    run = Run.open(log)
    history, graded = problem_of(run, key)
    before, after = rows.neighbours(row)
    return {
        "row": row,
        "id": key[0],
        "sample": key[1],
        "previous": before,
        "next": after,
        "samples": rows.samples(key[0]),
        **_answers(history, graded),
        "begin": history.start.mono,
        "end": history.ended and history.ended.mono,
        "seconds": history.end and history.end.seconds,
        "policy": history.task.policy,
        "steps": _steps(history),
        "calls": [_call(history, call) for call in history.calls.values()],
        "failures": failures(history),
        "notes": _notes(run),
    }


def problem_of(run: Run, key: Key) -> tuple[ProblemHistory, Graded | None]:
    """Return a sample of a problem and its grade. Raises ``RequestError`` if the log no longer has it."""
    events = list(run.events_of(key[0]))
    found = [history for history in histories(events) if history.key == key]
    if not found:
        message = f"{run.path} no longer has the problem {key[0]!r}: it was written again; reload the page"
        raise RequestError(message, status=404, code="no_problem")
    return found[-1], grades_in(events).get(key)


def _answers(history: ProblemHistory, graded: Graded | None) -> Json:
    task, end = history.task, history.end
    grade = {True: "right", False: "wrong", None: "not graded"}[graded and graded.right]
    if end is None:
        grade = "unfinished"
    elif end.finish_reason == "failed":
        grade = "failed"
    return {
        "question": task.question,
        "turns": [{"role": turn.role, "text": turn.text} for turn in (*task.turns, *task.after)],
        "given": [{"author": step.author, "text": step.text} for step in task.steps],
        "result": result_of(history, graded),
        "grade": grade,
        "right": graded and graded.right,
        "expected": reference_text(graded),
        "answer": graded and graded.answer,
        "reason": graded and graded.reason,
        "found_by": graded and graded.found_by,
        "grader": graded and f"{graded.grader_name} {graded.grader}",
        "judgement": graded and graded.judgement and msgspec.to_builtins(graded.judgement),
        "finish": end and end.finish_reason,
        "error": end and end.error,
    }


def _notes(run: Run) -> list[str]:
    notes = [_SHARED_TIMES] if run.is_shared else []
    record = run.started.record
    return notes if record == "full" else [*notes, _NO_TEXTS.format(record=record)]


def _steps(history: ProblemHistory) -> list[Json]:
    return [_step(story, record) for story, record in zip(stories(history), history.steps(), strict=True)]


def _step(story: Story, record: StepRecord) -> Json:
    return {
        "step": story.step,
        "author": story.author,
        "verdict": record.verdict,
        "decision": story.decision,
        "text": story.text,
        "tokens": story.tokens,
        "retries": story.retries,
        "times": story.times and msgspec.to_builtins(story.times),
        "kept": record.chosen,
        "candidates": [_candidate(candidate) for candidate in record.candidates],
        "diff": _rejected(record.candidates, record.chosen),
        "audit": record.audit and msgspec.to_builtins(record.audit),
        "glimpse": record.glimpse and msgspec.to_builtins(record.glimpse),
    }


def _rejected(candidates: Sequence[Candidate], chosen: int) -> list[DiffPart] | None:
    """Return how the first rejected candidate differs from the kept one."""
    others = [candidate for number, candidate in enumerate(candidates) if number != chosen]
    return word_diff(others[0].text, candidates[chosen].text, ("rejected", "kept")) if others else None


def _candidate(candidate: Candidate) -> Json:
    return {
        "author": candidate.author,
        "target": candidate.target,
        "sample": candidate.sample,
        "text": candidate.text,
        "tokens": candidate.usage.completion_tokens,
        "stop_reason": candidate.stop_reason,
        "score": candidate.score,
        "estimates": candidate.rating.estimates if candidate.rating else (),
        "confidence": candidate.confidence,
        "seconds": candidate.seconds,
        "valid": candidate.valid,
        "violation": candidate.violation,
        "calls": [{"name": call.name, "arguments": call.arguments} for call in candidate.calls],
    }


def _call(history: ProblemHistory, call: CallHistory) -> Json:
    outcome, started, ended = call.outcome, call.started, call.ended
    usage = outcome.usage if isinstance(outcome, CallGenerated | CallScored) else None
    end = ended.mono if ended is not None else None
    begin = started.mono if started is not None else None
    if begin is None and end is not None and outcome is not None:
        begin = max(0.0, round(end - outcome.seconds, 6))
    first = started or ended
    return {
        "id": call.id,
        "model": call.model,
        "target": history.target_of(call),
        "actor": first and first.actor,
        "step": first and first.step,
        "begin": begin,
        "end": end,
        "waited": round(seconds_waited(history, call), 6),
        "outcome": None if ended is None else _OUTCOMES.get(ended.kind, "cancelled"),
        "ahead": call.is_ahead,
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "value": outcome.value if isinstance(outcome, CallScored) else None,
        "retries": [retry.payload.error for retry in call.retries if isinstance(retry.payload, CallRetried)],
        "error": getattr(outcome, "error", None),
    }
