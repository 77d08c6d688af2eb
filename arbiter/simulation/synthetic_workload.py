"""A workload for simulated servers: problems, steps and decisions, each a function of (seed, problem, step) alone.

Numbers of steps and lengths are log-normal, so that a few problems are much longer than most. Whether the draft of a
step is accepted is drawn for each step apart; real rejections cluster, which a workload of a recorded run has and this
one has not. The model that wrote the earlier steps changes neither the number of steps nor their lengths.

How far the target agrees with the draft of a step is drawn as well. Its step is the tokens agreed on and a tail of its
own, or the very text of the draft; it is the same whether or not the draft is proposed to it.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist

from arbiter.actors.seeds import unit_draw
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Policy, ScoreRequest
from arbiter.protocols.records import Author, Limits, PrefixMatch, Record, Transcript, Usage


class LogNormal(Record, frozen=True):
    """Whole numbers from 1 to ``most``: exp(ln ``median`` + ``sigma`` · N(0, 1)), rounded."""

    median: float
    sigma: float
    most: int

    def at(self, share: float) -> int:
        """The number below which the given share, 0 to 1, of all numbers lies."""
        normal = NormalDist().inv_cdf(min(max(share, 1e-15), 1 - 1e-15))
        return min(max(round(self.median * math.exp(self.sigma * normal)), 1), self.most)


class Quantiles(Record, frozen=True):
    """Shares, 0 to 1, by their quantiles at equal distances, from the smallest to the largest; linear in between.

    A value given twice in a row is as likely as their distance says: of 11 quantiles, a tenth.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if these are no quantiles of shares."""
        if len(self.values) < 2 or list(self.values) != sorted(self.values):
            raise ConfigError(f"quantiles are two numbers or more that do not fall: {self.values}")
        if not 0 <= self.values[0] <= self.values[-1] <= 1:
            raise ConfigError(f"quantiles of shares lie between 0 and 1: {self.values}")

    def at(self, share: float) -> float:
        """The number below which the given share, 0 to 1, of all numbers lies."""
        place = share * (len(self.values) - 1)
        low = min(int(place), len(self.values) - 2)
        below, above = self.values[low : low + 2]
        return below if below == above else below + (place - low) * (above - below)


AGREEING = Quantiles((0.0, 0.41, 0.58, 0.58, 0.73, 0.74, 0.82, 1.0, 1.0, 1.0, 1.0))
"""Of a rejected draft step, the share of tokens that the target begins its own step with; deciles.

Measured on the pocket models: 764 rejected drafts of 1,000 problems, the router at its default threshold
(``python benchmarks/matches.py --limit 1000``). Three tenths of the drafts are what the target writes as well.
"""


_UNSURE = 0.25  # a draft's confidence where it is not accepted, below the threshold of 0.5


class SyntheticWorkload(Record, frozen=True):
    """So many ``problems``; a draft step is accepted with probability ``acceptance``.

    The lengths are tokens. The defaults, ``AGREEING`` apart, are stated, not measured: they are of the size of
    competition problems answered at length (15 steps and 850 tokens in the mean), within the limits of the usual runs
    (100 steps, 1,024 tokens a step).
    """

    problems: int = 256
    acceptance: float = 0.7
    seed: int = 0
    steps: LogNormal = LogNormal(12, 0.7, 100)
    step_tokens: LogNormal = LogNormal(40, 0.8, 1024)
    question_tokens: LogNormal = LogNormal(100, 0.5, 1024)
    agreeing: Quantiles = AGREEING

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

    def agreed(self, problem: str, step: int, sample: int = 0) -> float:
        """The share of the draft's tokens that the target's step begins with; at 1 it has the draft's very text."""
        return self.agreeing.at(self._drawn(problem, step, f"agreement {sample}"))

    def write(self, request: GenerationRequest) -> Generation:
        """The script of a generator, draft or target."""
        problem, step, sample, most = request.problem, request.step, request.sample, request.max_tokens
        author, tokens = f"{request.author} {step}.{sample}", self._tokens(problem, step, request.author, sample)
        agreement = None
        if request.author == "target":
            proposed, share = self._tokens(problem, step, "draft", 0), self.agreed(problem, step, sample)
            agreed = int(share * proposed)
            if share == 1:
                author, tokens = f"draft {step}.0", proposed
            else:  # in the mean as long as without agreement
                tokens = agreed + max(round((1 - share) * tokens), 1)
            agreement = PrefixMatch(min(proposed, most), min(agreed, most)) if request.proposal else None
        ending = "end" if step == self.length(problem) - 1 else "separator"
        if tokens > most:
            tokens, ending = most, "limit"
        sure = None if request.confidence is None else 1.0 if self.accepted(problem, step) else _UNSURE
        usage = Usage(completion_tokens=tokens)
        return Generation(f"{author} {tokens}", ending, usage, prefix_match=agreement, confidence=sure)

    def rate(self, request: ScoreRequest) -> float:
        """The script of a scorer on either scale, by which a threshold of 0.5 accepts exactly the drawn steps.

        The target's steps have a process reward between those of accepted and of rejected drafts, whatever they say.
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
    """Tokens of a text of the world, a question or a step: its last word says so."""
    return int(text.rpartition(" ")[2])
