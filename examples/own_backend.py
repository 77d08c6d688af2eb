"""A backend of one's own: a target that is no model, but a program that knows how to calculate.

The draft of the pocket models writes the steps, their router says which of them could be better, and those go to the
program below in the place of the target model. Run it with ``python examples/own_backend.py``.
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
    """Writes each step of a pocket problem as the question asks for it, whatever stands in the steps before."""

    async def generate(self, request: GenerationRequest) -> Generation:
        """The next step. Raises ``BackendError`` if the question is none of the pocket world's."""
        value, operations = understood(request.transcript.question)
        for kind, operand in operations[: request.step]:
            value = applied(kind, value, operand)
        if request.step < len(operations):
            kind, operand = operations[request.step]
            text, ending = f"{value}{kind}{operand}: {applied(kind, value, operand)}.", "separator"
        else:
            text, ending = f"The answer is \\boxed{{{value}}}.", "end"
        return Generation(text, ending, Usage(completion_tokens=len(text.split())))


def understood(question: str) -> tuple[int, list[tuple[str, int]]]:
    """The number to begin with, and what is done with it, one after another."""
    start = re.search(r"\d+", question)
    if start is None:
        raise BackendError(f"there is no number in {question!r}")
    done: list[tuple[int, str, int]] = []
    for kind, verbs in VERBS.items():
        signs = verbs if not question.startswith("Compute") else rf"{re.escape(kind)}(\d+)"
        said = re.finditer(signs, question)
        done += [(found.start(), kind, int(next(filter(None, found.groups())))) for found in said]
    return int(start[0]), [(kind, operand) for _, kind, operand in sorted(done)]


def applied(kind: str, value: int, operand: int) -> int:
    """``value`` after one operation."""
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


async def solved(arbiter: Arbiter, problems: list[Problem], threshold: float) -> str:
    """How many are solved, and how many steps the target wrote for it."""
    right = steps = written = 0
    answers = {problem.id: problem.answer for problem in problems}
    async for solution in arbiter.map(problems, threshold=threshold):
        right += f"\\boxed{{{answers[solution.problem]}}}" in solution.text
        steps += len(solution.steps)
        written += sum(step.kept.author == "target" for step in solution.steps)
    return f"{right} of {len(problems)} solved, {written} of {steps} steps by the target"


async def main() -> None:
    """The same problems with the target model, with the program in its place, and with more calls of the program."""
    problems = list(load_problems("pocket:1", 40))
    async with Arbiter.from_config("pocket", run_types=["router"]) as arbiter:
        print(f"model: {await solved(arbiter, problems, 0.5)}")
    models = Models(target=ModelHandle(Calculator()))
    async with Arbiter.from_config("pocket", models=models, run_types=["router"]) as arbiter:
        print(f"program: {await solved(arbiter, problems, 0.5)}")
        print(f"program, called more often: {await solved(arbiter, problems, 0.02)}")


if __name__ == "__main__":
    asyncio.run(main())
