"""A workload for simulated servers: problems, steps and decisions, each a function of (seed, problem, step) alone.

Numbers of steps and lengths are log-normal, so that a few problems are much longer than most. Whether the draft of a
step is accepted is drawn for each step apart; real rejections cluster, which a workload of a recorded run has and this
one has not. The model that wrote the earlier steps changes neither the number of steps nor their lengths.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist

from actors.seeds import unit_draw
from protocols.messages import Task
from protocols.ports import Generation, GenerationRequest, Policy, ScoreRequest
from protocols.records import Limits, Record, Transcript, Usage


class LogNormal(Record, frozen=True):
    """Whole numbers from 1 to ``most``: exp(ln ``median`` + ``sigma`` · N(0, 1)), rounded."""

    median: float
    sigma: float
    most: int

    def at(self, share: float) -> int:
        """The number below which the given share, 0 to 1, of all numbers lies."""
        normal = NormalDist().inv_cdf(min(max(share, 1e-15), 1 - 1e-15))
        return min(max(round(self.median * math.exp(self.sigma * normal)), 1), self.most)


class World(Record, frozen=True):
    """So many ``problems``; a draft step is accepted with probability ``acceptance``.

    The lengths are tokens. The defaults are stated, not measured: they are of the size of competition problems
    answered at length (15 steps and 850 tokens in the mean), within the limits of the usual runs (100 steps,
    1,024 tokens a step).
    """

    problems: int = 256
    acceptance: float = 0.7
    seed: int = 0
    steps: LogNormal = LogNormal(12, 0.7, 100)
    step_tokens: LogNormal = LogNormal(40, 0.8, 1024)
    question_tokens: LogNormal = LogNormal(100, 0.5, 1024)

    def names(self) -> list[str]:
        """The ids of the problems."""
        return [f"problem-{number}" for number in range(self.problems)]

    def tasks(self, policy: Policy) -> Iterator[Task]:
        """The problems, whose limits cut nothing."""
        most = self.steps.most * self.step_tokens.most
        limits = Limits(max_steps=self.steps.most, max_tokens=most, step_tokens=self.step_tokens.most)
        return (Task(name, self.question(name), policy, limits, seed=self.seed) for name in self.names())

    def question(self, problem: str) -> Transcript:
        """The problem before its first step."""
        return Transcript(f"{problem} {self.question_tokens.at(self._drawn(problem, 0, 'question'))}")

    def length(self, problem: str) -> int:
        """Steps of the problem."""
        return self.steps.at(self._drawn(problem, 0, "steps"))

    def accepted(self, problem: str, step: int) -> bool:
        """Whether the draft of a step is kept."""
        return self._drawn(problem, step, "accept") < self.acceptance

    def write(self, request: GenerationRequest) -> Generation:
        """The script of a generator, draft or target."""
        problem, step, role = request.problem, request.step, request.role
        tokens = self.step_tokens.at(self._drawn(problem, step, f"{role} {request.sample}"))
        ending = "end" if step == self.length(problem) - 1 else "separator"
        return Generation(f"{role} {step}.{request.sample} {tokens}", ending, Usage(completion_tokens=tokens))

    def rate(self, request: ScoreRequest) -> float:
        """The script of a scorer on either scale, by which a threshold of 0.5 accepts exactly the drawn steps.

        The target's steps have a process reward between those of accepted and of rejected drafts.
        """
        if request.author == "target":
            return 0.5
        kept = self.accepted(request.problem, request.step)
        return float(kept if request.scale == "prm" else not kept)

    def _drawn(self, problem: str, step: int, purpose: str) -> float:
        return unit_draw(self.seed, problem, step, f"world {purpose}")


def tokens_of(text: str) -> int:
    """Tokens of a text of the world, a question or a step: its last word says so."""
    return int(text.rpartition(" ")[2])
