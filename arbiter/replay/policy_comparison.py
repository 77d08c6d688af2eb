"""What other policies would have decided in a run that recorded both candidates of each step."""

from collections.abc import Iterable, Iterator

import msgspec

from arbiter.actors.policies import DraftOnly, Oracle, RandomEscalation, RewardThreshold, TargetOnly, advantage
from arbiter.log.history import ProblemHistory
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.records import Record, StepRecord

LIMITS = (
    "Each decision is made in the recorded context. After a different decision, a policy would continue in a context "
    "that the recording does not have. So the table compares decisions, not accuracies."
)
_REWARDS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_CHANCES = (0.25, 0.5, 0.75)


class Decisions(Record, frozen=True):
    """What a policy would have decided at the recorded steps. A share of nothing is None.

    - ``escalated``: the number of steps that the target would have written.
    - ``agreement``: the share of steps at which the policy decides like the oracle (escalate iff Δ > 0).
    - ``saved``: the share of steps that it keeps from the draft; the target alone would write all of them.
    - ``wasted``: the share of its escalations whose target step was not better (Δ ≤ 0).
    - ``gain``: the share of the sum of all positive advantages that its escalations gain.
    """

    policy: str
    threshold: float | None
    escalated: int
    agreement: float | None
    saved: float | None
    wasted: float | None
    gain: float | None


def compare_decisions(problems: Iterable[ProblemHistory], threshold: float | None = None) -> list[Decisions]:
    """Return one row per policy, with ``rsd`` at several thresholds and at ``threshold``.

    Return no rows if no step has the scores of both candidates.
    """
    evidence = [each for problem in problems for each in _evidence(problem)]
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
    history: list[StepRecord] = []
    for step, record in enumerate(problem.steps()):
        draft, targets = record.draft, record.targets
        if draft is not None and draft.score is not None and targets and targets[0].score is not None:
            name, task = problem.task.seed_key or problem.key[0], problem.task
            used = sum(one.kept.usage.completion_tokens for one in history)
            yield Evidence(name, step, task.seed, draft, targets, tuple(history), task.limits.max_tokens - used)
        history.append(msgspec.structs.replace(record, audit=None))


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
