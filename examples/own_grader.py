"""Your own grader: the last number of the text is the answer, in a box or not.

A grader is a function that receives a ``GradingRequest`` and returns a ``Grade``. It must depend on nothing but its
request. Name it in a configuration (``[data] grader = "own_grader:last_number"``), and ``bench``, ``sweep``, ``grade``
and ``replay`` use it. Run this program with ``python examples/own_grader.py``.
"""

import asyncio
import re

from arbiter import Arbiter, Grade, Grader, GradingRequest, load_problems
from arbiter.extending import FunctionGrader, find_grader, grading_request

_NUMBER = re.compile(r"-?\d+")


def last_number(request: GradingRequest) -> Grade:
    """Compare the last whole number of the text with the reference."""
    if request.reference is None:
        return Grade(right=None, reason="the problem has no reference answer")
    numbers = _NUMBER.findall(request.conclusion or "")
    if not numbers:
        return Grade(right=False, reason="there is no number in the text")
    right = int(numbers[-1]) == int(str(request.reference))
    return Grade(right, numbers[-1], None if right else f"the right answer is {request.reference}")


async def main() -> None:
    """Grade the same solutions, and then shorter ones without a box, with both graders."""
    problems = load_problems("pocket:1", 20)
    graders: tuple[Grader, ...] = find_grader("math"), FunctionGrader("last number", last_number)
    async with Arbiter.from_config("pocket", run_types=["target"]) as arbiter:
        solutions = {one.problem: one async for one in arbiter.map(problems, run_type="target")}
    for grader in graders:
        grades = [await grader.grade(grading_request(solutions[problem.id], problem)) for problem in problems]
        bare = [await grader.grade(GradingRequest(f"It is {problem.answer}", problem.answer)) for problem in problems]
        print(f"{grader.name}: {_right(grades)} of {len(grades)}, without a box {_right(bare)} of {len(bare)}")


def _right(grades: list[Grade]) -> int:
    return sum(grade.right is True for grade in grades)


if __name__ == "__main__":
    asyncio.run(main())
