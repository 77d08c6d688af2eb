"""Why each step of a recorded problem is as it is, in words."""

from arbiter.actors.policies import best_target
from arbiter.log.history import ProblemHistory
from arbiter.log.timing import StepTimes, step_times
from arbiter.protocols.events import CallFailed, Graded
from arbiter.protocols.records import Author, Candidate, Record, StepRecord


class Story(Record, frozen=True):
    """A kept step: who wrote it and why it was kept, and the text that the other model proposed, if it is known.

    ``retries`` counts attempts that failed before an answer came.
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


def stories(problem: ProblemHistory) -> list[Story]:
    """The kept steps of ``problem``, in their order. Raises ``RunError`` if its log contradicts itself."""
    return [_story(problem, step, record) for step, record in enumerate(problem.steps())]


def decision(record: StepRecord, policy: str, threshold: float | None) -> str:
    """Why a step was kept, by the rule of the policy and the scores that it saw."""
    draft, target = _score(record.draft), _score(best_target(record.targets) if record.targets else None)
    knob = "" if threshold is None else f"τ = {threshold:g}"
    name = f" to {record.kept.target}" if record.kept.target else ""
    kept = {
        "keep_draft": "kept",
        "keep_target": "the target's kept",
        "escalate": f"escalated{name}",
        None: "the only one",
    }
    said = kept[record.verdict]
    match policy:
        case "router" if draft is not None:
            said += f": ŷ = {_estimates(record.draft)} {'≤' if record.verdict == 'keep_draft' else '>'} {knob}"
        case "rsd" if draft is not None:
            said += f": h = {draft:.4g} {'≥' if record.verdict == 'keep_draft' else '<'} {knob}"
        case "judge" if draft is not None:
            said += f": rating = {draft:.4g} {'≥' if record.verdict == 'keep_draft' else '<'} {knob}"
        case "confidence" if record.draft is not None and record.draft.confidence is not None:
            sign = "≥" if record.verdict == "keep_draft" else "<"
            said += f": confidence = {record.draft.confidence:.4g} {sign} {knob}"
        case "oracle" | "generate" if draft is not None and target is not None:
            said += f": Δ = {target:.4g} - {draft:.4g} = {target - draft:.4g}"
            said += f" {'>' if record.verdict == 'keep_target' else '≤'} {knob or 0}"
        case "random":
            said += f" by chance, with a probability of {threshold:g}" if threshold is not None else " by chance"
        case _:
            pass
    if record.audit is not None:
        gain = record.audit.target - record.audit.draft
        said += f"; audited: Δ = {record.audit.target:.4g} - {record.audit.draft:.4g} = {gain:.4g}"
    return said


def result_of(problem: ProblemHistory, grade: Graded | None) -> str:
    """How a problem ended, in words."""
    end = problem.end
    if end is None:
        return "no end in the log"
    if end.finish_reason == "failed":
        return f"failed: {end.error}"
    verdict = {True: "right", False: "wrong", None: "not graded"}[grade and grade.right]
    if grade is not None and grade.right is False and grade.reference is not None:
        verdict += f" ({grade.answer or 'no answer'}, and not {_reference(grade)})"
    return f"{verdict}; ended by {end.finish_reason}"


def failures(problem: ProblemHistory) -> list[str]:
    """A line for each request that failed for good."""
    return [
        f"{call.model}, step {(call.ended.step or 0) + 1}: {call.outcome.error}"
        for call in problem.calls.values()
        if isinstance(call.outcome, CallFailed) and call.ended is not None
    ]


def _story(problem: ProblemHistory, step: int, record: StepRecord) -> Story:
    kept, policy = record.kept, problem.task.policy
    others = [candidate for candidate in record.candidates if candidate.author != kept.author]
    calls = [call for call in problem.calls.values() if call.ended is not None and call.ended.step == step]
    moved = problem.thresholds().get(step)
    knob = policy.get("threshold", policy.get("probability")) if moved is None else moved
    return Story(
        step=step,
        author=kept.author,
        text=kept.text,
        decision=decision(record, str(policy.get("type")), knob),
        other=others[0].author if others else None,
        other_text=others[0].text if others else None,
        tokens=kept.usage.completion_tokens,
        retries=sum(len(call.retries) for call in calls),
        times=step_times(problem, step),
    )


def _estimates(draft: Candidate | None) -> str:
    """A router's score, or all of them where there are several targets."""
    rating = draft and draft.rating
    return ", ".join(f"{value:.4g}" for value in rating.estimates or (rating.value,)) if rating else ""


def _score(candidate: Candidate | None) -> float | None:
    return None if candidate is None else candidate.score


def _reference(grade: Graded) -> str:
    reference = grade.reference
    return reference if isinstance(reference, str) else ", ".join((reference or {}).get("answers", ()))
