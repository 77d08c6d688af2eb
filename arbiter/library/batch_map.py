"""Solves many questions with limited concurrency."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from itertools import count
from typing import Any

import anyio

from arbiter.library.questions import Question
from arbiter.library.streams import Done
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.records import Solution

END = object()
"""What a ``Take`` returns after the last question."""

Take = Callable[[], Awaitable[Any]]
"""Returns the next question, or ``END``."""


def taking(questions: Iterable[Question] | AsyncIterable[Question]) -> Take:
    """Return a function that takes one question after another. Raises ``TypeError`` for what is not iterable."""
    if isinstance(questions, AsyncIterable):
        later = aiter(questions)

        async def take_later() -> Question | object:
            return await anext(later, END)

        return take_later
    now = iter(questions)

    async def take_now() -> Question | object:
        return next(now, END)

    return take_now


async def solve_each(take: Take, solve: Callable[[Question], Awaitable[Solution]], done: Done, most: int) -> None:
    """Solve the questions that ``take`` returns, at most ``most`` at a time. ``done`` receives the solutions.

    A question is only taken when it can start. The first error is raised unchanged and cancels the questions in
    progress. After a ``ClosedError``, no more questions are taken, and those in progress may end.
    """
    errors: list[Exception] = []
    turn, started = anyio.Lock(), count(1)

    async def work() -> None:
        is_last = next(started) >= most
        try:
            while not errors:
                async with turn:
                    question = await take()
                if question is END:
                    return
                if not is_last:
                    is_last = True
                    workers.start_soon(work)
                await done(await solve(question))
        except ClosedError as error:
            errors.append(error)
        except Exception as error:
            errors.append(error)
            workers.cancel_scope.cancel()

    async with anyio.create_task_group() as workers:
        workers.start_soon(work)
    if errors:
        raise errors[0]
