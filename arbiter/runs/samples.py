"""Figures over several samples per problem: mean accuracy, pass@k and majority vote, with intervals.

All functions take one list per problem: the grades of its samples, ordered by sample number.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from arbiter.grading import Grade
from arbiter.grading.answers import plain
from arbiter.protocols.records import Record
from arbiter.runs.intervals import Interval, clustered_interval, wilson_interval

Problems = Sequence[Sequence[Grade]]


class SampleEstimate(Record, frozen=True):
    """A share and its 95 % interval, and the number of ``problems`` that were counted. None if there were none."""

    value: float | None
    interval: Interval | None
    problems: int


class MajorityVote(Record, frozen=True):
    """The share of ``problems`` whose most frequent answer is right, and its 95 % interval (Wilson).

    ``problems`` excludes the ``undecided`` ones: the grader could not judge their most frequent answer, or none of
    their samples. ``ties`` counts problems with several most frequent answers. There, the answer whose first sample has
    the lowest number is taken.
    """

    value: float | None
    interval: Interval | None
    problems: int
    undecided: int
    ties: int


def mean_accuracy(problems: Problems) -> SampleEstimate:
    """Return the share of right answers among a problem's graded samples, on average over the problems.

    This is pass@1: a problem of which some samples are ungraded counts as much as the others.
    """
    return pass_at(problems, 1)


def pass_at_each(problems: Problems, samples: int) -> dict[int, SampleEstimate]:
    """Return pass@k for the powers of two below ``samples``, and for ``samples``."""
    powers = [2**power for power in range(samples.bit_length()) if 2**power < samples]
    return {k: pass_at(problems, k) for k in [*powers, samples]}


def pass_at(problems: Problems, k: int) -> SampleEstimate:
    """Return the probability that at least one of ``k`` samples is right, over problems with at least ``k`` graded."""
    verdicts = [graded for graded in map(_verdicts, problems) if len(graded) >= k]
    passes = [unbiased_pass(sum(graded), len(graded), k) for graded in verdicts]
    value = sum(passes) / len(passes) if passes else None
    # k samples form one answer, so n samples hold at most n / k independent answers
    most = sum(len(graded) for graded in verdicts) / k
    return SampleEstimate(value, clustered_interval(passes, [1.0] * len(passes), most), len(passes))


def unbiased_pass(right: int, of: int, k: int) -> float:
    """Return the probability that ``k`` samples, drawn from ``of`` with ``right`` right ones, include a right one.

    This is the estimator of Chen et al. 2021 (arXiv 2107.03374), computed with integers.
    """
    draws = math.comb(of, k)
    return (draws - math.comb(of - right, k)) / draws


def majority_vote(problems: Problems) -> MajorityVote:
    """Return the share of problems whose most frequent answer is right."""
    votes = [_vote(grades) for grades in problems]
    verdicts = [right for right, _ in votes if right is not None]
    return MajorityVote(
        value=sum(verdicts) / len(verdicts) if verdicts else None,
        interval=wilson_interval(sum(verdicts), len(verdicts)),
        problems=len(verdicts),
        undecided=len(votes) - len(verdicts),
        ties=sum(tied for _, tied in votes),
    )


def _vote(grades: Sequence[Grade]) -> tuple[bool | None, bool]:
    """Return whether the most frequent answer is right (None: not known), and whether there was a tie.

    Two answers are equal if they are written the same or are both right. A sample without an answer has no vote. A
    problem without votes is wrong if at least one of its samples was judged.
    """
    voters = [
        (comparable(grade.answer or ""), grade.right) for grade in grades if grade.answer is not None or grade.right
    ]
    right = [text for text, verdict in voters if verdict]
    wrong = {text for text, verdict in voters if verdict is False}
    votes = Counter(right[0] if text in right else text for text, _ in voters)  # keeps the order of the first samples
    if not votes:
        return (False if _verdicts(grades) else None), False
    most = max(votes.values())
    winner, *others = [text for text, count in votes.items() if count == most]
    return (True if winner in right else False if winner in wrong else None), bool(others)


_NUMBER = re.compile(r"(?P<sign>-?)0*(?P<whole>\d+|\d{1,3}(?:,\d{3})+)(?:\.(?P<part>\d*?)0*)?")


def comparable(answer: str) -> str:
    """Return ``answer`` in a normalised notation, so that most equal answers are equal texts."""
    text = plain(answer)
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    written = number["whole"].replace(",", "") + (f".{number['part']}" if number["part"] else "")
    return written if written == "0" else number["sign"] + written


def _verdicts(grades: Sequence[Grade]) -> list[bool]:
    return [grade.right for grade in grades if grade.right is not None]
