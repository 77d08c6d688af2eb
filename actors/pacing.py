"""The policies that hold an allowance of the target's work for each problem: their threshold depends on the history.

A budget of the ring (``BudgetControl``) holds a share of escalations over all problems. It lets one problem use what
another one saves. An allowance holds for every problem by itself. TRIM (arXiv 2601.10245) gives its stepwise routers
the same information: the position, the work so far and the scores. ``docs/explanation/pacing.md`` explains the rule.
"""

from typing import ClassVar, Literal

from arbiter.actors.policies import PolicyBase
from arbiter.protocols.policy import Evidence
from arbiter.protocols.records import ConfidenceMetric, ScoreKind, Verdict

AllowanceUnit = Literal["tokens", "escalations"]
"""What an allowance counts: tokens that the target writes, kept or not, or escalated steps."""


class PacedEscalation(PolicyBase, frozen=True):
    """Escalate a draft if its risk is above a threshold that rises as the problem's allowance is used.

    The risk, in [0, 1], is ŷ of the router, or 1 − the score or the confidence. At the step k, from 0, the threshold is
    τ^pace. pace is the share of the allowance that is left, divided by the share of the planned ``steps`` that is left.
    So on plan the threshold is τ. It is higher after more escalations than planned, and lower after fewer. With nothing
    left no draft is escalated. The last planned step counts as left for every step after it.

    - ``threshold`` is τ, in [0, 1].
    - ``allowance``, 1 or more, is what a problem may use, in ``unit``. Tokens can exceed it by one step: its length is
      not known before. A draft that breaks the rules of the answer is replaced in any case.
    - ``steps``, 1 or more, is the planned number of steps.
    """

    threshold: float
    allowance: int
    unit: AllowanceUnit = "tokens"
    steps: int = 10

    escalates_above = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "escalate" if self.score(evidence) > self.threshold_at(evidence) else "keep_draft"

    def score(self, evidence: Evidence) -> float:
        """Return the risk of the draft. Raises ``ValueError`` if the evidence lacks its score or its confidence."""
        score = super().score(evidence)
        return score if self.score_kind == "router" else 1 - score

    def used(self, evidence: Evidence) -> int:
        """Return how much of the allowance the steps before this one used."""
        return evidence.target_tokens if self.unit == "tokens" else evidence.escalations

    def threshold_at(self, evidence: Evidence) -> float:
        """Return the threshold of this step, in [0, 1]."""
        left = max(self.allowance - self.used(evidence), 0) / self.allowance
        steps_left = max(self.steps - len(evidence.history), 1) / self.steps
        return self.threshold ** (left / steps_left)


class PacedConfidence(PacedEscalation, frozen=True, tag="paced_confidence"):
    """An allowance for each problem, spent where the draft is least confident."""

    confidence: ConfidenceMetric = "mean"


class PacedRouter(PacedEscalation, frozen=True, tag="paced_router"):
    """An allowance for each problem, spent where the router expects a better step of the target."""

    score_kind: ClassVar[ScoreKind | None] = "router"


class PacedReward(PacedEscalation, frozen=True, tag="paced_prm"):
    """An allowance for each problem, spent where the process reward of the draft is lowest."""

    score_kind: ClassVar[ScoreKind | None] = "prm"


class PacedJudge(PacedEscalation, frozen=True, tag="paced_judge"):
    """An allowance for each problem, spent where the judge rates the draft lowest."""

    score_kind: ClassVar[ScoreKind | None] = "judge"
