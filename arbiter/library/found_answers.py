"""The answer alone of a solution, as the grader finds it."""

import msgspec

from arbiter.grading.answers import text_after_thought
from arbiter.grading.phrases import find_answer
from arbiter.protocols.records import Solution


def with_answer(solution: Solution) -> Solution:
    """Return ``solution`` with its ``answer``; that of a failed problem stays None."""
    if solution.finish_reason == "failed":
        return solution
    found = find_answer(text_after_thought(solution.text) or "", solution.question)
    return msgspec.structs.replace(solution, answer=None if found is None else found.text)
