"""What simulated servers are asked to do: problems, and what the models answer, whatever the timing."""

from collections.abc import Iterator
from typing import Protocol

from msgspec.structs import replace

from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Policy, ScoreRequest
from arbiter.protocols.records import Limits, Sampling
from arbiter.simulation.synthetic_workload import SyntheticWorkload, tokens_of


class Workload(Protocol):
    """Problems, the scripts of their models, and how long texts are."""

    @property
    def problems(self) -> int:
        """How many there are; each sample of a problem counts as one."""
        ...

    def tasks(self) -> Iterator[Task]:
        """The problems."""
        ...

    def write(self, request: GenerationRequest) -> Generation:
        """The script of the draft and of the target."""
        ...

    def rate(self, request: ScoreRequest) -> float:
        """The script of the scorers."""
        ...

    def measure(self, text: str) -> int:
        """Tokens of a question or a step."""
        ...


class StatedWorkload:
    """Problems of a world under a policy, within the limits of a configuration, which may cut them."""

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
