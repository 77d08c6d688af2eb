"""The routing policies: pure functions of the scores, by the rules and tie-breaks of the paper.

Each is a frozen struct with its threshold, so that a policy can be compared, stored and replayed.
Equations refer to *Arbitrage: Efficient Reasoning via Advantage-Aware Speculation* (arXiv 2512.05033).
"""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from actors.controllers import BudgetControl
from actors.seeds import unit_draw
from protocols.ports import Evidence, Policy
from protocols.records import Candidate, Measure, Model, Role, Scale, Target, Verdict


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


class RewardThreshold(msgspec.Struct, frozen=True, tag="rsd", omit_defaults=True):
    """RSD: keep the draft iff h(x, z_d) ≥ τ. With a ``budget`` τ is only where it begins (``BudgetControl``)."""

    threshold: float
    budget: float | None = None

    proposers: ClassVar[tuple[Role, ...]] = ("draft",)
    scale: ClassVar[Scale | None] = "prm"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if _score(evidence.draft) >= self.threshold else "escalate"


class LearnedRouter(msgspec.Struct, frozen=True, tag="router", omit_defaults=True):
    """Arbitrage: keep the draft iff ŷ ≤ τ, where ŷ = P(Δ > 0 given x, z_d).

    Of several ``targets`` each has a ŷ of its own: the draft is kept iff all are ≤ τ. Else the step goes to the one
    with the largest ŷ / cost among those above τ, the first of equals. ``budget`` as for ``RewardThreshold``.
    """

    threshold: float
    targets: tuple[Target, ...] = ()
    budget: float | None = None

    proposers: ClassVar[tuple[Role, ...]] = ("draft",)
    scale: ClassVar[Scale | None] = "router"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if _score(evidence.draft) <= self.threshold else "escalate"

    def target(self, evidence: Evidence) -> str:
        """The name of the target that an escalated step goes to; empty where there is only one without a name."""
        if len(self.targets) <= 1:
            return self.targets[0].name if self.targets else ""
        rating = evidence.draft and evidence.draft.rating
        estimates = rating.estimates if rating else ()
        if len(estimates) != len(self.targets):
            raise ValueError(f"the router made {len(estimates)} estimates for {len(self.targets)} targets")
        above = [
            (target, estimate)
            for target, estimate in zip(self.targets, estimates, strict=True)
            if estimate > self.threshold
        ]
        return max(above, key=lambda one: one[1] / one[0].cost)[0].name


class ConfidenceThreshold(msgspec.Struct, frozen=True, tag="confidence"):
    """Keep the draft iff the draft model's own ``confidence`` in it reaches τ: no model is trained or asked for it.

    ``budget`` as for ``RewardThreshold``.
    """

    threshold: float
    confidence: Measure = "mean"
    budget: float | None = None

    proposers: ClassVar[tuple[Role, ...]] = ("draft",)
    scale: ClassVar[Scale | None] = None
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if _confidence(evidence.draft) >= self.threshold else "escalate"


class JudgeThreshold(msgspec.Struct, frozen=True, tag="judge", omit_defaults=True):
    """Keep the draft iff a language model's rating of it reaches τ. ``budget`` as for ``RewardThreshold``."""

    threshold: float
    budget: float | None = None

    proposers: ClassVar[tuple[Role, ...]] = ("draft",)
    scale: ClassVar[Scale | None] = "judge"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if _score(evidence.draft) >= self.threshold else "escalate"


class Oracle(msgspec.Struct, frozen=True, tag="oracle"):
    """Keep the target iff Δ = h(x, z_t) − h(x, z_d) > τ; the target's first sample is its candidate."""

    threshold: float

    proposers: ClassVar[tuple[Role, ...]] = ("draft", "target")
    scale: ClassVar[Scale | None] = "prm"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target" if advantage(evidence) > self.threshold else "keep_draft"


class GenerateRows(msgspec.Struct, frozen=True, tag="generate", omit_defaults=True):
    """Keep the higher score, the draft on a tie: the run that writes the router's training rows.

    With a measure of ``confidence`` the rows have the draft's as well. Of several ``targets``, by their names, each
    writes its samples; the best first sample is their candidate.
    """

    confidence: Measure | None = None
    targets: tuple[str, ...] = ()

    proposers: ClassVar[tuple[Role, ...]] = ("draft", "target")
    scale: ClassVar[Scale | None] = "prm"
    decides: ClassVar[bool] = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target" if advantage(evidence) > 0 else "keep_draft"


def advantage(evidence: Evidence) -> float:
    """Δ = h(x, z_t) − h(x, z_d) of the target's first sample, or of the best target's, in [-1, 1]."""
    return _score(best_target(evidence.targets)) - _score(evidence.draft)


def best_target(candidates: Sequence[Candidate]) -> Candidate:
    """Of the targets' candidates, one or more, the best first sample by its score; the first of equals."""
    firsts = [candidate for candidate in candidates if candidate.sample == 0]
    return max(firsts, key=lambda one: -1.0 if one.score is None else one.score)


def targets_of(policy: Policy) -> tuple[str, ...]:
    """The names of the targets that ``policy`` may ask; none where it knows a single one, without a name."""
    if isinstance(policy, GenerateRows):
        return policy.targets
    return tuple(target.name for target in policy.targets) if isinstance(policy, LearnedRouter) else ()


Budgeted = RewardThreshold | LearnedRouter | ConfidenceThreshold | JudgeThreshold
"""The policies with a threshold on a score of the draft in [0, 1], which can be moved to hold a budget."""


def budget_control(policy: Budgeted, threshold: float | None) -> BudgetControl | None:
    """Who holds the policy's budget, from the ``threshold`` on that it had come to; None if it has none."""
    if policy.budget is None:
        return None
    begins = policy.threshold if threshold is None else threshold
    return BudgetControl(policy.budget, begins, above=isinstance(policy, LearnedRouter))


def score_of(policy: Budgeted, draft: Candidate | None) -> float:
    """What the policy's threshold is held against. Raises ``ValueError`` if it is not there."""
    return _confidence(draft) if isinstance(policy, ConfidenceThreshold) else _score(draft)


def measure_of(policy: Policy) -> Measure | None:
    """How the draft's confidence is measured for ``policy``; None if it does not want to know it."""
    return policy.confidence if isinstance(policy, ConfidenceThreshold | GenerateRows) else None


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


def _confidence(draft: Candidate | None) -> float:
    if draft is None or draft.confidence is None:
        raise ValueError("the policy needs the draft's confidence, and its backend told none")
    return draft.confidence


def _score(candidate: Candidate | None) -> float:
    if candidate is None or candidate.score is None:
        raise ValueError("the policy needs a scored candidate, and there is none: is its scale set?")
    return candidate.score
