"""Grade multiple choice: the letters of the choices that an answer names are compared."""

from arbiter.grading.answers import Reference
from arbiter.grading.choice_answers import Letters, named_choices, resolved_letters
from arbiter.grading.grader import LONGEST, Grade, GradingRequest, missing, right_answer_is
from arbiter.grading.phrases import FoundAnswer, find_answer

_NOT_NAMED = "the answer names none of the choices; "


class ChoiceGrader:
    """Grades answers that name choices by letter, by text or by number (``docs/reference/other-graders.md``).

    Several choices are required if the reference names several. Without the choices of the problem, only letters count.
    """

    name = "choice"
    version = 1

    async def grade(self, request: GradingRequest) -> Grade:
        """Grade the answer of a text."""
        if request.reference is None or request.conclusion is None:
            return missing(request)
        expected = resolved_letters(request.reference, request.choices)
        if expected is None:
            return Grade(right=None, reason=_not_a_choice(request.reference, request.choices))
        found = find_choices(request.conclusion, request, len(expected))
        if found is None:
            return missing(request)
        named = named_choices(found.text, request.choices, len(expected))
        reason = None if named == expected else _reason(named, expected, request.choices)
        return Grade(named == expected, found.text[:LONGEST], reason, found.by)


def find_choices(conclusion: str, request: GradingRequest, count: int = 1) -> FoundAnswer | None:
    """Return the answer in a box or after a phrase, or the whole text if it only names choices.

    ``count`` is the number of choices that are required.
    """
    found = find_answer(conclusion, request.asked, count)
    whole = conclusion.strip()
    if found is None and named_choices(whole, request.choices, count) is not None:
        return FoundAnswer(whole, "whole text")
    return found


def _reason(named: Letters | None, expected: Letters, choices: tuple[str, ...]) -> str:
    right = ", ".join(f"{letter} ({_text(letter, choices)})" if choices else letter for letter in sorted(expected))
    return ("" if named else _NOT_NAMED) + right_answer_is(right)


def _text(letter: str, choices: tuple[str, ...]) -> str:
    return choices[ord(letter) - ord("A")]


def _not_a_choice(reference: str | Reference, choices: tuple[str, ...]) -> str:
    what = "none of the choices" if choices else "no letter, and the problem has no choices"
    return f"the reference answer {str(reference)!r} is {what}"
