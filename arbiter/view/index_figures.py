"""The figures of a run, or of some of its problems, from the rows of its index."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from arbiter.grading import Grade
from arbiter.runs.intervals import Interval
from arbiter.runs.results import Result
from arbiter.runs.samples import mean_accuracy

Json = dict[str, Any]


class Counted(NamedTuple):
    """What one row, or one result, adds to the figures."""

    id: str
    sample: int
    right: bool | None
    grade: str
    steps: int
    accepted: int
    escalated: int
    target_calls: int
    written_draft: int
    written_target: int


COUNTED = Counted._fields
"""The columns of a row that count."""


def counted_result(result: Result) -> Counted:
    """Return what a result adds."""
    solution, right = result.solution, result.grade.right
    steps, calls = solution.steps, solution.requests
    grade = {True: "right", False: "wrong", None: "not graded"}[right]
    return Counted(
        id=solution.problem,
        sample=solution.sample,
        right=right,
        grade="failed" if solution.finish_reason == "failed" else grade,
        steps=len(steps),
        accepted=sum(step.kept.author == "draft" for step in steps),
        escalated=sum(step.verdict == "escalate" for step in steps),
        target_calls=calls["target"].requests if "target" in calls else 0,
        written_draft=calls["draft"].usage.completion_tokens if "draft" in calls else 0,
        written_target=calls["target"].usage.completion_tokens if "target" in calls else 0,
    )


def figures(rows: Iterable[Counted]) -> Json:
    """Return the figures of rows that have ended, computed as a run's summary is."""
    rows = list(rows)
    accuracy, interval = _accuracy(rows)
    steps, accepted = sum(row.steps for row in rows), sum(row.accepted for row in rows)
    draft, target = sum(row.written_draft for row in rows), sum(row.written_target for row in rows)
    return {
        "problems": len({row.id for row in rows}),
        "ended": len(rows),
        "graded": sum(row.right is not None for row in rows),
        "failed": sum(row.grade == "failed" for row in rows),
        "accuracy": accuracy,
        "accuracy_interval": interval,
        "acceptance": accepted / steps if steps else None,
        "steps": steps,
        "escalations": sum(row.escalated for row in rows),
        "draft_tokens": draft,
        "target_tokens": target,
        "target_share": share_of(draft, target),
        "target_calls": sum(row.target_calls for row in rows),
    }


def share_of(draft: int, target: int) -> float | None:
    """Return the target's share of the tokens of both models; None if there are none."""
    return target / (draft + target) if draft + target else None


def _accuracy(rows: Iterable[Counted]) -> tuple[float | None, Interval | None]:
    problems: dict[str, dict[int, Grade]] = {}
    for row in rows:
        problems.setdefault(row.id, {})[row.sample] = Grade(None if row.right is None else bool(row.right))
    found = mean_accuracy([[samples[number] for number in sorted(samples)] for samples in problems.values()])
    return found.value, found.interval
