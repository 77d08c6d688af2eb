"""Grade answers of mathematics: find the answer, then compare it with the reference in a worker process.

Comparing may need much time and memory. So it runs in separate processes, never on the event loop or in a thread, with
limits on its CPU time, its memory and its input. An answer is ungraded, with the reason, only if the grader fails; it
never counts silently as wrong.
"""

import re
import time
from contextlib import suppress

import anyio
import anyio.to_process

from arbiter.grading.answers import Reference, as_reference, plain, same_words, split_answers
from arbiter.grading.choice_answers import named_choices, resolved_letters
from arbiter.grading.equivalence import EquivalenceVerdict, judge
from arbiter.grading.grader import LONGEST, NO_REFERENCE, Grade, GradingRequest, missing, right_answer_is
from arbiter.grading.limits import GRACE, over_limit
from arbiter.grading.phrases import FoundAnswer, find_answer

SECONDS = 10.0
VERSION = 2
"""The version of the rules. It changes when an answer may get another verdict."""

_HANGS = 1800.0  # wall seconds: only a worker that is stopped, or waits for nothing, takes as long
_TRIES = 3
_FIRST = ("1", Reference(("1.0",)), SECONDS)  # a new worker judges this to get ready
_WHOLE_NUMBER = re.compile(r"-?\d{1,15}")


def needs_mathematics(reference: str | Reference | None) -> bool:
    """Return whether comparing answers with ``reference`` may need a worker."""
    return reference is not None and not (isinstance(reference, str) and _WHOLE_NUMBER.fullmatch(reference.strip()))


class MathGrader:
    """Grades up to ``workers`` answers concurrently. Each may take ``seconds`` of CPU time.

    So grades do not depend on the load of the machine. The workers are processes that import the main module: a script
    that grades must start its work under ``if __name__ == "__main__":``.
    """

    name = "math"
    version = VERSION

    def __init__(self, workers: int = 2, seconds: float = SECONDS) -> None:
        self._workers = workers
        self._seconds = seconds
        self._processes = anyio.CapacityLimiter(workers)

    async def warm(self) -> None:
        """Start the workers, so that the first answers need not wait. Raises nothing."""
        async with anyio.create_task_group() as starting:
            for _ in range(self._workers):
                starting.start_soon(self._start_worker)

    async def grade(self, request: GradingRequest) -> Grade:
        """Grade the answer of a text. If the problem has choices, the letter of one and its text are equal."""
        conclusion, reference = request.conclusion, request.reference
        if conclusion is None:
            return missing(request)
        found = find_answer(conclusion, request.asked)
        if found is None:
            return missing(request)
        if reference is None:
            return Grade(right=None, answer=found.text[:LONGEST], reason=NO_REFERENCE, found_by=found.by)
        required = _required(reference)
        if required > 1 and len(split_answers(found.text)) == 1:
            found = find_answer(conclusion, request.asked, required) or found
        return _grade(await self._verdict_of(found.text, reference, request.choices), found, reference)

    async def _verdict_of(
        self, answer: str, reference: str | Reference, choices: tuple[str, ...]
    ) -> EquivalenceVerdict:
        expected = resolved_letters(reference, choices) if choices else None
        if expected is None:
            return await self._verdict(answer, reference)
        named = named_choices(answer, choices, count=len(expected))
        if named is not None or len(expected) > 1:
            return EquivalenceVerdict(right=named == expected)
        return await self._verdict(answer, choices[ord(next(iter(expected))) - ord("A")])

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


def _required(reference: str | Reference) -> int:
    """Return how many answers the reference requires. Each may be in its own box."""
    if isinstance(reference, str):
        return len(split_answers(reference, 1))
    return len(reference.answers)


def _grade(verdict: EquivalenceVerdict, found: FoundAnswer, reference: str | Reference) -> Grade:
    reason = verdict.reason or (right_answer_is(reference) if verdict.right is False else None)
    return Grade(right=verdict.right, answer=found.text[:LONGEST], reason=reason, found_by=found.by)
