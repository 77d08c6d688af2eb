"""The answer alone of a solution, as the grader finds it."""

import msgspec

from arbiter.backends.opening import AnswerForm
from arbiter.data import Problem
from arbiter.grading.choice_grader import ChoiceGrader, find_choices
from arbiter.grading.phrases import FoundAnswer, find_answer
from arbiter.grading.text_grader import TextGrader, find_text
from arbiter.protocols.records import Solution
from arbiter.runs.graders import grading_request
from arbiter.structured.thoughts import divided_answer


def with_answer(
    solution: Solution, question: object, grader: str | None, form: AnswerForm, in_thought: bool = False
) -> Solution:
    """Return ``solution`` with its ``answer`` and its ``json``; those of a failed problem stay None.

    ``question`` is what was asked; a ``Problem`` may have choices. ``grader`` is the name of the configured grader;
    None for that of the problem. ``in_thought`` is True if the answer begins within a thought.
    """
    if solution.finish_reason == "failed":
        return solution
    problem = question if isinstance(question, Problem) else Problem(solution.problem, solution.question)
    found = _found(solution, problem, grader or (ChoiceGrader.name if problem.choices else None), form)
    answer = None if found is None else found.text
    return msgspec.structs.replace(solution, answer=answer, json=_json_of(solution, in_thought))


def _json_of(solution: Solution, in_thought: bool) -> str | None:
    """Return the JSON text of an answer that fits its schema; None if it had none, or does not fit it."""
    fits = bool(solution.steps) and solution.steps[-1].kept.valid is True and not solution.tool_calls
    content = divided_answer(solution.text, in_thought).content if fits else None
    return None if content is None else content.strip()


def _found(solution: Solution, problem: Problem, grader: str | None, form: AnswerForm) -> FoundAnswer | None:
    request = grading_request(solution, problem, *form)
    if request.conclusion is None:
        return None
    if grader == ChoiceGrader.name:
        return find_choices(request.conclusion, request)
    if grader == TextGrader.name:
        return find_text(request.conclusion, request)
    return find_answer(request.conclusion, request.asked)
