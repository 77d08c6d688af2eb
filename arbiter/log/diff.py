"""Compare two runs of the same problems: the first difference between their transcripts, and their answers."""

from itertools import zip_longest

from arbiter.log.explain import Story, stories
from arbiter.log.history import Key, ProblemHistory
from arbiter.log.identity import differences
from arbiter.log.run import Run
from arbiter.protocols.records import Author, Record


class KeptStep(Record, frozen=True):
    """A step that a run kept, and the reason."""

    author: Author
    text: str
    decision: str


class FirstDifference(Record, frozen=True):
    """The first step, counted from 0, at which the two transcripts of a problem differ.

    ``a`` and ``b`` are the steps that the two runs kept there; None if the problem had ended before this step.
    """

    problem: str
    sample: int
    step: int
    a: KeptStep | None
    b: KeptStep | None


class AnswersDiff(Record, frozen=True):
    """The number of problems answered right in both runs, only in A, only in B, and in neither."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    none: int = 0


class RunDiff(Record, frozen=True):
    """The comparison of two runs.

    ``identity`` has one line for each configuration value that decides results and differs. ``same`` counts the
    problems whose transcripts are equal, and ``differences`` lists the first difference of each other problem.
    Transcripts are equal if their steps have equal texts; the authors may differ. ``only_a`` and ``only_b`` count
    problems that have ended in only one of the runs.
    """

    a: str
    b: str
    identity: tuple[str, ...]
    same: int
    differences: tuple[FirstDifference, ...]
    only_a: int
    only_b: int
    answers: AnswersDiff


def compare(a: Run, b: Run) -> RunDiff:
    """Return the comparison of the problems that have ended in both runs.

    Raises ``RunError`` if a log cannot be read.
    """
    ended_in_b = {problem.key: problem for problem in b.problems() if problem.end is not None}
    shared: list[Key] = []
    found: list[FirstDifference] = []
    only_a = 0
    for problem in a.problems():
        if problem.end is None or problem.key not in ended_in_b:
            only_a += problem.end is not None
            continue
        shared.append(problem.key)
        difference = _first_difference(problem, ended_in_b[problem.key])
        found += [difference] if difference is not None else []
    return RunDiff(
        a=str(a.path),
        b=str(b.path),
        identity=tuple(differences(a.started.identity, b.started.identity, ("in A", "in B"))),
        same=len(shared) - len(found),
        differences=tuple(found),
        only_a=only_a,
        only_b=len(ended_in_b) - len(shared),
        answers=_answers(a, b, shared),
    )


def _first_difference(a: ProblemHistory, b: ProblemHistory) -> FirstDifference | None:
    for step, (in_a, in_b) in enumerate(zip_longest(stories(a), stories(b))):
        if in_a is None or in_b is None or in_a.text != in_b.text:
            return FirstDifference(*a.key, step, _kept(in_a), _kept(in_b))
    return None


def _kept(story: Story | None) -> KeptStep | None:
    return None if story is None else KeptStep(story.author, story.text, story.decision)


def _answers(a: Run, b: Run, shared: list[Key]) -> AnswersDiff:
    right_a, right_b = ({key for key, grade in run.grades().items() if grade.right} for run in (a, b))
    both = sum(key in right_a and key in right_b for key in shared)
    only_a = sum(key in right_a for key in shared) - both
    only_b = sum(key in right_b for key in shared) - both
    return AnswersDiff(both, only_a, only_b, len(shared) - both - only_a - only_b)
