"""How often a reward model or a judge finds the first wrong step of a solution, measured as ProcessBench does.

A step whose score is below the threshold is predicted to be wrong. The first such step is compared with the first wrong
step of the annotation; for a right solution no step may be below the threshold.
"""

from collections.abc import Iterator, Sequence

import anyio

from arbiter.data.annotated_solutions import AnnotatedSolution
from arbiter.protocols.errors import ArbiterError, ContextTooLongError
from arbiter.protocols.ports import ModelHandle, Scorer, ScoreRequest
from arbiter.protocols.records import Record, ScoreKind, Step, Transcript

VERSION = 1

Scored = list[float] | ArbiterError
"""The scores in [0, 1] of the steps of a solution, or the error for which it has none."""


class FirstErrors(Record, frozen=True):
    """The figures of one scorer. Accuracies are shares in [0, 1]; None if there is no such solution.

    ``accuracy_wrong`` is the share of the wrong solutions whose first wrong step is found, ``accuracy_right`` that of
    the right ones in which no step is called wrong. ``f1`` is their harmonic mean. ``unscored`` solutions, which have
    no scores, count nowhere else.
    """

    data: str
    scorer: ScoreKind
    threshold: float
    wrong: int
    right: int
    accuracy_wrong: float | None
    accuracy_right: float | None
    f1: float | None
    unscored: int = 0
    version: int = VERSION


async def step_scores(
    solutions: Sequence[AnnotatedSolution], scorer: ModelHandle[Scorer], kind: ScoreKind, separator: str
) -> list[Scored]:
    """Return the scores of the steps of each solution, each step read after those before it.

    A request that fails leaves only its solution without scores. Raises an error of the model if no solution has any.
    """
    scores = [[0.0] * len(solution.steps) for solution in solutions]
    failed: dict[int, ArbiterError] = {}
    free = anyio.CapacityLimiter(scorer.in_flight)

    async def score(number: int, index: int) -> None:
        solution = solutions[number]
        before = tuple(Step(text, "draft") for text in solution.steps[:index])
        async with free:
            if number in failed:
                return
            request = ScoreRequest(
                problem=solution.id,
                step=index,
                score_kind=kind,
                transcript=Transcript(solution.question, before),
                candidate=solution.steps[index],
                author="draft",
                separator=separator,
            )
            try:
                scores[number][index] = (await scorer.port.score(request)).value
            except ArbiterError as error:
                failed.setdefault(number, error)

    async with anyio.create_task_group() as scoring:
        for number, solution in enumerate(solutions):
            for index in range(len(solution.steps)):
                scoring.start_soon(score, number, index)
    if failed and len(failed) == len(solutions):
        raise _of_all(list(failed.values()))
    return [failed.get(number, values) for number, values in enumerate(scores)]


def unscored_lines(scores: Sequence[Scored]) -> Iterator[str]:
    """Yield a line for each cause for which solutions have no scores, with their number."""
    errors = [one for one in scores if isinstance(one, ArbiterError)]
    others = [error for error in errors if not isinstance(error, ContextTooLongError)]
    if too_long := len(errors) - len(others):
        yield f"not scored: {too_long} of {len(scores)} solutions, which are longer than the context of the model"
    if others:
        yield f"not scored: {len(others)} of {len(scores)} solutions, whose requests failed; the first: {others[0]}"


def _of_all(errors: Sequence[ArbiterError]) -> ArbiterError:
    """Return the error of an evaluation in which every solution has one."""
    other = next((error for error in errors if not isinstance(error, ContextTooLongError)), None)
    return other or ContextTooLongError(
        "no solution can be scored: each is longer than the context of the model; evaluate a model with a longer "
        "context, or give --data shorter solutions"
    )


def first_errors(
    solutions: Sequence[AnnotatedSolution],
    scores: Sequence[Scored],
    threshold: float,
    data: str,
    kind: ScoreKind,
) -> FirstErrors:
    """Return the figures of ``scores``, which are those of ``solutions`` in their order."""
    found: dict[bool, list[bool]] = {True: [], False: []}
    for solution, values in zip(solutions, scores, strict=True):
        if isinstance(values, ArbiterError):
            continue
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
        unscored=len(solutions) - len(found[True]) - len(found[False]),
    )


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one + other else 0.0
