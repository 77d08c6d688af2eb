"""The routing policies: pure functions of the scores, with the rules and tie-breaks of the paper.

Each policy is a frozen struct with its threshold, so it can be compared, stored and replayed.
Equations refer to *Arbitrage: Efficient Reasoning via Advantage-Aware Speculation* (arXiv 2512.05033).
"""

from collections.abc import Sequence
from typing import ClassVar, Self

import msgspec

from arbiter.actors.controllers import BudgetControl
from arbiter.actors.seeds import unit_draw
from arbiter.actors.step_offsets import threshold_at
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Author, Candidate, ConfidenceMetric, Model, ScoreKind, Target, Verdict

_MEMBERS = (*Policy.__annotations__, *(name for name in vars(Policy) if not name.startswith("_")))


class PolicyBase(msgspec.Struct, frozen=True):
    """Base of policies: a frozen struct with defaults for the members of ``Policy``.

    A subclass implements ``decide``, and overrides other members with a field or with a plain class attribute::

        class Unsure(PolicyBase, frozen=True):
            threshold: float
            budget: float | None = None
            confidence: ConfidenceMetric = "mean"

            def decide(self, evidence: Evidence) -> Verdict:
                return "keep_draft" if self.score(evidence) >= self.threshold else "escalate"

    Defaults: only the draft model writes; nothing scores the draft, no confidence is measured, and there is no budget.
    ``score`` returns the draft's score if ``score_kind`` is set, else the draft's confidence; both are in [0, 1].
    ``target`` returns the first name in ``targets``.

    The log records the fields of a policy, not its class attributes. A budget moves the field ``threshold``. Tasks
    whose policies are equal share one moved threshold.
    """

    proposers: ClassVar[tuple[Author, ...]] = ("draft",)
    score_kind: ClassVar[ScoreKind | None] = None
    decides: ClassVar[bool] = True
    # Not annotated: an annotation would make each a field of every policy, or forbid a field of that name below.
    targets = ()
    confidence = None
    glimpse = None
    budget = None
    threshold = None
    escalates_above = False

    def proposes(self, step: int) -> tuple[Author, ...]:
        return self.proposers

    def score(self, evidence: Evidence) -> float:
        return _confidence(evidence.draft) if self.score_kind is None else _score(evidence.draft)

    def target(self, evidence: Evidence) -> str:
        return next(iter(target_names(self.targets)), "")

    def with_threshold(self, threshold: float) -> Self:
        return msgspec.structs.replace(self, threshold=threshold)


class DraftOnly(PolicyBase, frozen=True, tag="draft"):
    """Baseline: the draft model writes every step."""

    decides: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft"


class TargetOnly(PolicyBase, frozen=True, tag="target"):
    """Baseline: the target model writes every step."""

    proposers: ClassVar[tuple[Author, ...]] = ("target",)
    decides: ClassVar[bool] = False

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target"


class RandomEscalation(PolicyBase, frozen=True, tag="random"):
    """Escalate each step with ``probability``, in [0, 1]: the baseline of all routers."""

    probability: float

    def decide(self, evidence: Evidence) -> Verdict:
        drawn = unit_draw(evidence.seed, evidence.problem, evidence.step, "random")
        return "escalate" if drawn < self.probability else "keep_draft"


class RewardThreshold(PolicyBase, frozen=True, tag="rsd", omit_defaults=True):
    """RSD, reward-guided speculative decoding: keep the draft iff h(x, z_d) ≥ τ (``threshold``).

    With a ``budget``, τ is the initial threshold. ``offsets`` are added to τ at the steps from the first one on; the
    last of them at every further step.
    """

    threshold: float
    budget: float | None = None
    offsets: tuple[float, ...] = ()

    score_kind: ClassVar[ScoreKind | None] = "prm"

    def decide(self, evidence: Evidence) -> Verdict:
        tau = threshold_at(self.threshold, self.offsets, evidence.step)
        return "keep_draft" if _score(evidence.draft) >= tau else "escalate"


class LearnedRouter(PolicyBase, frozen=True, tag="router", omit_defaults=True):
    """Arbitrage: keep the draft iff ŷ ≤ τ, where ŷ = P(Δ > 0 given x, z_d).

    If there are several ``targets``, each has its own ŷ, and the draft is kept iff all are ≤ τ. Otherwise the step goes
    to the target with the largest ŷ / cost among those above τ; of equal ones, to the first. ``budget`` and ``offsets``
    are as for ``RewardThreshold``.
    """

    threshold: float
    targets: tuple[Target, ...] = ()
    budget: float | None = None
    offsets: tuple[float, ...] = ()

    score_kind: ClassVar[ScoreKind | None] = "router"
    escalates_above = True

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if _score(evidence.draft) <= self._at(evidence) else "escalate"

    def target(self, evidence: Evidence) -> str:
        """Return the name of the target for an escalated step; empty if there is one target, without a name.

        Raises ``ValueError`` if the router did not return one estimate per target.
        """
        if len(self.targets) <= 1:
            return self.targets[0].name if self.targets else ""
        rating = evidence.draft and evidence.draft.rating
        estimates = rating.estimates if rating else ()
        if len(estimates) != len(self.targets):
            raise ValueError(f"the router returned {len(estimates)} estimates for {len(self.targets)} targets")
        above = [
            (target, estimate)
            for target, estimate in zip(self.targets, estimates, strict=True)
            if estimate > self._at(evidence)
        ]
        return max(above, key=lambda one: one[1] / one[0].cost)[0].name

    def _at(self, evidence: Evidence) -> float:
        return threshold_at(self.threshold, self.offsets, evidence.step)


class ConfidenceThreshold(PolicyBase, frozen=True, tag="confidence"):
    """Keep the draft iff the draft model's own ``confidence`` in it is ≥ τ. This needs no further model.

    ``budget`` and ``offsets`` are as for ``RewardThreshold``.
    """

    threshold: float
    confidence: ConfidenceMetric = "mean"
    budget: float | None = None
    offsets: tuple[float, ...] = ()

    def decide(self, evidence: Evidence) -> Verdict:
        tau = threshold_at(self.threshold, self.offsets, evidence.step)
        return "keep_draft" if _confidence(evidence.draft) >= tau else "escalate"


class JudgeThreshold(PolicyBase, frozen=True, tag="judge", omit_defaults=True):
    """Keep the draft iff a language model's rating of it is ≥ τ.

    ``budget`` and ``offsets`` are as for ``RewardThreshold``.
    """

    threshold: float
    budget: float | None = None
    offsets: tuple[float, ...] = ()

    score_kind: ClassVar[ScoreKind | None] = "judge"

    def decide(self, evidence: Evidence) -> Verdict:
        tau = threshold_at(self.threshold, self.offsets, evidence.step)
        return "keep_draft" if _score(evidence.draft) >= tau else "escalate"


class Oracle(PolicyBase, frozen=True, tag="oracle"):
    """Keep the target's step iff Δ = h(x, z_t) − h(x, z_d) > τ. Of several target samples, the first counts."""

    threshold: float

    proposers: ClassVar[tuple[Author, ...]] = ("draft", "target")
    score_kind: ClassVar[ScoreKind | None] = "prm"

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target" if advantage(evidence) > self.threshold else "keep_draft"


class GenerateRows(PolicyBase, frozen=True, tag="generate", omit_defaults=True):
    """Keep the candidate with the higher score; on a tie, the draft. This run writes the router's training rows.

    If ``confidence`` is set, the rows also have the draft's confidence. If ``targets`` names several targets, each
    writes its samples, and the best of their first samples competes with the draft.
    """

    confidence: ConfidenceMetric | None = None
    targets: tuple[str, ...] = ()

    proposers: ClassVar[tuple[Author, ...]] = ("draft", "target")
    score_kind: ClassVar[ScoreKind | None] = "prm"

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_target" if advantage(evidence) > 0 else "keep_draft"


def advantage(evidence: Evidence) -> float:
    """Return Δ = h(x, z_t) − h(x, z_d), in [-1, 1], for the first sample of the target, or of the best target."""
    return _score(best_target(evidence.targets)) - _score(evidence.draft)


def best_target(candidates: Sequence[Candidate]) -> Candidate:
    """Return the first sample with the highest score; of equal ones, the first. ``candidates`` must not be empty."""
    firsts = [candidate for candidate in candidates if candidate.sample == 0]
    return max(firsts, key=lambda one: -1.0 if one.score is None else one.score)


def check_policy(policy: Policy) -> None:
    """Raises ``ConfigError`` if ``policy`` lacks a member, or if its budget cannot be kept."""
    name = type(policy).__name__
    for member in _MEMBERS:
        if not hasattr(policy, member):
            raise ConfigError(
                f"the policy {name} has no {member!r}: derive it from PolicyBase (arbiter.extending), which has a "
                "default for every member but decide"
            )
    if policy.glimpse is not None and (policy.proposers != ("draft",) or policy.score_kind or not policy.decides):
        raise ConfigError(
            f"the policy {name} decides by a glimpse, before anything is written: leave proposers, score_kind and "
            "decides as they are in PolicyBase, or glimpse = None"
        )
    if policy.budget is not None:
        _check_budget(policy, name)


def _check_budget(policy: Policy, name: str) -> None:
    if not policy.decides:
        raise ConfigError(f"the policy {name} has a budget but never decides: set decides, or leave the budget out")
    threshold = budget_control(policy, None).threshold
    try:
        hash(policy.with_threshold(threshold))
    except (TypeError, AttributeError) as error:
        raise ConfigError(
            f"the policy {name} has a budget, but its threshold cannot be moved ({error}): derive it from PolicyBase "
            "(arbiter.extending) with a field threshold, or implement with_threshold"
        ) from error


def target_names(targets: Sequence[Target | str]) -> tuple[str, ...]:
    """Return the names of a policy's targets; empty if there is one target, without a name."""
    return tuple(target if isinstance(target, str) else target.name for target in targets)


def budget_control(policy: Policy, threshold: float | None) -> BudgetControl:
    """Return a controller for the policy's budget.

    It starts at ``threshold``, the last one of an earlier session, or else at the policy's threshold. Raises
    ``ConfigError`` if the policy has no budget or no threshold.
    """
    budget, initial = policy.budget, policy.threshold
    if budget is None or initial is None:
        raise ConfigError(f"the policy {type(policy).__name__} has no budget, or no threshold that a budget could move")
    return BudgetControl(budget, initial if threshold is None else threshold, policy.escalates_above)


def called_models(policy: Policy, audit: float) -> tuple[Model, ...]:
    """Return the models that a run of ``policy`` may call. If ``audit`` is above 0, this includes the PRM."""
    called: list[Model] = [*policy.proposers]
    if policy.decides and "target" not in called:
        called.append("target")
    if policy.score_kind is not None:
        called.append(policy.score_kind)
    if audit > 0 and "prm" not in called:
        called.append("prm")
    return tuple(called)


def _confidence(draft: Candidate | None) -> float:
    if draft is None or draft.confidence is None:
        raise ValueError("the policy needs the draft's confidence, but the backend returned none")
    return draft.confidence


def _score(candidate: Candidate | None) -> float:
    if candidate is None or candidate.score is None:
        raise ValueError("the policy needs a scored candidate, but there is none: set score_kind in the policy")
    return candidate.score
