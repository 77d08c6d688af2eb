"""Pure: which context a kept step leads to, and whether it ends the problem."""

from arbiter.protocols.messages import Context, Task
from arbiter.protocols.records import Candidate, FinishReason, Step, Transcript


def first_context(task: Task) -> Context:
    """The context of a problem's first step."""
    return _context(task, 0, task.transcript, 0)


def context_after(context: Context, kept: Candidate) -> Context:
    """The context of the next step if ``kept`` is kept, with the tokens that the limits leave for it."""
    transcript = context.transcript.extended(Step(text=kept.text, author=kept.author))
    used = context.kept_tokens + kept.usage.completion_tokens
    return _context(context.task, context.step + 1, transcript, used)


def finish_reason(context: Context, kept: Candidate) -> FinishReason | None:
    """Whether keeping ``kept`` after ``context`` ends the problem, and why; None if there is a next step."""
    limits = context.task.limits
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
    """Whether one of the task's stop texts comes up with ``kept``: in it, or across its joins with what stands before
    and behind it.
    """
    task = context.task
    if not task.stop:
        return False
    reach = max(map(len, task.stop)) - 1
    before = "".join(step.text + task.separator for step in context.transcript.steps[-reach - 1 :])
    behind = task.separator if kept.stop_reason == "separator" else ""
    written = before[len(before) - min(reach, len(before)) :] + kept.text + behind
    return any(stop in written for stop in task.stop)


def _repeated(context: Context, kept: Candidate) -> str | None:
    """The text that ``kept`` and the steps before it all have, if they are as many as the limit of repeats."""
    before = context.task.limits.repeats - 1
    if context.step < before:
        return None
    texts = {step.text.strip() for step in context.transcript.steps[-before:]} | {kept.text.strip()}
    return texts.pop() if len(texts) == 1 else None


def _context(task: Task, step: int, transcript: Transcript, used: int) -> Context:
    left = min(task.limits.step_tokens, task.limits.max_tokens - used)
    return Context(task=task, step=step, transcript=transcript, max_tokens=left, kept_tokens=used)
