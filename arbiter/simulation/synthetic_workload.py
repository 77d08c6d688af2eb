"""A synthetic workload for simulated servers: all problems, steps and decisions depend only on (seed, problem, step).

Numbers of steps and lengths are log-normal, so a few problems are much longer than most. Whether a draft is accepted is
drawn independently for each step. Real rejections cluster: the workload of a recorded run has that, this one does not.
The author of earlier steps changes neither the number of steps nor their lengths.

How much of a draft the target keeps is drawn as well. The target's step consists of the kept tokens and new ones, or it
is the text of the draft. It is the same whether or not the target reads the draft.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist

from arbiter.actors.seeds import unit_draw
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ScoreRequest
from arbiter.protocols.records import Author, Limits, PrefixMatch, Record, Transcript, Usage


class LogNormal(Record, frozen=True):
    """A distribution of integers from 1 to ``most``: exp(ln ``median`` + ``sigma`` · N(0, 1)), rounded."""

    median: float
    sigma: float
    most: int

    def at(self, share: float) -> int:
        """Return the quantile at ``share``, 0 to 1."""
        normal = NormalDist().inv_cdf(min(max(share, 1e-15), 1 - 1e-15))
        return min(max(round(self.median * math.exp(self.sigma * normal)), 1), self.most)


class Quantiles(Record, frozen=True):
    """A distribution of shares, 0 to 1, given by equidistant quantiles from the smallest to the largest.

    Between quantiles it is linear. Of 11 quantiles, a value given twice in a row has a probability of one tenth.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise ``ConfigError`` if these are not quantiles of shares."""
        if len(self.values) < 2 or list(self.values) != sorted(self.values):
            raise ConfigError(f"give at least two quantiles in ascending order: {self.values}")
        if not 0 <= self.values[0] <= self.values[-1] <= 1:
            raise ConfigError(f"quantiles of shares must be from 0 to 1: {self.values}")

    def at(self, share: float) -> float:
        """Return the quantile at ``share``, 0 to 1."""
        position = share * (len(self.values) - 1)
        low = min(int(position), len(self.values) - 2)
        below, above = self.values[low : low + 2]
        return below if below == above else below + (position - low) * (above - below)


AGREEING = Quantiles((0.0, 0.41, 0.58, 0.58, 0.73, 0.74, 0.82, 1.0, 1.0, 1.0, 1.0))
"""The share of a rejected draft's tokens that the target's step begins with, as deciles.

Measured on the pocket models: 764 rejected drafts of 1,000 problems, the router at its default threshold
(``python benchmarks/matches.py --limit 1000``). For three tenths of the drafts, the target writes the same step.
"""


_UNSURE = 0.25  # the confidence of a draft that is not accepted, below the threshold of 0.5


class SyntheticWorkload(Record, frozen=True):
    """A workload of ``problems`` problems. A draft is accepted with probability ``acceptance``.

    Lengths are in tokens. The defaults, except ``AGREEING``, are assumed, not measured. They resemble competition
    problems with long answers (15 steps and 850 tokens on average), within the limits of usual runs (100 steps,
    1,024 tokens per step).
    """

    problems: int = 256
    acceptance: float = 0.7
    seed: int = 0
    steps: LogNormal = LogNormal(12, 0.7, 100)
    step_tokens: LogNormal = LogNormal(40, 0.8, 1024)
    question_tokens: LogNormal = LogNormal(100, 0.5, 1024)
    agreeing: Quantiles = AGREEING

    def names(self) -> list[str]:
        """Return the ids of the problems."""
        return [f"problem-{number}" for number in range(self.problems)]

    def tasks(self, policy: Policy) -> Iterator[Task]:
        """Return the problems as tasks, with limits that cut nothing."""
        most = self.steps.most * self.step_tokens.most
        limits = Limits(max_steps=self.steps.most, max_tokens=most, step_tokens=self.step_tokens.most)
        return (Task(name, self.question(name), policy, limits, seed=self.seed) for name in self.names())

    def question(self, problem: str) -> Transcript:
        """Return the transcript of a problem before its first step."""
        return Transcript(f"{problem} {self.question_tokens.at(self._drawn(problem, 0, 'question'))}")

    def length(self, problem: str) -> int:
        """Return the number of steps of the problem."""
        return self.steps.at(self._drawn(problem, 0, "steps"))

    def accepted(self, problem: str, step: int) -> bool:
        """Return whether the draft of a step is accepted."""
        return self._drawn(problem, step, "accept") < self.acceptance

    def agreed(self, problem: str, step: int, sample: int = 0) -> float:
        """Return the share of the draft's tokens that the target's step begins with. At 1 both texts are the same."""
        return self.agreeing.at(self._drawn(problem, step, f"agreement {sample}"))

    def write(self, request: GenerationRequest) -> Generation:
        """Return the scripted answer of a generator, draft or target."""
        problem, step, sample, most = request.problem, request.step, request.sample, request.max_tokens
        author, tokens = f"{request.author} {step}.{sample}", self._tokens(problem, step, request.author, sample)
        agreement = None
        if request.author == "target":
            proposed, share = self._tokens(problem, step, "draft", 0), self.agreed(problem, step, sample)
            agreed = int(share * proposed)
            if share == 1:
                author, tokens = f"draft {step}.0", proposed
            else:  # on average as long as without agreement
                tokens = agreed + max(round((1 - share) * tokens), 1)
            agreement = PrefixMatch(min(proposed, most), min(agreed, most)) if request.proposal else None
        ending = "end" if step == self.length(problem) - 1 else "separator"
        if tokens > most:
            tokens, ending = most, "limit"
        sure = None if request.confidence is None else 1.0 if self.accepted(problem, step) else _UNSURE
        usage = Usage(completion_tokens=tokens)
        return Generation(f"{author} {tokens}", ending, usage, prefix_match=agreement, confidence=sure)

    def rate(self, request: ScoreRequest) -> float:
        """Return the scripted score. With it, a threshold of 0.5 accepts exactly the steps that are drawn as accepted.

        All steps of the target have a process reward between those of accepted and rejected drafts.
        """
        if request.author == "target":
            return 0.5
        kept = self.accepted(request.problem, request.step)
        return float(not kept if request.score_kind == "router" else kept)

    def _tokens(self, problem: str, step: int, role: Author, sample: int) -> int:
        return self.step_tokens.at(self._drawn(problem, step, f"{role} {sample}"))

    def _drawn(self, problem: str, step: int, purpose: str) -> float:
        return unit_draw(self.seed, problem, step, f"world {purpose}")


def tokens_of(text: str) -> int:
    """Return the number of tokens of a synthetic question or step: the last word of the text."""
    return int(text.rpartition(" ")[2])
