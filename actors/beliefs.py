"""The policy that weighs each escalation against what it is worth: the chance that the whole solution is still right.

It is a partially observable Markov decision process (POMDP), as one of the policies of *TRIM: Hybrid Inference via
Targeted Stepwise Routing in Multi-Step Reasoning Tasks* (arXiv 2601.10245): whether the steps so far are right is
hidden, and a score of each draft depends on it. ``docs/explanation/beliefs.md`` has the equations.
"""

from bisect import bisect_right
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import msgspec

from arbiter.actors.policies import PolicyBase
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.policy import Evidence
from arbiter.protocols.records import Candidate, ConfidenceMetric, ScoreKind, StepRecord, Verdict

_GRID = 100  # beliefs at which values are computed; between two of them they are interpolated
_SUM = 1e-6  # how far the sum of probabilities may be from 1


class StepModel(msgspec.Struct, frozen=True):
    """How often steps are right, and how a score of a draft depends on it.

    - ``draft_right`` and ``target_right`` in [0, 1] are the probabilities that a step of the draft or of the target is
      right, if all steps before it are.
    - ``edges``, rising in (0, 1), divide the scores into bins. A score that equals an edge is in the bin above it.
    - ``right`` and ``wrong`` are the probabilities of each bin for a draft that is right after right steps, and for any
      other draft. Each adds up to 1.
    - ``target_by_bin`` are the probabilities that a step of the target is right, if all steps before it are, and the
      draft has a score in this bin. Empty: ``target_right`` in each bin.
    """

    draft_right: float
    target_right: float
    edges: tuple[float, ...]
    right: tuple[float, ...]
    wrong: tuple[float, ...]
    target_by_bin: tuple[float, ...] = ()

    def check(self) -> None:
        """Raise ``ConfigError`` if a number is out of range, or if the bins do not fit."""
        for name in ("draft_right", "target_right"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], but it is {getattr(self, name)}")
        if not all(0 < low < high < 1 for low, high in pairwise((1e-9, *self.edges, 1 - 1e-9))):
            raise ConfigError(f"edges must rise within (0, 1), but they are {self.edges}")
        for name in ("right", "wrong"):
            chances: tuple[float, ...] = getattr(self, name)
            if len(chances) != len(self.edges) + 1 or min(chances) < 0 or abs(sum(chances) - 1) > _SUM:
                raise ConfigError(
                    f"{name} must have a probability for each of the {len(self.edges) + 1} bins, and add up to 1, but "
                    f"it is {chances}"
                )
        chances = self.target_by_bin
        if len(chances) not in (0, len(self.edges) + 1) or not all(0 <= one <= 1 for one in chances):
            raise ConfigError(
                f"target_by_bin must be empty, or have a probability for each of the {len(self.edges) + 1} bins, but "
                f"it is {chances}"
            )

    def bin_of(self, score: float) -> int:
        """Return the number of the bin of a score, from 0."""
        return bisect_right(self.edges, score)

    def after_draft(self, belief: float, index: int) -> tuple[float, float]:
        """Return the beliefs that all steps are right if a draft with a score in this bin is kept, or replaced.

        ``belief`` is the probability that all steps before it are right.
        """
        ok = belief * self.draft_right * self.right[index]
        before = ok + belief * (1 - self.draft_right) * self.wrong[index]
        seen = before + (1 - belief) * self.wrong[index]
        target = self.target_by_bin[index] if self.target_by_bin else self.target_right
        if seen <= 0:
            return 0.0, belief * target
        return ok / seen, before / seen * target

    def seen(self, belief: float, index: int) -> float:
        """Return the probability that the draft has a score in this bin."""
        ok = belief * self.draft_right
        return ok * self.right[index] + (1 - ok) * self.wrong[index]


class BeliefEscalation(PolicyBase, frozen=True):
    """Escalate a draft if that raises the expected value of the solution by more than its price.

    The *belief* is the probability that all steps so far are right, after their scores and authors. The value of a
    belief is the largest expected probability of a right solution, less the prices of all escalations up to its end.

    - ``threshold`` in [0, 1] is the price of an escalation, as a probability of a right solution.
    - ``model`` says how often steps are right, and what scores tell.
    - ``steps``, 1 or more, is the planned number of steps. Every step after them counts as the last one.
    """

    threshold: float
    model: StepModel
    steps: int = 10

    escalates_above = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "escalate" if self.score(evidence) > self.threshold else "keep_draft"

    def score(self, evidence: Evidence) -> float:
        """Return the gain in expected value of an escalation, without its price, in [0, 1].

        Raises ``ValueError`` if the evidence lacks the score or the confidence of the draft.
        """
        observed = self.model.bin_of(super().score(evidence))
        left = max(self.steps - len(evidence.history) - 1, 0)
        kept, replaced = self.model.after_draft(self.belief(evidence.history), observed)
        values = _values(self.model, self.threshold, left)
        return max(0.0, _at(values, replaced) - _at(values, kept))

    def belief(self, history: tuple[StepRecord, ...]) -> float:
        """Return the probability that all steps of ``history`` are right. Given steps are taken to be right."""
        belief = 1.0
        for record in history:
            score = None if record.draft is None else self._observed(record.draft)
            if score is None:
                belief *= self.model.target_right if record.kept.author == "target" else self.model.draft_right
            else:
                kept, replaced = self.model.after_draft(belief, self.model.bin_of(score))
                belief = kept if record.kept.author == "draft" else replaced
        return belief

    def _observed(self, draft: Candidate) -> float | None:
        return draft.confidence if self.score_kind is None else draft.score


class BeliefConfidence(BeliefEscalation, frozen=True, tag="pomdp_confidence"):
    """A belief from the draft's confidence in its steps."""

    confidence: ConfidenceMetric = "mean"


class BeliefReward(BeliefEscalation, frozen=True, tag="pomdp_prm"):
    """A belief from the process rewards of the drafts."""

    score_kind: ClassVar[ScoreKind | None] = "prm"


@lru_cache(maxsize=4096)
def _values(model: StepModel, price: float, left: int) -> tuple[float, ...]:
    """Return the value of each belief of the grid if ``left`` steps are left."""
    beliefs = [index / _GRID for index in range(_GRID + 1)]
    if left == 0:
        return tuple(beliefs)
    later = _values(model, price, left - 1)
    return tuple(_value(model, price, later, belief) for belief in beliefs)


def _value(model: StepModel, price: float, later: tuple[float, ...], belief: float) -> float:
    value = 0.0
    for index in range(len(model.right)):
        kept, replaced = model.after_draft(belief, index)
        value += model.seen(belief, index) * max(_at(later, kept), _at(later, replaced) - price)
    return value


def _at(values: tuple[float, ...], belief: float) -> float:
    """Return the value of a belief, between those of the grid."""
    place = min(max(belief, 0.0), 1.0) * _GRID
    low = min(int(place), _GRID - 1)
    return values[low] + (place - low) * (values[low + 1] - values[low])
