"""Blocks of steps with models in process, which keep what they have read: a request of its own costs no round trip."""

from collections.abc import Awaitable, Callable

import anyio

from arbiter.protocols.model_traits import next_request
from arbiter.protocols.ports import Generation, GenerationRequest, Score, ScoreRequest


async def written_in_turn(
    write: Callable[[GenerationRequest], Awaitable[Generation]], request: GenerationRequest, steps: int
) -> tuple[Generation, ...]:
    """Return up to ``steps`` steps, each written by ``write`` after the ones before it. Raises as ``write``."""
    written: list[Generation] = []
    while True:
        written.append(await write(request))
        if len(written) == steps or written[-1].stop_reason != "separator":
            return tuple(written)
        request = next_request(request, written[-1])


async def scored_together(
    score: Callable[[ScoreRequest], Awaitable[Score]], requests: tuple[ScoreRequest, ...]
) -> tuple[Score, ...]:
    """Return the score of each request. All are requested together, for one batch to read them. Raises as ``score``."""
    scores: dict[int, Score] = {}
    errors: list[Exception] = []

    async def one(index: int) -> None:
        try:
            scores[index] = await score(requests[index])
        except Exception as error:  # raised below, without a group around it
            errors.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for index in range(len(requests)):
            tasks.start_soon(one, index)
    if errors:
        raise errors[0]
    return tuple(scores[index] for index in range(len(requests)))
