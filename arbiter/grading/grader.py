"""Is an answer right? Boxed extraction, then ``math-verify`` in a worker process.

``math-verify`` parses with sympy and guards itself with signals, so it runs in processes of its own, never on
the event loop or in a thread, with a deadline from outside and a cap on what it is given. What cannot be
judged is ungraded, with the reason, and never wrong in silence.
"""

import re
from contextlib import suppress

import anyio
import anyio.to_process
import msgspec

from arbiter.grading.answers import (
    Reference,
    as_reference,
    behind_thought,
    extract_answer,
    plain,
    same_words,
    split_answers,
)
from arbiter.grading.equivalence import EquivalenceVerdict, judge
from arbiter.protocols.records import Solution

LONGEST = 2000
SECONDS = 20.0

_READY_SECONDS = 120.0
_FIRST = ("1", Reference(("1.0",)))  # what a worker judges to become ready
_NO_REFERENCE = "the problem has no reference answer"
_WHOLE_NUMBER = re.compile(r"-?\d{1,15}")


class Grade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``right`` is None where the answer could not be judged; ``reason`` says why not, or why it is wrong."""

    right: bool | None
    answer: str | None = None
    reason: str | None = None


def needs_mathematics(reference: str | Reference | None) -> bool:
    """Whether answers to it may have to be compared as mathematics, in a worker."""
    return reference is not None and not (isinstance(reference, str) and _WHOLE_NUMBER.fullmatch(reference.strip()))


class Grader:
    """Grades answers, ``workers`` at a time at the most. An answer may take ``seconds`` once a worker is free.

    The workers are processes that import the main module: a script that grades must start its work below
    ``if __name__ == "__main__":``.
    """

    def __init__(self, workers: int = 2, seconds: float = SECONDS) -> None:
        self._workers = workers
        self._seconds = seconds
        self._turns = anyio.CapacityLimiter(workers)
        self._processes = anyio.CapacityLimiter(workers)

    async def warm(self) -> None:
        """Start the workers, which takes seconds, so that the first answers need not wait. Raises nothing."""
        async with anyio.create_task_group() as starting:
            for _ in range(self._workers):
                starting.start_soon(self._start_worker)

    async def grade_solution(self, solution: Solution, reference: str | Reference | None) -> Grade:
        """Grade how a problem ended; one that failed is ungraded, with its error."""
        if solution.finish_reason == "failed":
            return Grade(right=None, reason=solution.error)
        return await self.grade(solution.text, reference)

    async def grade(self, text: str, reference: str | Reference | None) -> Grade:
        """Grade a solution's whole text against the reference answer."""
        conclusion = behind_thought(text)
        if conclusion is None:
            return _missing("a thought never ends (there is no </think>), so there is no answer", reference)
        answer = extract_answer(conclusion)
        if answer is None:
            return _missing("there is no boxed answer", reference)
        if reference is None:
            return Grade(right=None, answer=answer[:LONGEST], reason=_NO_REFERENCE)
        if _is_list(reference) and len(split_answers(answer)) == 1:
            answer = extract_answer(conclusion, several=True) or answer
        if answer == str(reference).strip():
            return Grade(right=True, answer=answer)
        if max(len(answer), len(str(reference))) > LONGEST:
            whose = "answer" if len(answer) > LONGEST else "reference answer"
            return Grade(right=None, answer=answer[:LONGEST], reason=f"the {whose} is longer than {LONGEST} characters")
        known = _at_sight(answer, reference) if isinstance(reference, str) else None
        verdict = (
            await self._judged(answer, as_reference(reference)) if known is None else EquivalenceVerdict(right=known)
        )
        return _told(verdict, answer, reference)

    async def _judged(self, answer: str, reference: Reference) -> EquivalenceVerdict:
        async with self._turns:  # waiting for a worker is no fault of the answer: the deadline begins behind it
            for _ in range(2):  # a worker may be killed from outside, by a lack of memory or a Ctrl-C at its start
                try:
                    with anyio.fail_after(self._seconds):
                        return await anyio.to_process.run_sync(
                            judge, answer, reference, cancellable=True, limiter=self._processes
                        )
                except TimeoutError:
                    return EquivalenceVerdict(right=None, reason=f"the grader took longer than {self._seconds:g} s")
                except (anyio.BrokenWorkerProcess, KeyboardInterrupt):  # the latter is the starting worker's, sent over
                    continue
                except Exception as error:  # a grader that crashes must not take the run with it
                    return EquivalenceVerdict(right=None, reason=f"the grader failed: {type(error).__name__}: {error}")
        return EquivalenceVerdict(right=None, reason="the grader's process died twice over this answer")

    async def _start_worker(self) -> None:
        with suppress(Exception, KeyboardInterrupt):  # an answer that needs the worker will tell
            async with self._turns:
                with anyio.move_on_after(_READY_SECONDS):
                    await anyio.to_process.run_sync(judge, *_FIRST, cancellable=True, limiter=self._processes)


def _missing(reason: str, reference: str | Reference | None) -> Grade:
    return Grade(right=None, reason=_NO_REFERENCE) if reference is None else Grade(right=False, reason=reason)


def _is_list(reference: str | Reference) -> bool:
    """Whether several answers are asked for, which may stand in a box each."""
    return len(as_reference(reference).answers) > 1 or (
        isinstance(reference, str) and len(split_answers(reference)) > 1
    )


def _at_sight(answer: str, reference: str) -> bool | None:
    """Whether the answer is right, where no worker is needed to see it."""
    if _WHOLE_NUMBER.fullmatch(answer) and _WHOLE_NUMBER.fullmatch(reference.strip()):
        return int(answer) == int(reference)
    return True if plain(answer) == plain(reference) else same_words(answer, reference)


def _told(verdict: EquivalenceVerdict, answer: str, reference: str | Reference) -> Grade:
    wrong = f"the right answer is {reference}" if verdict.right is False else verdict.reason
    return Grade(right=verdict.right, answer=answer, reason=wrong)
