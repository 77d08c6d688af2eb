"""The times of a run whose answers came from other runs: none of them was measured, and no answer was free."""

from collections.abc import Mapping, Sequence

import msgspec

from arbiter.config.config import Config
from arbiter.log.history import Key, ProblemHistory
from arbiter.protocols.records import Candidate, Solution, StepRecord
from arbiter.replay.virtual_time import run_virtually
from arbiter.replay.whatif import Simulation


class Simulated(msgspec.Struct, frozen=True):
    """Seconds of each problem (or sample) from its start to its end, and of all of them together."""

    each: Mapping[Key, float]
    together: float


def simulate(problems: Sequence[ProblemHistory], config: Config) -> Simulated:
    """Let the ring solve finished problems again in virtual time: every request takes the time that it took at its
    model, at the configured concurrency. Not inside of an event loop.
    """
    simulation = Simulation(problems, config, {})
    run_virtually(simulation.run)
    each = {key: round(solution.seconds, 6) for key, solution in simulation.solutions.items()}
    return Simulated(each, simulation.seconds)


def timed_alone(solution: Solution, config: Config) -> Solution:
    """``solution`` with the seconds of its requests alone, those made at once side by side: what is told of a problem
    while others are still going on.
    """
    at_once = len(config.policy().proposers) > 1
    return msgspec.structs.replace(solution, seconds=round(sum(_taken(step, at_once) for step in solution.steps), 6))


def _taken(step: StepRecord, at_once: bool) -> float:
    written = [_written([step.draft] if step.draft else []), _written(step.targets)]
    return max(written) if at_once else sum(written)


def _written(candidates: Sequence[Candidate]) -> float:
    writing = max((one.seconds for one in candidates), default=0.0)
    return writing + max((one.rating.seconds for one in candidates if one.rating), default=0.0)
