"""Workloads for simulated servers: problems, and the answers of the models, which do not depend on timing."""

from collections.abc import Iterator
from typing import Protocol

from msgspec.structs import replace

from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ScoreRequest
from arbiter.protocols.records import Limits, Sampling
from arbiter.simulation.synthetic_workload import SyntheticWorkload, tokens_of


class Workload(Protocol):
    """Problems, the scripted answers of their models, and the lengths of texts."""

    @property
    def problems(self) -> int:
        """The number of problems. Each sample of a problem counts as one."""
        ...

    def tasks(self) -> Iterator[Task]:
        """Return the problems as tasks."""
        ...

    def write(self, request: GenerationRequest) -> Generation:
        """Return the scripted answer of the draft or the target."""
        ...

    def rate(self, request: ScoreRequest) -> float:
        """Return the scripted score."""
        ...

    def measure(self, text: str) -> int:
        """Return the number of tokens of a question or a step."""
        ...


class StatedWorkload:
    """The problems of a synthetic workload under a policy. The limits of a configuration may cut them."""

    def __init__(
        self, world: SyntheticWorkload, policy: Policy, limits: Limits, sampling: Sampling, audit: float
    ) -> None:
        self._world = world
        self._policy = policy
        self._limits = limits
        self._sampling = sampling
        self._audit = audit
        self.problems = world.problems
        self.write = world.write
        self.rate = world.rate

    def tasks(self) -> Iterator[Task]:
        for task in self._world.tasks(self._policy):
            yield replace(task, limits=self._limits, sampling=self._sampling, audit=self._audit)

    def measure(self, text: str) -> int:
        return tokens_of(text)
