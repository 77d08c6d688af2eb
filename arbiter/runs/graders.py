"""The graders of a run: open the configured one, and grade solutions with it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from arbiter.backends.judge_prompts import JUDGE_TEMPLATES, LEVELS
from arbiter.backends.opening import AnswerForm, message_form, open_generator
from arbiter.config.config import Config
from arbiter.config.model_tables import DraftHeadTable
from arbiter.data import Problem
from arbiter.data.known_sets import grader_of
from arbiter.grading.call_grader import CallGrader
from arbiter.grading.choice_grader import ChoiceGrader
from arbiter.grading.code.code_grader import CodeGrader
from arbiter.grading.code.sandboxes import Sandbox, SandboxLimits
from arbiter.grading.found_graders import find_grader, reads_row
from arbiter.grading.grader import Grade, Grader, GradingRequest
from arbiter.grading.judge_grader import JUDGE_PROMPT, SEPARATOR, JudgeGrader
from arbiter.grading.math_grader import MathGrader, needs_mathematics
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.protocols.records import Solution
from arbiter.runs.results import Result


class Graders:
    """Grades solutions with ``configured``.

    None: problems with choices by their choices, those that expect calls by their calls, the others as mathematics.

    ``notice`` is a line for the user at the start of a run, or None.
    """

    def __init__(self, configured: Grader | None = None, notice: str | None = None) -> None:
        self._configured = configured
        self.notice = notice
        self._math, self._choice, self._calls = MathGrader(), ChoiceGrader(), CallGrader()

    def of(self, problem: Problem) -> Grader:
        """Return the grader of a problem."""
        if self._configured is not None:
            return self._configured
        return self._choice if problem.choices else self._calls if problem.expects_calls else self._math

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
        solution.text,
        problem.answer,
        in_thought,
        prompt,
        solution.question,
        problem.choices,
        problem.row,
        problem.id,
        solution.tool_calls,
    )


@asynccontextmanager
async def open_graders(config: Config) -> AsyncGenerator[Graders]:
    """Yield the graders of the configuration. Raises ``ConfigError`` if they cannot be found or used."""
    name = grader_of(config)
    if name == CodeGrader.name:
        sandbox = _sandbox(config)
        unprotected = await sandbox.check()
        yield Graders(CodeGrader(sandbox), notice=unprotected)
    elif name == JudgeGrader.name:
        async with _open_judge(config) as judge:
            yield Graders(judge)
    else:
        yield Graders(None if name is None else find_grader(name))


@asynccontextmanager
async def _open_judge(config: Config) -> AsyncGenerator[JudgeGrader]:
    """Yield the judge with its model open. Raises ``ConfigError``, and ``BackendError`` as ``open_tables``."""
    chosen = config.data.judge
    table = config.models.configured().get(chosen.model)
    if table is None or isinstance(table, DraftHeadTable):
        raise ConfigError(
            f'the grader "judge" calls the model of the table [models.{chosen.model}] (data.judge.model), but there is '
            'none that writes text: add it, with prompt = "chat" or another prompt with {question}'
        )
    if table.prompt in (*JUDGE_TEMPLATES, LEVELS):
        table = msgspec.structs.replace(table, prompt="chat" if table.prompt == LEVELS else "plain")
    in_thought = (await message_form(chosen.model, table)).in_thought
    async with open_generator(chosen.model, table, config.cpu_threads, separator=SEPARATOR) as model:
        yield JudgeGrader(model, chosen.prompt or JUDGE_PROMPT, chosen.max_tokens, table.in_flight, in_thought)


def _sandbox(config: Config) -> Sandbox:
    table = config.data.sandbox
    limits = msgspec.convert(table, SandboxLimits, from_attributes=True)
    return Sandbox(table.kind, limits, table.python, table.image, table.workers, config.data.allow_unsandboxed)


def with_rows(config: Config, problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems with the rows that the configured grader reads: as JSON holds them, or none.

    So a grader reads the same from the data and from a run folder. Raises ``DataError`` if a row is no JSON.
    """
    reads = reads_row(grader_of(config))
    return [msgspec.structs.replace(problem, row=_as_json(problem) if reads else {}) for problem in problems]


def _as_json(problem: Problem) -> dict[str, Any]:
    try:
        return msgspec.json.decode(msgspec.json.encode(problem.row), type=dict[str, Any])
    except (TypeError, ValueError) as error:
        raise DataError(f"the row of the problem {problem.id!r} cannot be kept for its grader: {error}") from error
