"""Grade answers: find the answer in a solution, then compare it with the reference in a worker process.

Comparing may need much time and memory. So it runs in separate processes, never on the event loop or in a thread, with
limits on its CPU time, its memory and its input. An answer is ungraded, with the reason, only if the grader fails; it
never counts silently as wrong.
"""

import re
import time
from contextlib import suppress
from typing import Self

import anyio
import anyio.to_process
import msgspec

from arbiter.grading.answers import Reference, as_reference, plain, same_words, split_answers, text_after_thought
from arbiter.grading.equivalence import EquivalenceVerdict, judge
from arbiter.grading.limits import GRACE, over_limit
from arbiter.grading.phrases import FoundAnswer, find_answer
from arbiter.protocols.events import Graded
from arbiter.protocols.records import Solution

LONGEST = 2000
SECONDS = 10.0
VERSION = 2
"""The version of the rules. It changes when an answer may get another verdict."""

NO_REFERENCE = "the problem has no reference answer"
"""The reason of a grade that no grader could give."""

_HANGS = 1800.0  # wall seconds: only a worker that is stopped, or waits for nothing, takes as long
_TRIES = 3
_FIRST = ("1", Reference(("1.0",)), SECONDS)  # a new worker judges this to get ready
_WHOLE_NUMBER = re.compile(r"-?\d{1,15}")


class Grade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grade. ``right`` is None if the answer could not be judged.

    ``reason`` says why it could not be judged, or why it is wrong. ``found_by`` is the rule that found the answer
    (``FoundBy``). It is None without an answer, and for grades of earlier versions.
    """

    right: bool | None
    answer: str | None = None
    reason: str | None = None
    found_by: str | None = None

    @classmethod
    def recorded(cls, graded: Graded) -> Self:
        """Return the grade that a log has."""
        return cls(graded.right, graded.answer, graded.reason, graded.found_by)


def needs_mathematics(reference: str | Reference | None) -> bool:
    """Return whether comparing answers with ``reference`` may need a worker."""
    return reference is not None and not (isinstance(reference, str) and _WHOLE_NUMBER.fullmatch(reference.strip()))


class Grader:
    """Grades up to ``workers`` answers concurrently. Each may take ``seconds`` of CPU time.

    So grades do not depend on the load of the machine. The workers are processes that import the main module: a script
    that grades must start its work under ``if __name__ == "__main__":``.
    """

    def __init__(self, workers: int = 2, seconds: float = SECONDS) -> None:
        self._workers = workers
        self._seconds = seconds
        self._processes = anyio.CapacityLimiter(workers)

    async def warm(self) -> None:
        """Start the workers, so that the first answers need not wait. Raises nothing."""
        async with anyio.create_task_group() as starting:
            for _ in range(self._workers):
                starting.start_soon(self._start_worker)

    async def grade_solution(
        self, solution: Solution, reference: str | Reference | None, in_thought: bool = False, prompt: str = ""
    ) -> Grade:
        """Grade a solution. A failed problem is ungraded, with its error as the reason.

        ``in_thought`` is True if the model's prompt opens the thought with which the solution begins. ``prompt`` is the
        text of that prompt, to which the question is added: a phrase that it asks for is looked for first, after a box.
        """
        if solution.finish_reason == "failed":
            return Grade(right=None, reason=solution.error)
        return await self.grade(solution.text, reference, in_thought, f"{prompt}\n{solution.question}")

    async def grade(
        self, text: str, reference: str | Reference | None, in_thought: bool = False, prompt: str = ""
    ) -> Grade:
        """Grade the whole text of a solution against the reference answer. The rest is as for a solution."""
        conclusion = text_after_thought(text, in_thought)
        if conclusion is None:
            return _missing("a thought never ends (there is no </think>), so there is no answer", reference)
        found = find_answer(conclusion, prompt)
        if found is None:
            return _missing('there is no answer: no box, and no phrase such as "The final answer is"', reference)
        if reference is None:
            return Grade(right=None, answer=found.text[:LONGEST], reason=NO_REFERENCE, found_by=found.by)
        required = _required(reference)
        if required > 1 and len(split_answers(found.text)) == 1:
            found = find_answer(conclusion, prompt, required) or found
        return _grade(await self._verdict(found.text, reference), found, reference)

    async def _verdict(self, answer: str, reference: str | Reference) -> EquivalenceVerdict:
        if answer == str(reference).strip():
            return EquivalenceVerdict(right=True)
        if max(len(answer), len(str(reference))) > LONGEST:
            which = "answer" if len(answer) > LONGEST else "reference answer"
            return EquivalenceVerdict(False, f"the {which} is longer than {LONGEST} characters, and the texts differ")
        known = compare_texts(answer, reference) if isinstance(reference, str) else None
        return await self._judged(answer, as_reference(reference)) if known is None else EquivalenceVerdict(known)

    async def _judged(self, answer: str, reference: Reference) -> EquivalenceVerdict:
        for _ in range(_TRIES):  # a worker may be killed from outside: out of memory, or Ctrl-C while it starts
            async with self._processes:
                began = time.monotonic()
                verdict = await self._tried(answer, reference)
                # the system ends a worker that cannot be interrupted, and would end the next one as well
                if verdict is None and time.monotonic() - began >= self._seconds + GRACE:
                    return EquivalenceVerdict(right=None, reason=over_limit(self._seconds))
            if verdict is not None:
                return verdict
        return EquivalenceVerdict(right=None, reason=f"the grader's process died {_TRIES} times on this answer")

    async def _tried(self, answer: str, reference: Reference) -> EquivalenceVerdict | None:
        """Return the verdict of one worker; None if the worker died."""
        alone = anyio.CapacityLimiter(1)  # the caller holds its place among the workers
        try:
            with anyio.fail_after(_HANGS):
                return await anyio.to_process.run_sync(
                    judge, answer, reference, self._seconds, cancellable=True, limiter=alone
                )
        except TimeoutError:
            return EquivalenceVerdict(right=None, reason="a worker of the grader hangs")
        except (anyio.BrokenWorkerProcess, KeyboardInterrupt):  # the starting worker passes its own here
            return None
        except Exception as error:  # a grader that crashes must not end the run
            return EquivalenceVerdict(right=None, reason=f"the grader failed: {type(error).__name__}: {error}")

    async def _start_worker(self) -> None:
        # a start that is cancelled leaves its process behind; the first answer that needs the worker reports the error
        with suppress(Exception, KeyboardInterrupt), anyio.CancelScope(shield=True):
            await anyio.to_process.run_sync(judge, *_FIRST, cancellable=True, limiter=self._processes)


def compare_texts(answer: str, reference: str) -> bool | None:
    """Return whether the answer is right, or None if that needs a worker."""
    if _WHOLE_NUMBER.fullmatch(answer) and _WHOLE_NUMBER.fullmatch(reference.strip()):
        return int(answer) == int(reference)
    return True if plain(answer) == plain(reference) else same_words(answer, reference)


def _missing(reason: str, reference: str | Reference | None) -> Grade:
    return Grade(right=None, reason=NO_REFERENCE) if reference is None else Grade(right=False, reason=reason)


def _required(reference: str | Reference) -> int:
    """Return how many answers the reference requires. Each may be in its own box."""
    if isinstance(reference, str):
        return len(split_answers(reference, 1))
    return len(reference.answers)


def _grade(verdict: EquivalenceVerdict, found: FoundAnswer, reference: str | Reference) -> Grade:
    reason = verdict.reason or (f"the right answer is {reference}" if verdict.right is False else None)
    return Grade(right=verdict.right, answer=found.text[:LONGEST], reason=reason, found_by=found.by)
