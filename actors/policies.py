"""The routing policies: pure functions of the scores, by the rules and tie-breaks of the paper.

Each is a frozen struct with its threshold, so that a policy can be compared, stored and replayed.
Equations refer to *Arbitrage: Efficient Reasoning via Advantage-Aware Speculation* (arXiv 2512.05033).
"""

from typing import ClassVar

import msgspec

from actors.seeds import unit_draw
from protocols.ports import Evidence, Policy
from protocols.records import Candidate, Model, Role, Scale, Verdict


class DraftOnly(msgspec.Struct, frozen=True, tag="draft"):
    """Baseline: the draft model alone."""

    proposers: ClassVar[tuple[Role, ...]] = ("draft",)
    scale: ClassVar[Scale | None] = None
    decides: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


class TargetOnly(msgspec.Struct, frozen=True, tag="target"):
    """Baseline: the target model alone."""

    proposers: ClassVar[tuple[Role, ...]] = ("target",)
    scale: ClassVar[Scale | None] = None
    decides: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target"


class RandomEscalation(msgspec.Struct, frozen=True, tag="random"):
    """Escalate a step with ``probability``, whatever it says: the baseline that every router must beat."""

    probability: float

    proposers: ClassVar[tuple[Role, ...]] = ("draft",)
    scale: ClassVar[Scale | None] = None
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        drawn = unit_draw(evidence.seed, evidence.problem, evidence.step, "random")
        return "escalate" if drawn < self.probability else "keep_draft"


class RewardThreshold(msgspec.Struct, frozen=True, tag="rsd"):
    """RSD: keep the draft iff h(x, z_d) ≥ τ."""

    threshold: float

    proposers: ClassVar[tuple[Role, ...]] = ("draft",)
    scale: ClassVar[Scale | None] = "prm"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if _score(evidence.draft) >= self.threshold else "escalate"


class LearnedRouter(msgspec.Struct, frozen=True, tag="router"):
    """Arbitrage: keep the draft iff ŷ ≤ τ, where ŷ = P(Δ > 0 given x, z_d)."""

    threshold: float

    proposers: ClassVar[tuple[Role, ...]] = ("draft",)
    scale: ClassVar[Scale | None] = "router"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if _score(evidence.draft) <= self.threshold else "escalate"


class Oracle(msgspec.Struct, frozen=True, tag="oracle"):
    """Keep the target iff Δ = h(x, z_t) − h(x, z_d) > τ; the target's first sample is its candidate."""

    threshold: float

    proposers: ClassVar[tuple[Role, ...]] = ("draft", "target")
    scale: ClassVar[Scale | None] = "prm"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target" if advantage(evidence) > self.threshold else "keep_draft"


class GenerateRows(msgspec.Struct, frozen=True, tag="generate"):
    """Keep the higher score, the draft on a tie: the run that writes the router's training rows."""

    proposers: ClassVar[tuple[Role, ...]] = ("draft", "target")
    scale: ClassVar[Scale | None] = "prm"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target" if advantage(evidence) > 0 else "keep_draft"


def advantage(evidence: Evidence) -> float:
    """Δ = h(x, z_t) − h(x, z_d) of the target's first sample, in [-1, 1]."""
    return _score(evidence.targets[0]) - _score(evidence.draft)


def called_models(policy: Policy, audit: float) -> tuple[Model, ...]:
    """The models that a run of ``policy`` may call; the PRM as well where a share ``audit`` above 0 is audited."""
    called: list[Model] = [*policy.proposers]
    if policy.decides and "target" not in called:
        called.append("target")
    if policy.scale is not None:
        called.append(policy.scale)
    if audit > 0 and "prm" not in called:
        called.append("prm")
    return tuple(called)


def _score(candidate: Candidate | None) -> float:
    if candidate is None or candidate.score is None:
        raise ValueError("the policy needs a scored candidate, and there is none: is its scale set?")
    return candidate.score
