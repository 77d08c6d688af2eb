"""The answer alone of a solution, as the grader finds it."""

import msgspec

from arbiter.backends.opening import AnswerForm
from arbiter.data import Problem
from arbiter.grading.choice_grader import ChoiceGrader, find_choices
from arbiter.grading.phrases import FoundAnswer, find_answer
from arbiter.grading.text_grader import TextGrader, find_text
from arbiter.protocols.records import Solution
from arbiter.runs.graders import grading_request


def with_answer(solution: Solution, question: object, grader: str | None, form: AnswerForm) -> Solution:
    """Return ``solution`` with its ``answer`` and its ``json``; those of a failed problem stay None.

    ``question`` is what was asked; a ``Problem`` may have choices. ``grader`` is the name of the configured grader;
    None for that of the problem.
    """
    if solution.finish_reason == "failed":
        return solution
    problem = question if isinstance(question, Problem) else Problem(solution.problem, solution.question)
    found = _found(solution, problem, grader or (ChoiceGrader.name if problem.choices else None), form)
    answer = None if found is None else found.text
    return msgspec.structs.replace(solution, answer=answer, json=_json_of(solution))


def _json_of(solution: Solution) -> str | None:
    """Return the content of an answer that fits its schema; None if it had none, or does not fit it."""
    fits = bool(solution.steps) and solution.steps[-1].kept.valid is True and not solution.tool_calls
    return solution.content.strip() if fits and solution.content is not None else None


def _found(solution: Solution, problem: Problem, grader: str | None, form: AnswerForm) -> FoundAnswer | None:
    request = grading_request(solution, problem, *form)
    if request.conclusion is None:
        return None
    if grader == ChoiceGrader.name:
        return find_choices(request.conclusion, request)
    if grader == TextGrader.name:
        return find_text(request.conclusion, request)
    return find_answer(request.conclusion, request.asked)
