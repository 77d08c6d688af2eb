"""How often a reward model or a judge finds the first wrong step of a solution, measured as ProcessBench does.

A step whose score is below the threshold is predicted to be wrong. The first such step is compared with the first wrong
step of the annotation; for a right solution no step may be below the threshold.
"""

from collections.abc import Sequence

import anyio

from arbiter.data.annotated_solutions import AnnotatedSolution
from arbiter.protocols.errors import ArbiterError
from arbiter.protocols.ports import ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Record, ScoreKind, Step, Transcript
from arbiter.servers.fleet import first_of

VERSION = 1


class FirstErrors(Record, frozen=True):
    """The figures of one scorer. Accuracies are shares in [0, 1]; None if there is no such solution.

    ``accuracy_wrong`` is the share of the wrong solutions whose first wrong step is found, ``accuracy_right`` that of
    the right ones in which no step is called wrong. ``f1`` is their harmonic mean.
    """

    data: str
    scorer: ScoreKind
    threshold: float
    wrong: int
    right: int
    accuracy_wrong: float | None
    accuracy_right: float | None
    f1: float | None
    version: int = VERSION


async def step_scores(
    solutions: Sequence[AnnotatedSolution], scorer: ModelHandle[Scorer], kind: ScoreKind, separator: str
) -> list[list[float]]:
    """Return the scores in [0, 1] of the steps of each solution, each step read after those before it.

    Raises the error of the first request that fails, as ``BackendError`` if the model raises one.
    """
    scores = [[0.0] * len(solution.steps) for solution in solutions]
    free = anyio.CapacityLimiter(scorer.in_flight)

    async def score(number: int, index: int) -> None:
        solution = solutions[number]
        before = tuple(Step(text, "draft") for text in solution.steps[:index])
        async with free:
            request = ScoreRequest(
                problem=solution.id,
                step=index,
                score_kind=kind,
                transcript=Transcript(solution.question, before),
                candidate=solution.steps[index],
                author="draft",
                separator=separator,
            )
            scores[number][index] = (await scorer.port.score(request)).value

    try:
        async with anyio.create_task_group() as scoring:
            for number, solution in enumerate(solutions):
                for index in range(len(solution.steps)):
                    scoring.start_soon(score, number, index)
    except BaseExceptionGroup as group:
        known = group.subgroup(ArbiterError)
        if known is None:
            raise
        raise first_of(known) from group
    return scores


def first_errors(
    solutions: Sequence[AnnotatedSolution],
    scores: Sequence[Sequence[float]],
    threshold: float,
    data: str,
    kind: ScoreKind,
) -> FirstErrors:
    """Return the figures of ``scores``: those of the steps of each solution, in [0, 1]."""
    found: dict[bool, list[bool]] = {True: [], False: []}
    for solution, values in zip(solutions, scores, strict=True):
        predicted = next((index for index, value in enumerate(values) if value < threshold), None)
        found[solution.wrong is None].append(predicted == solution.wrong)
    right, wrong = _share(found[True]), _share(found[False])
    return FirstErrors(
        data=data,
        scorer=kind,
        threshold=threshold,
        wrong=len(found[False]),
        right=len(found[True]),
        accuracy_wrong=wrong,
        accuracy_right=right,
        f1=None if right is None or wrong is None else _harmonic(right, wrong),
    )


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one + other else 0.0
