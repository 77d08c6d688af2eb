"""From a recording that has both candidates of each step: what other policies would have decided there."""

from collections.abc import Iterable, Iterator

from arbiter.actors.policies import DraftOnly, Oracle, RandomEscalation, RewardThreshold, TargetOnly, advantage
from arbiter.log.history import ProblemHistory
from arbiter.protocols.ports import Evidence, Policy
from arbiter.protocols.records import Record

LIMITS = (
    "Each decision is made in the recorded context. A policy that decides otherwise would have gone on from another "
    "context, which the recording does not hold: these are decisions, and no accuracies."
)
_REWARDS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_CHANCES = (0.25, 0.5, 0.75)


class Decisions(Record, frozen=True):
    """What a policy would have decided at the recorded steps; shares are None where there is nothing to share.

    ``escalated``: steps that the target would have written. ``agreement``: the share of steps at which it decides as
    the oracle does (escalate iff Δ > 0). ``saved``: the share of steps that it leaves to the draft, where the target
    alone would write all. ``wasted``: the share of its escalations at which the target's step was not better (Δ ≤ 0).
    ``gain``: how much of the sum of all positive advantages its escalations gain.
    """

    policy: str
    threshold: float | None
    escalated: int
    agreement: float | None
    saved: float | None
    wasted: float | None
    gain: float | None


def compare_decisions(problems: Iterable[ProblemHistory], threshold: float | None = None) -> list[Decisions]:
    """A row a policy, with ``rsd`` at several thresholds and at ``threshold``; none if no step has both scores."""
    evidence = [one for problem in problems for one in _evidence(problem)]
    if not evidence:
        return []
    rewards = sorted({*_REWARDS, *(() if threshold is None else (threshold,))})
    return [
        _row("draft", None, DraftOnly(), evidence),
        *(_row("random", chance, RandomEscalation(chance), evidence) for chance in _CHANCES),
        *(_row("rsd", reward, RewardThreshold(reward), evidence) for reward in rewards),
        _row("oracle", 0.0, Oracle(0.0), evidence),
        _row("target", None, TargetOnly(), evidence),
    ]


def _evidence(problem: ProblemHistory) -> Iterator[Evidence]:
    for step, record in enumerate(problem.steps()):
        draft, targets = record.draft, record.targets
        if draft is not None and draft.score is not None and targets and targets[0].score is not None:
            yield Evidence(problem.task.seed_key or problem.key[0], step, problem.task.seed, draft, targets)


def _row(name: str, threshold: float | None, policy: Policy, evidence: list[Evidence]) -> Decisions:
    gains = [advantage(one) for one in evidence]
    taken = [gain for gain, one in zip(gains, evidence, strict=True) if policy.decide(one) != "keep_draft"]
    wasted = sum(gain <= 0 for gain in taken)
    missed = sum(gain > 0 for gain in gains) - (len(taken) - wasted)
    whole = sum(gain for gain in gains if gain > 0)
    return Decisions(
        policy=name,
        threshold=threshold,
        escalated=len(taken),
        agreement=1 - (wasted + missed) / len(gains),
        saved=1 - len(taken) / len(gains),
        wasted=wasted / len(taken) if taken else None,
        gain=sum(gain for gain in taken if gain > 0) / whole if whole else None,
    )
