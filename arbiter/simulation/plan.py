"""The cases of a what-if: a recorded or a stated workload at several concurrencies, acceptance rates, look-aheads."""

from collections.abc import Callable

from msgspec.structs import replace

from actors.policies import (
    DraftOnly,
    GenerateRows,
    LearnedRouter,
    Oracle,
    RandomEscalation,
    RewardThreshold,
    TargetOnly,
)
from arbiter.config import Config
from arbiter.run_tables import RunType
from arbiter.simulation.figures import Case, Figures
from arbiter.simulation.recorded import RecordedWorkload
from arbiter.simulation.study import Hardware, Study
from arbiter.simulation.workload import StatedWorkload, Workload
from arbiter.simulation.world import World
from protocols.ports import Policy


class Plan:
    """A workload, and the servers that it is put to. ``world`` is not used where there is a recorded workload."""

    def __init__(self, config: Config, hardware: Hardware, world: World, recorded: RecordedWorkload | None) -> None:
        limits = config.limits
        self._config = config
        self._hardware = hardware
        self._recorded = recorded
        self.world = replace(  # within the limits, so that none of its steps is cut
            world,
            steps=replace(world.steps, most=limits.max_steps),
            step_tokens=replace(world.step_tokens, most=limits.step_tokens),
        )

    @property
    def problems(self) -> int:
        return self._recorded.problems if self._recorded else self.world.problems

    def simulate(self, case: Case, done: Callable[[], None]) -> Figures:
        """The figures of a case; ``done`` is called as each problem ends."""
        workload = self._recorded or self._stated(case.acceptance)
        return Study(workload, self._hardware, case).run(done)

    def _stated(self, acceptance: float | None) -> Workload:
        config = self._config
        world = self.world if acceptance is None else replace(self.world, acceptance=acceptance)
        limits = replace(config.problem_limits(), deadline=None)
        return StatedWorkload(
            world, policy_for(config.run_type, world.acceptance), limits, config.problem_sampling(), config.audit
        )


def policy_for(run_type: RunType, acceptance: float) -> Policy:
    """The run type's policy with the threshold at which a world's scores accept what the world accepts."""
    match run_type:
        case "rsd":
            return RewardThreshold(0.5)
        case "router":
            return LearnedRouter(0.5)
        case "oracle":
            return Oracle(0.0)
        case "generate":
            return GenerateRows()
        case "random":
            return RandomEscalation(1 - acceptance)
        case "draft":
            return DraftOnly()
        case "target":
            return TargetOnly()
