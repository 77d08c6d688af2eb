"""Grade answers: take the boxed answer, then compare it with ``math-verify`` in a worker process.

``math-verify`` parses with sympy and limits its time with signals. So it runs in separate processes, never on the
event loop or in a thread, with a deadline from outside and a limit on its input. An answer that cannot be judged is
ungraded, with the reason; it never counts silently as wrong.
"""

import re
from contextlib import suppress

import anyio
import anyio.to_process
import msgspec

from arbiter.grading.answers import (
    Reference,
    as_reference,
    extract_answer,
    plain,
    same_words,
    split_answers,
    text_after_thought,
)
from arbiter.grading.equivalence import EquivalenceVerdict, judge
from arbiter.protocols.records import Solution

LONGEST = 2000
SECONDS = 20.0

_READY_SECONDS = 120.0
_FIRST = ("1", Reference(("1.0",)))  # a new worker judges this to get ready
_NO_REFERENCE = "the problem has no reference answer"
_WHOLE_NUMBER = re.compile(r"-?\d{1,15}")


class Grade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grade. ``right`` is None if the answer could not be judged.

    ``reason`` says why it could not be judged, or why it is wrong.
    """

    right: bool | None
    answer: str | None = None
    reason: str | None = None


def needs_mathematics(reference: str | Reference | None) -> bool:
    """Return whether comparing answers with ``reference`` may need a worker."""
    return reference is not None and not (isinstance(reference, str) and _WHOLE_NUMBER.fullmatch(reference.strip()))


class Grader:
    """Grades up to ``workers`` answers concurrently. Once a worker is free, an answer may take ``seconds``.

    The workers are processes that import the main module. So a script that grades must start its work under
    ``if __name__ == "__main__":``.
    """

    def __init__(self, workers: int = 2, seconds: float = SECONDS) -> None:
        self._workers = workers
        self._seconds = seconds
        self._turns = anyio.CapacityLimiter(workers)
        self._processes = anyio.CapacityLimiter(workers)

    async def warm(self) -> None:
        """Start the workers, so that the first answers need not wait. Takes seconds; raises nothing."""
        async with anyio.create_task_group() as starting:
            for _ in range(self._workers):
                starting.start_soon(self._start_worker)

    async def grade_solution(
        self, solution: Solution, reference: str | Reference | None, in_thought: bool = False
    ) -> Grade:
        """Grade a solution. A failed problem is ungraded, with its error as the reason.

        ``in_thought`` is True if the model's prompt opens the thought with which the solution begins.
        """
        if solution.finish_reason == "failed":
            return Grade(right=None, reason=solution.error)
        return await self.grade(solution.text, reference, in_thought)

    async def grade(self, text: str, reference: str | Reference | None, in_thought: bool = False) -> Grade:
        """Grade the whole text of a solution against the reference answer. ``in_thought`` is as for a solution."""
        conclusion = text_after_thought(text, in_thought)
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
            which = "answer" if len(answer) > LONGEST else "reference answer"
            return Grade(right=None, answer=answer[:LONGEST], reason=f"the {which} is longer than {LONGEST} characters")
        known = _compare_texts(answer, reference) if isinstance(reference, str) else None
        verdict = (
            await self._judged(answer, as_reference(reference)) if known is None else EquivalenceVerdict(right=known)
        )
        return _grade(verdict, answer, reference)

    async def _judged(self, answer: str, reference: Reference) -> EquivalenceVerdict:
        async with self._turns:  # the deadline starts once a worker is free
            for _ in range(2):  # a worker may be killed from outside: out of memory, or Ctrl-C while it starts
                try:
                    await self._judge_first()  # the deadline does not include the start of a worker
                    with anyio.fail_after(self._seconds):
                        return await anyio.to_process.run_sync(
                            judge, answer, reference, cancellable=True, limiter=self._processes
                        )
                except TimeoutError:
                    return EquivalenceVerdict(right=None, reason=f"the grader took longer than {self._seconds:g} s")
                except (anyio.BrokenWorkerProcess, KeyboardInterrupt):  # the starting worker passes its own here
                    continue
                except Exception as error:  # a grader that crashes must not end the run
                    return EquivalenceVerdict(right=None, reason=f"the grader failed: {type(error).__name__}: {error}")
        return EquivalenceVerdict(right=None, reason="the grader's process died twice on this answer")

    async def _start_worker(self) -> None:
        with suppress(Exception, KeyboardInterrupt):  # the first answer that needs the worker reports the error
            async with self._turns:
                await self._judge_first()

    async def _judge_first(self) -> None:
        """Have a worker judge something easy; without an idle worker, one is started and imports what it needs."""
        with anyio.move_on_after(_READY_SECONDS):
            await anyio.to_process.run_sync(judge, *_FIRST, cancellable=True, limiter=self._processes)


def _missing(reason: str, reference: str | Reference | None) -> Grade:
    return Grade(right=None, reason=_NO_REFERENCE) if reference is None else Grade(right=False, reason=reason)


def _is_list(reference: str | Reference) -> bool:
    """Return whether the reference requires several answers. Each may be in its own box."""
    return len(as_reference(reference).answers) > 1 or (
        isinstance(reference, str) and len(split_answers(reference)) > 1
    )


def _compare_texts(answer: str, reference: str) -> bool | None:
    """Return whether the answer is right, or None if that needs a worker."""
    if _WHOLE_NUMBER.fullmatch(answer) and _WHOLE_NUMBER.fullmatch(reference.strip()):
        return int(answer) == int(reference)
    return True if plain(answer) == plain(reference) else same_words(answer, reference)


def _grade(verdict: EquivalenceVerdict, answer: str, reference: str | Reference) -> Grade:
    reason = f"the right answer is {reference}" if verdict.right is False else verdict.reason
    return Grade(right=verdict.right, answer=answer, reason=reason)
