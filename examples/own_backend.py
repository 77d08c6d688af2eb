"""Your own backend: a target that is a program instead of a model.

The draft of the pocket models writes the steps, and their router predicts which steps the target would write better.
Those steps go to the program below. Run it with ``python examples/own_backend.py``.
"""

import asyncio
import re

from arbiter import Arbiter, BackendError, Problem, Usage, load_problems
from arbiter.extending import Generation, GenerationRequest, ModelHandle, Models

VERBS = {
    "+": r"Add (\d+)|finds (\d+) more|buys (\d+) more|brings (\d+) more",
    "-": r"Subtract (\d+)|loses (\d+)|gives away (\d+)|sells (\d+)",
    "*": r"Multiply by (\d+)|makes it (\d+) times|grows (\d+) times",
    "/": r"Divide by (\d+)|packs (\d+) equal boxes|among (\d+)",
    "mod": r"remainder by (\d+)|bags of (\d+)",
}


class Calculator:
    """Writes the correct step of a pocket problem, whatever the steps before it are."""

    async def generate(self, request: GenerationRequest) -> Generation:
        """Return the next step. Raises ``BackendError`` if the question is not a pocket problem."""
        value, operations = parse(request.transcript.question)
        for kind, operand in operations[: request.step]:
            value = apply(kind, value, operand)
        if request.step < len(operations):
            kind, operand = operations[request.step]
            text, ending = f"{value}{kind}{operand}: {apply(kind, value, operand)}.", "separator"
        else:
            text, ending = f"The answer is \\boxed{{{value}}}.", "end"
        return Generation(text, ending, Usage(completion_tokens=len(text.split())))


def parse(question: str) -> tuple[int, list[tuple[str, int]]]:
    """Return the first number of the question, and the operations on it in order."""
    start = re.search(r"\d+", question)
    if start is None:
        raise BackendError(f"there is no number in {question!r}")
    operations: list[tuple[int, str, int]] = []
    for kind, verbs in VERBS.items():
        pattern = verbs if not question.startswith("Compute") else rf"{re.escape(kind)}(\d+)"
        matches = re.finditer(pattern, question)
        operations += [(match.start(), kind, int(next(filter(None, match.groups())))) for match in matches]
    return int(start[0]), [(kind, operand) for _, kind, operand in sorted(operations)]


def apply(kind: str, value: int, operand: int) -> int:
    """Return ``value`` after one operation."""
    match kind:
        case "+":
            return value + operand
        case "-":
            return value - operand
        case "*":
            return value * operand
        case "/":
            return value // operand
        case _:
            return value % operand


async def solve_all(arbiter: Arbiter, problems: list[Problem], threshold: float) -> str:
    """Solve the problems. Return how many are solved and how many steps the target wrote, as text."""
    right = steps = written = 0
    answers = {problem.id: problem.answer for problem in problems}
    async for solution in arbiter.map(problems, threshold=threshold):
        right += f"\\boxed{{{answers[solution.problem]}}}" in solution.text
        steps += len(solution.steps)
        written += sum(step.kept.author == "target" for step in solution.steps)
    return f"{right} of {len(problems)} solved, {written} of {steps} steps by the target"


async def main() -> None:
    """Solve the same problems with the target model, with the program, and with more calls of the program."""
    problems = list(load_problems("pocket:1", 40))
    async with Arbiter.from_config("pocket", run_types=["router"]) as arbiter:
        print(f"model: {await solve_all(arbiter, problems, 0.5)}")
    models = Models(target=ModelHandle(Calculator()))
    async with Arbiter.from_config("pocket", models=models, run_types=["router"]) as arbiter:
        print(f"program: {await solve_all(arbiter, problems, 0.5)}")
        print(f"program, called more often: {await solve_all(arbiter, problems, 0.02)}")


if __name__ == "__main__":
    asyncio.run(main())
