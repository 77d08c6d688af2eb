"""The outcome of each problem of a run: the input of curves and of the comparison with both models alone."""

from collections.abc import Iterable, Sequence

from arbiter.protocols.records import Record
from arbiter.runs.results import Result


class ProblemOutcome(Record, frozen=True):
    """The outcome of a problem in a run.

    ``right`` is the share of right answers among the graded ones (None: none was graded). ``draft_steps`` of the
    ``steps`` kept steps are from the draft. ``target_tokens`` counts all tokens that the target wrote, kept or not.
    """

    problem: str
    right: float | None
    draft_steps: int
    steps: int
    seconds: float = 0.0
    target_tokens: int = 0


def outcomes_of(results: Iterable[Result]) -> list[ProblemOutcome]:
    """Return one outcome per problem. The steps of its samples are added up, seconds and tokens are averaged."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.solution.problem, []).append(result)
    return [_outcome(problem, samples) for problem, samples in found.items()]


def _outcome(problem: str, samples: Sequence[Result]) -> ProblemOutcome:
    grades = [sample.grade.right for sample in samples if sample.grade.right is not None]
    steps = [step for sample in samples for step in sample.solution.steps]
    request_counts = [sample.solution.requests.get("target") for sample in samples]
    tokens = sum(counts.usage.completion_tokens for counts in request_counts if counts)
    return ProblemOutcome(
        problem=problem,
        right=sum(grades) / len(grades) if grades else None,
        draft_steps=sum(step.kept.author == "draft" for step in steps),
        steps=len(steps),
        seconds=sum(sample.solution.seconds for sample in samples) / len(samples),
        target_tokens=round(tokens / len(samples)),
    )
