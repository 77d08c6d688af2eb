"""The policy that decides by the first token of a step, before the step is written.

The rule is that of *GlimpRouter: Efficient Collaborative Inference by Glimpsing One Token of Thoughts* (arXiv
2601.05110). ``docs/explanation/glimpses.md`` says how it differs here.
"""

from arbiter.actors.policies import PolicyBase
from arbiter.protocols.policy import Evidence
from arbiter.protocols.records import Author, Verdict


class GlimpsedEscalation(PolicyBase, frozen=True, tag="glimpse", omit_defaults=True):
    """Decide before the step is written: the draft writes it iff the confidence of its first token is ≥ τ.

    The confidence is exp(−H), where H is the entropy of the first token's distribution. The model ``glimpse`` writes
    this token; it is then dropped, and the draft or the target writes the whole step. ``budget`` is as for
    ``RewardThreshold``.
    """

    threshold: float
    glimpse: Author = "draft"
    budget: float | None = None

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if self.score(evidence) >= self.threshold else "escalate"

    def score(self, evidence: Evidence) -> float:
        """Return the confidence of the glimpse. Raises ``ValueError`` if the evidence has none."""
        if evidence.glimpse is None:
            raise ValueError("the policy decides by the first token of a step, but there is none")
        return evidence.glimpse.confidence
