"""Simulated times of a run whose answers came in part from other runs, so that they could not be measured."""

from collections.abc import Mapping, Sequence

import msgspec

from arbiter.config.config import Config
from arbiter.log.history import Key, ProblemHistory
from arbiter.protocols.records import Candidate, Solution, StepRecord
from arbiter.replay.virtual_time import run_virtually
from arbiter.replay.whatif import Simulation


class Simulated(msgspec.Struct, frozen=True):
    """The seconds of each problem or sample from start to end, and the makespan of all of them (``together``)."""

    each: Mapping[Key, float]
    together: float


def simulate(problems: Sequence[ProblemHistory], config: Config) -> Simulated:
    """Replay finished problems in virtual time, at the configured concurrency, and return their times.

    Every request takes as long as it took at its model. Must not be called inside an event loop.
    """
    simulation = Simulation(problems, config, {})
    run_virtually(simulation.run)
    each = {key: round(solution.seconds, 6) for key, solution in simulation.solutions.items()}
    return Simulated(each, simulation.seconds)


def timed_alone(solution: Solution, config: Config) -> Solution:
    """Return ``solution`` with the sum of its requests' seconds as its time. Concurrent requests count once.

    This time is shown while other problems still run.
    """
    concurrent = len(config.policy().proposers) > 1
    return msgspec.structs.replace(solution, seconds=round(sum(_taken(step, concurrent) for step in solution.steps), 6))


def _taken(step: StepRecord, concurrent: bool) -> float:
    written = [_written([step.draft] if step.draft else []), _written(step.targets)]
    return max(written) if concurrent else sum(written)


def _written(candidates: Sequence[Candidate]) -> float:
    writing = max((one.seconds for one in candidates), default=0.0)
    return writing + max((one.rating.seconds for one in candidates if one.rating), default=0.0)
