"""Solutions whose thought is known: what the models thought, and what they answered after it."""

import msgspec

from arbiter.protocols.model_traits import ThoughtOpening
from arbiter.protocols.records import Solution, joined_steps
from arbiter.structured.thoughts import DividedAnswer, divided_answer, text_after_first_thought


def with_reasoning(solution: Solution, opening: ThoughtOpening | None) -> Solution:
    """Return ``solution`` with its ``reasoning`` and ``content``; those of a failed problem stay None.

    ``opening`` is as in ``divided_solution``.
    """
    if solution.finish_reason == "failed":
        return solution
    divided = divided_solution(solution, opening)
    return msgspec.structs.replace(solution, reasoning=divided.reasoning, content=divided.content)


def divided_solution(solution: Solution, opening: ThoughtOpening | None) -> DividedAnswer:
    """Return the thought and the content of an answer.

    ``opening`` says what may have opened a thought; None if the models write none.
    """
    return DividedAnswer("", solution.text) if opening is None else divided_answer(solution.text, opening == "prompt")


def reasoning_tokens(solution: Solution, opening: ThoughtOpening | None) -> int:
    """Return the tokens of the kept steps that are wholly a thought. ``opening`` is as in ``divided_solution``.

    The step with the end of the thought counts only if nothing follows in it, since its tokens cannot be told apart.
    """
    whole, position, tokens = joined_steps([step.kept for step in solution.steps], solution.separator), 0, 0
    after = whole if opening is None else text_after_first_thought(whole, opening == "prompt")
    end = len(whole) - len(after or "")
    for kept in (step.kept for step in solution.steps):
        if end and position + len(kept.content.rstrip()) <= end and not kept.calls:
            tokens += kept.usage.completion_tokens
        position += len(kept.content) + len(solution.separator) + len(kept.overrun)
    return tokens
