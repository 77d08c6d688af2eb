"""Describe in words why each step of a recorded problem was kept, and how the problem ended."""

from collections.abc import Iterable, Sequence

from arbiter.actors.policies import best_target
from arbiter.actors.step_offsets import threshold_at
from arbiter.log.explain_history import HistoryPolicy, history_policy, reason_by_history
from arbiter.log.history import ProblemHistory
from arbiter.log.timing import StepTimes, step_times
from arbiter.protocols.events import CallFailed, Graded
from arbiter.protocols.records import Author, Candidate, Record, StepRecord, Turn
from arbiter.protocols.tools import ToolCall, step_text


class Story(Record, frozen=True):
    """A kept step: its author, the reason for keeping it, and the other model's proposal, if the log has one.

    ``calls`` are the tools that it calls, which ``text`` has as lines of JSON, and ``valid`` says whether it keeps the
    rules of the answer.

    ``tokens`` counts the tokens of the kept text. ``retries`` counts failed attempts of the step's requests that were
    made again. ``times`` is None if the log does not have them.
    """

    step: int
    author: Author
    text: str
    decision: str
    other: Author | None
    other_text: str | None
    tokens: int
    retries: int
    times: StepTimes | None
    calls: tuple[ToolCall, ...] = ()
    valid: bool | None = None


def stories(problem: ProblemHistory) -> list[Story]:
    """Return the kept steps of ``problem``, in order. Raises ``RunError`` if the log contradicts itself."""
    records = problem.steps()
    return [_story(problem, step, records) for step in range(len(records))]


def decision(
    record: StepRecord,
    policy: str,
    threshold: float | None,
    by_history: HistoryPolicy | None = None,
    history: Sequence[StepRecord] = (),
) -> str:
    """Return why a step was kept: the policy's decision, with the scores and the threshold that it compared.

    ``policy`` is the policy's type. ``threshold`` is its threshold or, for ``random``, its escalation probability.
    ``by_history`` is the policy itself if it uses the ``history``, the steps before this one.
    """
    draft, target = _score(record.draft), _score(best_target(record.targets) if record.targets else None)
    limit = "" if threshold is None else f"τ = {threshold:g}"
    name = f" to {record.kept.target}" if record.kept.target else ""
    kept = {
        "keep_draft": "kept",
        "keep_target": "target kept",
        "escalate": f"escalated{name}",
        None: "only candidate",
    }
    reason = kept[record.verdict]
    if record.draft is not None and record.draft.valid is False and record.verdict is not None:
        return f"{reason} without a decision, because the draft breaks the rules: {record.draft.violation}"
    match policy:
        case "router" if draft is not None:
            reason += f": ŷ = {_estimates(record.draft)} {'≤' if record.verdict == 'keep_draft' else '>'} {limit}"
        case "rsd" if draft is not None:
            reason += f": h = {draft:.4g} {'≥' if record.verdict == 'keep_draft' else '<'} {limit}"
        case "judge" if draft is not None:
            reason += f": rating = {draft:.4g} {'≥' if record.verdict == 'keep_draft' else '<'} {limit}"
        case "confidence" if record.draft is not None and record.draft.confidence is not None:
            sign = "≥" if record.verdict == "keep_draft" else "<"
            reason += f": confidence = {record.draft.confidence:.4g} {sign} {limit}"
        case "glimpse" if record.glimpse is not None:
            sign = "≥" if record.verdict == "keep_draft" else "<"
            reason += f": confidence in the first token = {record.glimpse.confidence:.4g} {sign} {limit}"
        case "oracle" | "generate" if draft is not None and target is not None:
            reason += f": Δ = {target:.4g} - {draft:.4g} = {target - draft:.4g}"
            reason += f" {'>' if record.verdict == 'keep_target' else '≤'} {limit or 0}"
        case "random":
            reason += " at random"
            reason += f" (escalation probability {threshold:g})" if threshold is not None else ""
        case _ if by_history is not None:
            reason += reason_by_history(by_history, history, record)
        case _:
            pass
    if record.kept.calls:
        reason += "; the call keeps the rules"
    if record.audit is not None:
        gain = record.audit.target - record.audit.draft
        reason += f"; audited: Δ = {record.audit.target:.4g} - {record.audit.draft:.4g} = {gain:.4g}"
    return reason


def result_of(problem: ProblemHistory, grade: Graded | None) -> str:
    """Return how a problem ended: its verdict and its finish reason, or its error."""
    end = problem.end
    if end is None:
        return "unfinished"
    if end.finish_reason == "failed":
        return f"failed: {end.error}"
    verdict = {True: "right", False: "wrong", None: "not graded"}[grade and grade.right]
    if grade is not None and grade.right is False and grade.reference is not None:
        answer = "no answer" if not grade.answer else f"answer {grade.answer}"
        verdict += f" ({answer}, expected {_reference(grade)})"
    return f"{verdict}; finish reason: {end.finish_reason}"


def turn_lines(turns: Iterable[Turn]) -> list[str]:
    """Return one text for each turn of a conversation: its role, what it says, and the tools that it calls."""
    return [f"{turn.role}: {step_text(turn.text, turn.calls)}" for turn in turns]


def failures(problem: ProblemHistory) -> list[str]:
    """Return one line for each request that failed after all its retries."""
    return [
        f"{call.model}, step {(call.ended.step or 0) + 1}: {call.outcome.error}"
        for call in problem.calls.values()
        if isinstance(call.outcome, CallFailed) and call.ended is not None
    ]


def _story(problem: ProblemHistory, step: int, records: Sequence[StepRecord]) -> Story:
    record, policy = records[step], problem.task.policy
    kept = record.kept
    others = [candidate for candidate in record.candidates if candidate.author != kept.author]
    calls = [call for call in problem.calls.values() if call.ended is not None and call.ended.step == step]
    moved = problem.thresholds().get(step)
    threshold = policy.get("threshold", policy.get("probability")) if moved is None else moved
    if threshold is not None:
        threshold = threshold_at(threshold, policy.get("offsets", ()), step)
    return Story(
        step=step,
        author=kept.author,
        text=kept.text,
        decision=decision(record, str(policy.get("type")), threshold, history_policy(policy), records[:step]),
        other=others[0].author if others else None,
        other_text=others[0].text if others else None,
        tokens=kept.usage.completion_tokens,
        retries=sum(len(call.retries) for call in calls),
        times=step_times(problem, step),
        calls=kept.calls,
        valid=kept.valid,
    )


def _estimates(draft: Candidate | None) -> str:
    """Return the router's score, or its score for each of several targets."""
    rating = draft and draft.rating
    return ", ".join(f"{value:.4g}" for value in rating.estimates or (rating.value,)) if rating else ""


def _score(candidate: Candidate | None) -> float | None:
    return None if candidate is None else candidate.score


def _reference(grade: Graded) -> str:
    reference = grade.reference
    return reference if isinstance(reference, str) else ", ".join((reference or {}).get("answers", ()))
