"""Figures about the grades of a run: what is ungraded and why, the bounds of the accuracy, how answers were found.

A grade without a reference answer, which no grader could give, is in ``ungraded`` but not in the bounds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from arbiter.config.model_tables import PriceTable
from arbiter.grading import Grade
from arbiter.grading.grader import NO_REFERENCE
from arbiter.protocols.records import Record, Usage
from arbiter.runs.costs import priced
from arbiter.runs.intervals import Interval

_LONGEST_REASON = 120
_WITHOUT_PHRASE = ("code block", "whole text")
FAILED, NOT_RECORDED, NO_ANSWER = "failed", "not recorded", "no answer"


class JudgeRequests(Record, frozen=True):
    """The requests of the grader ``judge`` whose grades count, and how many of them failed.

    They read ``prompt`` tokens, of which ``cached`` came from a prefix cache, and ``written`` ones were written.
    ``cost`` is that of these tokens; None without a price.
    """

    requests: int
    failed: int
    prompt: int
    cached: int
    written: int
    cost: float | None


def judge_requests(grades: Iterable[Grade], price: PriceTable | None) -> JudgeRequests | None:
    """Return the requests of a judge whose model has the ``price``; None if no model graded."""
    judgements = [grade.judgement for grade in grades if grade.judgement]
    if not judgements:
        return None
    usage = sum((judgement.usage for judgement in judgements), Usage())
    return JudgeRequests(
        requests=len(judgements),
        failed=sum(judgement.error is not None for judgement in judgements),
        prompt=usage.prompt_tokens,
        cached=usage.cached_tokens,
        written=usage.completion_tokens,
        cost=priced(usage, price),
    )


def ungraded_reasons(grades: Iterable[tuple[Grade, bool]]) -> dict[str, int]:
    """Return how many samples are ungraded for each reason. Each grade comes with whether its sample failed.

    The reason of a failed sample is ``failed``. A reason longer than 120 characters is cut.
    """
    return dict(
        Counter(
            FAILED if failed else _cut(grade.reason or NOT_RECORDED) for grade, failed in grades if grade.right is None
        )
    )


def accuracy_bounds(problems: Sequence[Sequence[Grade]]) -> Interval | None:
    """Return the accuracy if all ungraded samples were wrong, and if all were right; None if nothing is ungraded.

    Each problem has the grades of its samples. Those without a reference answer do not count.
    """
    counted = [[grade for grade in grades if grade.reason != NO_REFERENCE or grade.right] for grades in problems]
    counted = [grades for grades in counted if grades]
    if all(grade.right is not None for grades in counted for grade in grades):
        return None
    low = sum(sum(grade.right is True for grade in grades) / len(grades) for grades in counted)
    high = sum(sum(grade.right is not False for grade in grades) / len(grades) for grades in counted)
    return low / len(counted), high / len(counted)


def found_by(grades: Iterable[Grade]) -> dict[str, int]:
    """Return how many answers each rule found. ``no answer`` counts the solutions without one."""
    return dict(Counter(_rule(grade) for grade in grades))


def grader_names(graders: Iterable[tuple[str, int]]) -> str:
    """Return the name and the version of the grader of all grades, or of each of several. Empty without grades."""
    versions: dict[str, set[int]] = {}
    for name, version in graders:
        versions.setdefault(name, set()).add(version)
    return ", ".join(f"{name} {' and '.join(map(str, sorted(found)))}" for name, found in sorted(versions.items()))


def without_box(counts: dict[str, int]) -> dict[str, int]:
    """Return of ``found_by`` the answers that were found after a phrase, without a box."""
    others = ("box", *_WITHOUT_PHRASE, NO_ANSWER, NOT_RECORDED)
    return {rule: count for rule, count in counts.items() if rule not in others}


def can_be_graded(ungraded: Iterable[str]) -> bool:
    """Return whether grading again may help: a sample is ungraded for another reason than its failure or its data."""
    return any(reason not in (FAILED, NO_REFERENCE) for reason in ungraded)


def in_bounds(ungraded: Mapping[str, int]) -> int | None:
    """Return how many ungraded samples the bounds count; None if they count all."""
    return sum(ungraded.values()) - ungraded[NO_REFERENCE] if NO_REFERENCE in ungraded else None


def _cut(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON].rstrip() + " …"


def _rule(grade: Grade) -> str:
    if grade.found_by is not None:
        return grade.found_by
    return NO_ANSWER if grade.answer is None else NOT_RECORDED
