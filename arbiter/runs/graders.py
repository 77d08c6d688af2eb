"""The graders of a run: open the configured one, and grade solutions with it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from arbiter.backends.opening import AnswerForm
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.grading.choice_grader import ChoiceGrader
from arbiter.grading.found_graders import find_grader
from arbiter.grading.grader import Grade, Grader, GradingRequest
from arbiter.grading.math_grader import MathGrader, needs_mathematics
from arbiter.protocols.records import Solution
from arbiter.runs.results import Result


class Graders:
    """Grades solutions with ``configured``. None: problems with choices by their choices, the others as mathematics."""

    def __init__(self, configured: Grader | None = None) -> None:
        self._configured = configured
        self._math, self._choice = MathGrader(), ChoiceGrader()

    def of(self, problem: Problem) -> Grader:
        """Return the grader of a problem."""
        return self._configured or (self._choice if problem.choices else self._math)

    async def warm(self, problems: Sequence[Problem]) -> None:
        """Start the processes that grade mathematics if the problems may need them. Raises nothing."""
        for problem in problems:
            grader = self.of(problem)
            if isinstance(grader, MathGrader) and needs_mathematics(problem.answer):
                await grader.warm()
                return

    async def result(self, solution: Solution, problem: Problem, form: AnswerForm) -> Result:
        """Grade a solution, and return its result. A failed problem is ungraded, with its error as the reason."""
        grader = self.of(problem)
        if solution.finish_reason == "failed":
            grade = Grade(right=None, reason=solution.error)
        else:
            grade = await grader.grade(grading_request(solution, problem, *form))
        return Result(solution, grade, problem.answer, grader.version, grader.name)


def grading_request(solution: Solution, problem: Problem, in_thought: bool = False, prompt: str = "") -> GradingRequest:
    """Return the request to grade ``solution``, an answer to ``problem``. The rest is as in ``GradingRequest``."""
    return GradingRequest(
        solution.text, problem.answer, in_thought, prompt, solution.question, problem.choices, problem.row, problem.id
    )


@asynccontextmanager
async def open_graders(config: Config) -> AsyncGenerator[Graders]:
    """Yield the graders of the configuration. Raises ``ConfigError`` if they cannot be found or used."""
    yield Graders(None if config.data.grader is None else find_grader(config.data.grader))


def reads_rows(config: Config) -> bool:
    """Return whether the configured grader reads the rows of the problems."""
    return config.data.grader is not None and find_grader(config.data.grader).reads_row
