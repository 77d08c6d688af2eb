"""Grade the benchmarks' own solutions, and real outputs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_process
import msgspec
import pytest

from arbiter.data import Problem, load_problems
from arbiter.grading import Grade, GradingRequest, MathGrader
from arbiter.grading.answers import as_reference, plain
from arbiter.grading.equivalence import equal_mathematics

pytestmark = pytest.mark.slow

RealData = Callable[[str], Path]

SOLUTIONS_THAT_DISAGREE: dict[str, str] = {}
"""MATH500: none. Every solution's last box is its answer, to the letter."""

UNREADABLE = {
    "1965": "a sentence: a family of functions, whose parameters are described in words",
    "2045": "an interval whose 't \\in' has lost its '\\in': 't(0,4]'",
}
"""OlympiadBench: answers that cannot be read as mathematics, so that the texts decide."""

SAME_BY_CHANCE = {"test/algebra/1837.json": "its answer is 5, the next problem's x=5"}
"""Problems for which the next problem's answer is right too, although it is written differently."""


async def graded(texts: Sequence[tuple[Problem, str]]) -> dict[str, Grade]:
    grader, grades = MathGrader(), dict[str, Grade]()

    async def grade(problem: Problem, text: str) -> None:
        grades[problem.id] = await grader.grade(GradingRequest(text, problem.answer))

    async with anyio.create_task_group() as grading:
        for problem, text in texts:
            grading.start_soon(grade, problem, text)
    return grades


def not_right(grades: dict[str, Grade]) -> set[str]:
    return {name for name, grade in grades.items() if grade.right is not True}


def boxed(problem: Problem) -> str:
    """Return a solution that ends with the problem's own answer."""
    answer = problem.answer
    assert answer is not None
    return f"\\boxed{{{', '.join(as_reference(answer).answers)}}}"


@pytest.mark.asyncio
async def test_the_solutions_of_math500_are_right_but_for_known_ones(real_data: RealData) -> None:
    path = real_data("math500.jsonl")
    solutions = [msgspec.json.decode(line)["solution"] for line in path.read_bytes().splitlines()]
    grades = await graded(list(zip(load_problems(str(path)), solutions, strict=True)))
    wrong = not_right(grades)
    assert len(grades) == 500
    assert wrong == SOLUTIONS_THAT_DISAGREE.keys()


@pytest.mark.asyncio
async def test_the_answers_of_olympiadbench_are_right_in_a_box(real_data: RealData) -> None:
    problems = load_problems(str(real_data("olympiadbench.jsonl")))
    grades = await graded([(problem, boxed(problem)) for problem in problems])
    assert len(grades) == 675
    assert not_right(grades) == set()


@pytest.mark.asyncio
async def test_the_answers_of_olympiadbench_are_right_in_a_box_each_in_another_order(real_data: RealData) -> None:
    problems = load_problems(str(real_data("olympiadbench.jsonl")))
    several = [problem for problem in problems if len(as_reference(problem.answer or "").answers) > 1]
    texts = [
        (problem, " and ".join(f"$\\boxed{{{part}}}$" for part in reversed(as_reference(problem.answer or "").answers)))
        for problem in several
    ]
    assert len(texts) > 80
    assert not_right(await graded(texts)) == set()


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "unreadable"), [("math500", set[str]()), ("olympiadbench", set(UNREADABLE))])
async def test_the_answers_equal_themselves_as_mathematics_alone(
    real_data: RealData, name: str, unreadable: set[str]
) -> None:
    """Skip the comparisons of texts, which come first."""
    problems = load_problems(str(real_data(f"{name}.jsonl")))
    failed = await anyio.to_process.run_sync(unequal_to_themselves, problems)
    assert failed == unreadable


def unequal_to_themselves(problems: Sequence[Problem]) -> set[str]:
    """Runs in a worker."""
    return {problem.id for problem in problems if not _equals_itself(as_reference(problem.answer or "").answers)}


def _equals_itself(answers: Sequence[str]) -> bool:
    return all(equal_mathematics(answer, answer) for answer in answers)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["math500", "olympiadbench"])
async def test_another_problems_answer_is_wrong(real_data: RealData, name: str) -> None:
    problems = load_problems(str(real_data(f"{name}.jsonl")), 300)
    others = [*problems[1:], problems[0]]
    grades = await graded([(problem, boxed(other)) for problem, other in zip(problems, others, strict=True)])
    same = {
        problem.id
        for problem, other in zip(problems, others, strict=True)
        if plain(str(problem.answer)) == plain(str(other.answer))
    }
    assert {name for name, grade in grades.items() if grade.right} - same == (
        SAME_BY_CHANCE.keys() & {problem.id for problem in problems}
    )
    assert {name for name, grade in grades.items() if grade.right is None} == set()


@pytest.mark.asyncio
async def test_real_outputs_get_their_published_verdicts(real_data: RealData) -> None:
    lines = real_data("outputs.jsonl").read_bytes().splitlines()
    rows = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
    problems = [Problem(f"{row['problem']}/{row['sample']}", row["question"], row["gold"]) for row in rows]
    grades = await graded([(problem, row["text"]) for problem, row in zip(problems, rows, strict=True)])
    assert len(grades) == 70
    assert [grades[problem.id].right for problem in problems] == [row["right"] for row in rows]
