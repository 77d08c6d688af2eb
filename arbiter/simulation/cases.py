"""Simulate a recorded or synthetic workload with several settings, such as concurrency and acceptance rate."""

from collections.abc import Callable

from msgspec.structs import replace

from arbiter.config.config import Config
from arbiter.config.run_tables import STEPPED, RunType
from arbiter.protocols.errors import ConfigError
from arbiter.simulation.recorded_workload import RecordedWorkload
from arbiter.simulation.simulation_results import Case, SimulationResult
from arbiter.simulation.study import Hardware, Study
from arbiter.simulation.synthetic_workload import SyntheticWorkload
from arbiter.simulation.workload import StatedWorkload, Workload

_BY_HISTORY: tuple[RunType, ...] = ("trigger", "paced", "pomdp")


class CasePlan:
    """A workload and the servers that it runs on. ``world`` is not used if there is a ``recorded`` workload."""

    def __init__(
        self, config: Config, hardware: Hardware, world: SyntheticWorkload, recorded: RecordedWorkload | None
    ) -> None:
        limits = config.limits
        self._config = config
        self._hardware = hardware
        self._recorded = recorded
        self.world = replace(  # within the limits, so that no step is cut
            world,
            steps=replace(world.steps, most=limits.max_steps),
            step_tokens=replace(world.step_tokens, most=limits.step_tokens),
        )

    @property
    def problems(self) -> int:
        return self._recorded.problems if self._recorded else self.world.problems

    def simulate(self, case: Case, done: Callable[[], None]) -> SimulationResult:
        """Return the figures of a case. ``done`` is called when a problem ends.

        Raises ``ConfigError`` for a block over a recorded run.
        """
        if self._recorded and case.block > 1:
            raise ConfigError(
                "block: a recorded run has no drafts after those that were rejected: simulate a synthetic workload "
                "(without --run), or set block to 1 (--block 1)"
            )
        workload = self._recorded or self._stated(case.acceptance)
        return Study(workload, self._hardware, case).run(done)

    def _stated(self, acceptance: float | None) -> Workload:
        config = self._config
        if config.run_type in _BY_HISTORY:
            raise ConfigError(
                f"the run type {config.run_type!r} decides by positions, texts or the history of a problem, and a "
                "synthetic workload states only a rate of acceptance: simulate a recorded run (--run)"
            )
        if config.step_offsets and config.run_type in STEPPED:
            raise ConfigError(
                "step_offsets: a synthetic workload has the same scores at every step: simulate a recorded run "
                "(--run), or leave step_offsets out"
            )
        world = self.world if acceptance is None else replace(self.world, acceptance=acceptance)
        limits = replace(config.problem_limits(), deadline=None)
        policy = _at(config, world.acceptance).policy()
        return StatedWorkload(world, policy, limits, config.problem_sampling(), config.audit)


def _at(config: Config, acceptance: float) -> Config:
    """Return ``config`` with the threshold at which the synthetic scores accept the share ``acceptance``."""
    halves = dict.fromkeys(("rsd", "router", "confidence", "judge", "glimpse"), 0.5)
    threshold = {**halves, "oracle": 0.0, "random": 1 - acceptance}.get(config.run_type)
    return config if threshold is None else config.with_threshold(threshold)
