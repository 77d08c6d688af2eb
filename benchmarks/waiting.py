"""An order in which requests get slots that the ring does not have, for ``benchmarks/schedules.py``.

The ring's own slots are unlimited in these schedules. ``Waiting`` is between the ring and the simulated servers, and
has as many slots for each writer as its server runs sequences. The request goes first whose problem has most seconds
left. This is list scheduling with lengths known beforehand. A ring cannot do it, because it does not know how many
steps a problem will have.
"""

from itertools import accumulate
from typing import Any

from msgspec.structs import replace
from simulated_fleet import WRITERS, Fleet

from arbiter.actors.ring_setup import Models
from arbiter.actors.slots import PrioritySemaphore
from arbiter.protocols.ports import Gather, Generation, GenerationRequest, ModelHandle, Proposal
from arbiter.simulation.synthetic_workload import SyntheticWorkload

_PROPOSAL = Proposal("", "separator")


class Waiting:
    """The writers of ``fleet`` behind slots by length, which are granted in groups if ``grouped``."""

    def __init__(self, fleet: Fleet, grouped: bool) -> None:
        self._fleet = fleet
        self._slots = {name: PrioritySemaphore(fleet.servers[name].speed.running, grouped) for name in WRITERS}
        self._left = {name: seconds_left(fleet, name) for name in fleet.world.names()}

    async def generate(self, request: GenerationRequest) -> Generation:
        slots = self._slots[request.author]
        await slots.take((-int(1e6 * self._left[request.problem][request.step]),))
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
