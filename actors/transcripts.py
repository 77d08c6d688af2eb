"""Computes the context after a kept step, and whether the step ends the problem. Pure functions."""

from arbiter.protocols.messages import Context, Task
from arbiter.protocols.records import Candidate, FinishReason, StepRecord, Transcript


def first_context(task: Task) -> Context:
    """Return the context of the first step of a problem."""
    return _context(task, 0, task.transcript, 0)


def context_after(context: Context, kept: Candidate, record: StepRecord | None = None) -> Context:
    """Return the context of the next step if ``kept`` is kept, with the tokens that the limits still allow.

    ``record`` is that of the kept step. Without one, the next context lacks it in its history.
    """
    transcript = context.transcript.extended(kept.step)
    used = context.kept_tokens + kept.usage.completion_tokens
    history = context.history if record is None else (*context.history, record)
    return _context(context.task, context.step + 1, transcript, used, history)


def finish_reason(context: Context, kept: Candidate) -> FinishReason | None:
    """Return why keeping ``kept`` after ``context`` ends the problem; None if there is a next step."""
    limits = context.task.limits
    before = context.transcript.steps
    if kept.stop_reason != "call" and (kept.calls or (before and before[-1].calls)):
        return "tool_calls"
    if stopped(context, kept):
        return "stop"
    if kept.stop_reason == "end":
        return "answered"
    if context.kept_tokens + kept.usage.completion_tokens >= limits.max_tokens:
        return "max_tokens"
    if kept.stop_reason == "limit":
        return "step_limit"
    repeated = _repeated(context, kept)
    if repeated is not None:
        return "loop" if repeated else "empty_steps"
    return "max_steps" if context.step + 1 >= limits.max_steps else None


def stopped(context: Context, kept: Candidate) -> bool:
    """Whether ``kept`` completes one of the task's stop texts.

    The stop text may begin in the steps before, and may end in the separator after ``kept``.
    """
    task = context.task
    if not task.stop:
        return False
    reach = max(map(len, task.stop)) - 1
    before = "".join(step.ended(task.separator) for step in context.transcript.steps[-reach - 1 :])
    after = task.separator if kept.stop_reason == "separator" else ""
    written = before[len(before) - min(reach, len(before)) :] + kept.text + after
    return any(stop in written for stop in task.stop)


def _repeated(context: Context, kept: Candidate) -> str | None:
    """Return the text of ``kept`` if the last ``limits.repeats`` steps, including it, are equal; else None."""
    before = context.task.limits.repeats - 1
    if context.step < before:
        return None
    text = kept.text.strip()
    return text if all(step.text.strip() == text for step in reversed(context.transcript.steps[-before:])) else None


def _context(task: Task, step: int, transcript: Transcript, used: int, history: tuple[StepRecord, ...] = ()) -> Context:
    max_tokens = min(task.limits.step_tokens, task.limits.max_tokens - used)
    return Context(task, step, transcript, max_tokens, used, history)
