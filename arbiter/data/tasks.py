"""Make tasks of the ring from problems."""

from arbiter.actors.seeds import sample_seed
from arbiter.config.config import Config
from arbiter.data.problems import Problem
from arbiter.protocols.messages import Task


def make_task(config: Config, problem: Problem, sample: int = 0) -> Task:
    """Return the ring's task for ``problem`` and the sample with the number ``sample``."""
    return Task(
        id=problem.id,
        transcript=problem.transcript,
        policy=config.policy(),
        limits=config.problem_limits(),
        sampling=config.problem_sampling(),
        separator=config.separator,
        seed=sample_seed(config.seed, sample),
        audit=config.audit,
        sample=sample,
        token_exact=config.token_exact,
    )
