"""Is an answer right? Boxed extraction, then ``math-verify`` in a worker process.

``math-verify`` parses with sympy and guards itself with signals, so it runs in processes of its own, never on
the event loop or in a thread, with a deadline from outside and a cap on what it is given. What cannot be
judged is ungraded, with the reason, and never wrong in silence.
"""

import re
from typing import Any

import anyio
import anyio.to_process
import msgspec

LONGEST = 2000
SECONDS = 20.0

_BOX = "\\boxed{"
_WHOLE_NUMBER = re.compile(r"-?\d{1,15}")


class Grade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``right`` is None where the answer could not be judged; ``reason`` says why not, or why it is wrong."""

    right: bool | None
    answer: str | None = None
    reason: str | None = None


def extract_answer(text: str) -> str | None:
    """What stands in the last ``\\boxed{…}`` of ``text``, nested braces included; None if there is no whole box."""
    start = text.rfind(_BOX)
    while start >= 0:
        inside = _to_closing_brace(text, start + len(_BOX))
        if inside is not None:
            return inside.strip()
        start = text.rfind(_BOX, 0, start)
    return None


def _to_closing_brace(text: str, start: int) -> str | None:
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return None


class Grader:
    """Grades answers, ``workers`` at a time at the most."""

    def __init__(self, workers: int = 2) -> None:
        self._limiter = anyio.CapacityLimiter(workers)

    async def grade(self, text: str, reference: str | None) -> Grade:
        """Grade a solution's whole text against the reference answer."""
        answer = extract_answer(text)
        if reference is None:
            return Grade(right=None, answer=answer, reason="the problem has no reference answer")
        if answer is None:
            return Grade(right=False, reason="there is no boxed answer")
        if answer == reference.strip():
            return Grade(right=True, answer=answer)
        if _WHOLE_NUMBER.fullmatch(answer) and _WHOLE_NUMBER.fullmatch(reference.strip()):
            return _judged(int(answer) == int(reference), answer, reference)
        if len(answer) > LONGEST:
            return Grade(right=None, answer=answer[:LONGEST], reason=f"the answer is longer than {LONGEST} characters")
        return await self._verified(answer, reference)

    async def _verified(self, answer: str, reference: str) -> Grade:
        try:
            with anyio.fail_after(SECONDS):
                right = await anyio.to_process.run_sync(
                    equivalent, answer, reference, cancellable=True, limiter=self._limiter
                )
        except TimeoutError:
            return Grade(right=None, answer=answer, reason=f"the grader took longer than {SECONDS:.0f} s")
        except Exception as error:  # a grader that crashes must not take the run with it
            return Grade(right=None, answer=answer, reason=f"the grader failed: {type(error).__name__}: {error}")
        return _judged(right, answer, reference)


def _judged(right: bool, answer: str, reference: str) -> Grade:
    return Grade(right=right, answer=answer, reason=None if right else f"the right answer is {reference}")


def equivalent(answer: str, reference: str) -> bool:
    """Whether two answers are the same mathematically. Runs in a worker process."""
    # seconds of imports, which the worker alone pays
    from math_verify import parse, verify  # pyright: ignore

    read: Any = parse
    return bool(verify(read(f"\\boxed{{{reference}}}"), read(f"\\boxed{{{answer}}}")))
