"""Two runs of the same problems beside one another: where their transcripts part."""

from itertools import zip_longest

from arbiter.log.explain import Story, stories
from arbiter.log.history import Key, ProblemHistory
from arbiter.log.identity import differences
from arbiter.log.run import Run
from arbiter.protocols.records import Author, Record


class KeptStep(Record, frozen=True):
    """A step that a run kept, and why."""

    author: Author
    text: str
    decision: str


class FirstDifference(Record, frozen=True):
    """The first step, from 0, at which a problem's transcripts differ; None for a run that had ended before."""

    problem: str
    sample: int
    step: int
    a: KeptStep | None
    b: KeptStep | None


class AnswersDiff(Record, frozen=True):
    """How many problems have a right answer in both runs, in one alone, and in none."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    none: int = 0


class RunDiff(Record, frozen=True):
    """Two runs beside one another.

    ``identity`` has a line for each thing that decides results and differs; ``only_a`` and ``only_b`` count problems
    that have an end in one run alone. Transcripts are the same if their steps have the same texts; who wrote them may
    differ.
    """

    a: str
    b: str
    identity: tuple[str, ...]
    same: int
    partings: tuple[FirstDifference, ...]
    only_a: int
    only_b: int
    answers: AnswersDiff


def compare(a: Run, b: Run) -> RunDiff:
    """Compare the problems that have ended in both runs. Raises ``RunError`` if a log cannot be read."""
    others = {problem.key: problem for problem in b.problems() if problem.end is not None}
    shared: list[Key] = []
    partings: list[FirstDifference] = []
    only_a = 0
    for problem in a.problems():
        if problem.end is None or problem.key not in others:
            only_a += problem.end is not None
            continue
        shared.append(problem.key)
        parting = _parting(problem, others[problem.key])
        partings += [parting] if parting is not None else []
    return RunDiff(
        a=str(a.path),
        b=str(b.path),
        identity=tuple(differences(a.started.identity, b.started.identity, ("in A", "in B"))),
        same=len(shared) - len(partings),
        partings=tuple(partings),
        only_a=only_a,
        only_b=len(others) - len(shared),
        answers=_answers(a, b, shared),
    )


def _parting(a: ProblemHistory, b: ProblemHistory) -> FirstDifference | None:
    for step, (one, other) in enumerate(zip_longest(stories(a), stories(b))):
        if one is None or other is None or one.text != other.text:
            return FirstDifference(*a.key, step, _kept(one), _kept(other))
    return None


def _kept(story: Story | None) -> KeptStep | None:
    return None if story is None else KeptStep(story.author, story.text, story.decision)


def _answers(a: Run, b: Run, shared: list[Key]) -> AnswersDiff:
    right_a, right_b = ({key for key, grade in run.grades().items() if grade.right} for run in (a, b))
    both = sum(key in right_a and key in right_b for key in shared)
    only_a = sum(key in right_a for key in shared) - both
    only_b = sum(key in right_b for key in shared) - both
    return AnswersDiff(both, only_a, only_b, len(shared) - both - only_a - only_b)
