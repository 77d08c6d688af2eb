"""How often a problem may escalate within so many seconds, by the simulator."""

from collections.abc import Callable

import numpy as np

from arbiter.config.config import Config
from arbiter.evaluation.sweep_tuning import first_reached
from arbiter.evaluation.tuning import Policy
from arbiter.protocols.errors import DataError
from arbiter.simulation.cases import CasePlan
from arbiter.simulation.simulation_results import Case
from arbiter.simulation.study import Hardware
from arbiter.simulation.synthetic_workload import SyntheticWorkload

ACCEPTANCES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
"""The acceptance rates that are simulated, from the one that escalates least."""


def escalation_within(
    seconds: float,
    config: Config,
    policy: Policy,
    hardware: Hardware,
    world: SyntheticWorkload,
    done: Callable[[], None],
) -> float:
    """The greatest share of steps escalated, 0 to 1, with which a problem of ``world`` takes ``seconds`` in the mean.

    The workload is the stated one at each of ``ACCEPTANCES``, at the concurrency and the look-ahead of ``config``;
    between them the line is taken. ``done`` is called as each simulated problem ends. Raises ``DataError`` if it takes
    longer though the draft writes it all.
    """
    chosen = config.with_run_type(policy, "--policy")
    plan = CasePlan(chosen, hardware, world, None)
    cases = [Case(chosen.limits.problems, chosen.lookahead, chosen.verify, rate) for rate in ACCEPTANCES]
    means = [plan.simulate(case, done).latency.mean for case in cases]
    share = first_reached([1 - rate for rate in ACCEPTANCES], np.array(means), seconds, is_cost=True)
    if np.isnan(share):
        raise DataError(
            f"--latency {seconds:g}: a simulated problem takes {means[0]:.3g} s though the draft writes it all: "
            "allow more seconds, a faster draft (--draft), or fewer problems at once (limits.problems)"
        )
    return share
