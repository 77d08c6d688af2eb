"""Convert a problem into a sample of a log of inspect_ai."""

import msgspec

from arbiter.exports.eval_tools import calls_of, messages_of
from arbiter.exports.eval_transcript import EvalTranscript
from arbiter.exports.eval_usage import EvalModels, Json, identifier, known, moment, usage_of, usages
from arbiter.exports.files import safe_name
from arbiter.grading.answers import Reference
from arbiter.log.history import ProblemHistory
from arbiter.log.timing import step_times
from arbiter.protocols.events import Graded
from arbiter.protocols.records import FinishReason, StepRecord, Turn, Usage, joined_steps

SCORER = "arbiter"
"""The name of the score that holds the grade."""

_LIMITS = {"step_limit": "token", "max_tokens": "token", "max_steps": "turn", "deadline": "time"}


def sample(history: ProblemHistory, grade: Graded | None, models: EvalModels, run: str) -> Json:
    """Return one sample of a problem with everything that the log records about it; ``run`` is the run's id."""
    end, records, name = history.end, history.steps(), identifier(run, *history.key)
    given = _given(history, name)
    written = [_message(name, models, number, record) for number, record in enumerate(records)]
    question = history.task.question if len(given) == 1 else given
    target, score, limit = _reference(grade), _score(grade), _limit(history)
    error = end and end.error and {"message": end.error, "traceback": end.error, "traceback_ansi": end.error}
    shown = known(question=question, target=target, score=score, limit=limit, error=error or None)
    seconds = end and end.seconds
    return known(
        id=safe_name(history.key[0]),  # it becomes a file name in an archive
        epoch=history.key[1] + 1,
        uuid=name,
        input=question,
        target=target,
        messages=[
            *given,
            *({**message, "metadata": _step_facts(number, records[number])} for number, message in enumerate(written)),
        ],
        output=_output(history, records, models, name),
        scores=score and {SCORER: score},
        metadata=_metadata(history, records),
        events=EvalTranscript(history, models, name, len(given)).events(shown),
        events_data={"messages": [*given, *written], "calls": []},
        model_usage=usages(models.usage(history)),
        role_usage=usages({role: counts.usage for role, counts in history.request_counts().items()}),
        started_at=moment(history.start.wall),
        completed_at=history.ended and moment(history.ended.wall),
        total_time=seconds,
        working_time=_worked(history, len(records)),
        error=error or None,
        limit=limit,
        turn_count=len(records),
    )


def _given(history: ProblemHistory, name: str) -> list[Json]:
    """Return the messages before the first step: the conversation with the question, and the steps given with it."""
    task = history.task
    steps = (Turn("assistant", step.text) for step in task.steps)
    messages = messages_of((*task.turns, Turn("user", task.question), *task.after, *steps))
    return [{"id": identifier(name, "given", number), **message} for number, message in enumerate(messages)]


def _message(name: str, models: EvalModels, number: int, record: StepRecord) -> Json:
    kept = record.kept
    return known(
        id=identifier(name, "step", number),
        role="assistant",
        content=kept.content,
        tool_calls=calls_of(kept.calls),
        source="generate",
        model=models.name(kept.author, kept.target),
    )


def _step_facts(number: int, record: StepRecord) -> Json:
    """Return the author and the verdict of a step, its score, and that of a rejected draft."""
    kept, draft = record.kept, record.draft
    return known(
        step=number + 1,
        author=kept.author,
        target=kept.target or None,
        verdict=record.verdict,
        valid=kept.valid,
        draft_violation=None if draft is None else draft.violation,
        score=kept.score,
        draft_score=draft.score if draft is not None and draft is not kept else None,
    )


def _step(number: int, record: StepRecord) -> Json:
    kept = record.kept
    return {
        **_step_facts(number, record),
        **known(confidence=kept.confidence, tokens=kept.usage.completion_tokens, stop_reason=kept.stop_reason),
    }


def _output(history: ProblemHistory, records: list[StepRecord], models: EvalModels, name: str) -> Json:
    end, solution, request_counts = history.end, history.solution(), history.request_counts()
    so_far = joined_steps([record.kept for record in records], history.task.separator)
    text = so_far if solution is None else solution.text
    calls = calls_of([call for record in records for call in record.kept.calls])
    answer = known(role="assistant", content=text, tool_calls=calls, source="generate")
    message = {"id": identifier(name, "answer"), **answer}
    usage = sum((counts.usage for role, counts in request_counts.items() if role in ("draft", "target")), Usage())
    return known(
        model=models.run_name,
        choices=[
            {"message": {**message, "model": models.run_name}, "stop_reason": _stop_reason(end and end.finish_reason)},
        ],
        usage=usage_of(usage),
        time=end and end.seconds,
        error=end and end.error,
    )


def _stop_reason(finish: FinishReason | None) -> str:
    match finish:
        case None | "failed":
            return "unknown"
        case "answered" | "stop":
            return "stop"
        case "tool_calls":
            return "tool_calls"
        case _:  # ended by a limit, which the sample names
            return "max_tokens"


def _limit(history: ProblemHistory) -> Json | None:
    """Return the limit that ended the problem, or None; a limit unknown to inspect_ai has the type ``custom``."""
    limits, finish = history.task.limits, history.end and history.end.finish_reason
    values = {
        "step_limit": limits.step_tokens,
        "max_tokens": limits.max_tokens,
        "max_steps": limits.max_steps,
        "deadline": limits.deadline,
        "loop": limits.repeats,
        "empty_steps": limits.repeats,
    }
    if finish is None or values.get(finish) is None:
        return None
    return {"type": _LIMITS.get(finish, "custom"), "limit": values[finish], "reason": finish}


def _score(grade: Graded | None) -> Json | None:
    if grade is None or grade.right is None:
        return None
    grader = f"{grade.grader_name} {grade.grader}"
    return known(
        value="C" if grade.right else "I",
        answer=grade.answer,
        explanation=grade.reason,
        metadata={"grader": grader},
    )


def _reference(grade: Graded | None) -> str:
    match None if grade is None else grade.reference:
        case dict() as reference:
            return str(msgspec.convert(reference, Reference))
        case reference:
            return reference or ""


def _metadata(history: ProblemHistory, records: list[StepRecord]) -> Json:
    drafted = sum(record.kept.author == "draft" for record in records)
    problem = history.key[0]
    return known(
        problem=None if safe_name(problem) == problem else problem,
        finish_reason="unfinished" if history.end is None else history.end.finish_reason,
        acceptance=drafted / len(records) if records else None,
        steps=[_step(number, record) for number, record in enumerate(records)],
        tags=history.task.tags or None,
    )


def _worked(history: ProblemHistory, steps: int) -> float | None:
    """Return the problem's seconds without waiting for a slot at a model; None if the log lacks the times."""
    times = [step_times(history, number) for number in range(steps)]
    if history.end is None or None in times:
        return None
    waited = sum(step.queue for step in times if step is not None)
    return max(0.0, round(history.end.seconds - waited, 6))
