"""Many questions, so many at a time."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from itertools import count
from typing import Any

import anyio

from arbiter.library.questions import Question
from arbiter.library.streams import Done
from arbiter.protocols.errors import ClosedError
from arbiter.protocols.records import Solution

END = object()
"""Stands behind the last question."""

Take = Callable[[], Awaitable[Any]]
"""The next question, or ``END``."""


def taking(questions: Iterable[Question] | AsyncIterable[Question]) -> Take:
    """What takes one question after another. Raises ``TypeError`` if there is no iterating over them."""
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
    """Solve what ``take`` gives, ``most`` questions at a time, each taken when there is room for it.

    The first error comes out as itself, and cancels those that are on their way; after a ``ClosedError`` no more are
    taken, and those that are on their way may end.
    """
    errors: list[Exception] = []
    turn, begun = anyio.Lock(), count(1)

    async def work() -> None:
        is_last = next(begun) >= most
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
