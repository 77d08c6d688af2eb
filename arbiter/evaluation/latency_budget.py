"""Simulate how many steps may be escalated within a latency budget."""

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
"""The simulated acceptance rates, in the order of increasing escalation."""


def escalation_within(
    seconds: float,
    config: Config,
    policy: Policy,
    hardware: Hardware,
    world: SyntheticWorkload,
    done: Callable[[], None],
) -> float:
    """Return the largest share of steps escalated, 0 to 1, at which the mean latency of a problem is ``seconds``.

    The synthetic workload ``world`` is simulated at each of ``ACCEPTANCES``, with concurrency, ``lookahead`` and
    ``verify`` of ``config``. Between them the result is interpolated linearly. ``done`` is called when a simulated
    problem ends. Raises ``DataError`` if even the draft alone takes longer.
    """
    chosen = config.with_run_type(policy, "--policy")
    plan = CasePlan(chosen, hardware, world, None)
    limits = chosen.limits
    cases = [Case(limits.problems, chosen.lookahead, chosen.verify, rate, chosen.block) for rate in ACCEPTANCES]
    means = [plan.simulate(case, done).latency.mean for case in cases]
    share = first_reached([1 - rate for rate in ACCEPTANCES], np.array(means), seconds, is_cost=True)
    if np.isnan(share):
        raise DataError(
            f"--latency {seconds:g}: a simulated problem takes {means[0]:.3g} s even without escalation. "
            "Allow more seconds, use a faster draft (--draft), or fewer concurrent problems (limits.problems)"
        )
    return share
