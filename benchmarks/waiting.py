"""Orders in which requests get slots that the ring does not have, for ``benchmarks/schedules.py``.

The ring's own slots are unlimited in these schedules. ``Waiting`` is between the ring and the simulated servers, and
has as many slots for each writer as its server runs sequences.

- *By length*: the request goes first whose problem has most seconds left. This is list scheduling with lengths known
  beforehand. A ring cannot do it, because it does not know how many steps a problem will have.
- *In groups*: while requests wait, free slots are kept until ``group`` of them can be given at the same time. A server
  that stops decoding in order to read then reads these prompts in one pass. A ring could do it.
"""

import heapq
from itertools import accumulate, count
from typing import Any

import anyio
from msgspec.structs import replace
from simulated_fleet import WRITERS, Fleet

from arbiter.actors.ring_setup import Models
from arbiter.protocols.ports import Gather, Generation, GenerationRequest, ModelHandle, Proposal
from arbiter.simulation.synthetic_workload import SyntheticWorkload

_PROPOSAL = Proposal("", "separator")


class GroupedSlots:
    """``total`` slots, given in the order of ranks. Free slots are given when ``group`` of them are free.

    They are given sooner if fewer requests wait. A request that finds a free slot and no other request waiting gets it
    immediately.
    """

    def __init__(self, total: int, group: int) -> None:
        self._free = total
        self._group = group
        self._waiting: list[tuple[int, int, anyio.Event]] = []
        self._numbers = count()

    async def take(self, rank: int) -> None:
        """Wait for a slot, and keep it until ``give``. Smaller ranks go first."""
        granted = anyio.Event()
        heapq.heappush(self._waiting, (rank, next(self._numbers), granted))
        self._grant()
        await granted.wait()

    def give(self) -> None:
        """Return the slot."""
        self._free += 1
        self._grant()

    def _grant(self) -> None:
        if self._free < min(self._group, len(self._waiting)):
            return
        while self._waiting and self._free:
            self._free -= 1
            heapq.heappop(self._waiting)[2].set()


class Waiting:
    """The writers of ``fleet`` behind slots: ``by_length`` or by the age of the problem, in groups of ``group``."""

    def __init__(self, fleet: Fleet, by_length: bool, group: int) -> None:
        self._fleet = fleet
        self._slots = {name: GroupedSlots(fleet.servers[name].speed.running, group) for name in WRITERS}
        names = fleet.world.names() if by_length else ()
        self._left = {name: seconds_left(fleet, name) for name in names}

    async def generate(self, request: GenerationRequest) -> Generation:
        left = self._left.get(request.problem)
        slots = self._slots[request.author]
        await slots.take(request.order if left is None else -int(1e6 * left[request.step]))
        try:
            return await self._fleet.generate(request)
        finally:
            slots.give()

    def models(self, gather: Gather | None) -> Models:
        """Return the models for the ring, whose own slots never run out."""
        many = self._fleet.world.problems
        return Models(
            draft=ModelHandle[Any](self, many),
            target=ModelHandle[Any](self, many, gather=gather),
            scorers={"router": ModelHandle[Any](self._fleet, many)},
        )


def seconds_left(fleet: Fleet, problem: str) -> list[float]:
    """Return for each step the seconds from its start to the end of the problem, on idle servers.

    The contexts count as cached, and the target reads rejected drafts.
    """
    world, seconds = fleet.world, list[float]()
    draft, router, target = (fleet.servers[name].speed for name in ("draft", "router", "target"))
    context = 0
    for step in range(world.length(problem)):
        request = _request(world, problem, step)
        tokens = world.write(request).usage.completion_tokens
        spent = draft.alone(context, context, tokens) + router.alone(context + tokens, context, 0)
        if not world.accepted(problem, step):
            rewritten = world.write(replace(request, author="target", proposal=_PROPOSAL))
            spent += target.alone(context + tokens, context, 0)
            kept = rewritten.prefix_match.matched if rewritten.prefix_match else 0
            tokens = rewritten.usage.completion_tokens
            if (rest := tokens - kept - 1) > 0:
                spent += target.alone(context, context, rest)
        context += tokens
        seconds.append(spent)
    return list(accumulate(reversed(seconds)))[::-1]


def _request(world: SyntheticWorkload, problem: str, step: int) -> GenerationRequest:
    most = world.step_tokens.most
    return GenerationRequest(problem, step, 0, "draft", world.question(problem), "\n\n", most, 0.0, 1.0, 0)
